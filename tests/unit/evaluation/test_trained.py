"""Trained baselines: a copy learns, the frozen base does not change, and both are asked as everybody else."""

import builtins

import pytest
import torch

from softprompt.base_model import parameter_digest
from softprompt.engine.batches import Collator
from softprompt.errors import InvalidRequest
from softprompt.evaluation.systems.trained import Copy, add_lora, trained_system
from softprompt.resolve import resolve_recipe
from tests.unit.evaluation.test_systems import Scene


@pytest.fixture
def scene(tmp_path, llama_directory):
    def make(method, steps=30, generation=False):
        here = Scene(tmp_path / "scene", llama_directory, evaluation=f", train: [{method}]", generation=generation)
        text = here.resolved.to_bytes().decode()
        content = here.resolved.recipe.model_dump_json().replace('"steps":6', f'"steps":{steps}')
        assert text != content
        here.resolved = resolve_recipe(content + "\n")
        return here

    return make


@pytest.mark.parametrize("method", ["lora", "full_fine_tuning"])
def test_a_copy_learns_and_the_frozen_base_stays(scene, method):
    here = scene(method, steps=60)
    before = parameter_digest(here.base.model)
    seen = here.observe()
    assert parameter_digest(here.base.model) == before
    assert not any(parameter.requires_grad for parameter in here.base.model.parameters())
    right = {
        system: sum(a == b for a, b in zip(seen.systems[system].outputs, seen.targets, strict=True)) for system in seen.systems
    }
    assert right[method] > right["bare_base"] + 3, right
    assert "numbers trained for 60 steps" in seen.notes[method]
    assert seen.systems[method].probabilities.shape == (len(here.rows), 3)


def test_lora_trains_adapters_only_and_few_numbers(scene):
    here = scene("lora")
    copy = Copy("lora", here.resolved, here.dataset)
    names = [name for name, parameter in copy.base.model.named_parameters() if parameter.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 7 * 2, "two matrices for each of seven linear layers of two blocks"


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("method", ["lora", "full_fine_tuning"])
def test_a_copy_is_trained_in_float32_whatever_the_base_is_loaded_in(scene, method, dtype):
    here = scene(method)
    content = here.resolved.model_dump_json().replace('"dtype":"float32"', f'"dtype":"{dtype}"')
    resolved = type(here.resolved).from_bytes(content.encode(), source="test")
    assert resolved.recipe.base_model.dtype == dtype
    copy = Copy(method, resolved, here.dataset)
    assert {parameter.dtype for parameter in copy.base.model.parameters()} == {torch.float32}
    assert {type(parameter) for parameter in copy.base.model.parameters()} == {torch.nn.Parameter}


@torch.no_grad()
def test_the_loss_is_the_models_own(scene):
    """Stock transformers, row by row."""
    here = scene("full_fine_tuning", generation=True)
    copy = Copy("full_fine_tuning", here.resolved, here.dataset)
    assert isinstance(copy.job.collator, Collator)
    examples = [copy.job.train[row] for row in range(3)]
    loss, correct = copy._loss(examples)
    assert correct == 0
    expected = 0.0
    for example in examples:
        ids = torch.tensor([[*example.input_ids, *example.answer_ids]])
        labels = torch.tensor([[*[-100] * len(example.input_ids), *example.answer_ids]])
        expected += float(copy.base.model(input_ids=ids, labels=labels).loss) * len(example.answer_ids)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_generation_is_trained_too(scene):
    here = scene("lora", steps=6, generation=True)
    system, note = trained_system("lora", here.resolved, here.dataset)
    assert system.task.trie is None
    assert "6 steps" in note


def test_without_peft_the_error_names_what_to_install(scene, monkeypatch):
    real = builtins.__import__

    def without_peft(name, *rest, **more):
        if name == "peft":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(InvalidRequest, match="needs the package peft") as caught:
        add_lora(None)
    assert "softprompt[baselines]" in str(caught.value)
