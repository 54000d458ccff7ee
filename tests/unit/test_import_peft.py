"""`softprompt import`: what stock PEFT saved becomes a prompt file that says the same, with what PEFT does not record."""

import copy
import json

import pytest
import torch
from peft import (
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.cli import app
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRecipe, InvalidRequest, UnsupportedBaseModel, VerificationFailed
from softprompt.export import ExportedBase, export_prompt
from softprompt.import_peft import import_prompt
from softprompt.serving.bank import warm_up

RECIPE = """\
schema_version: 1
name: colours
channel: laptop
base_model: {{uri: "{base}"}}
dataset: {{uri: nowhere.jsonl, target_column: colour}}
task:
  type: {task}
  template: "Thing: {{text}}\\nColour:"
  {labels}
prompt: {{kind: shallow, num_tokens: 4}}
gates: [{{metric: {metric}, at_least: 0.5}}]
"""
KINDS = {
    "prompt tuning": (PromptTuningConfig, {}),
    "P-tuning": (PromptEncoderConfig, {"encoder_hidden_size": 16}),
    "multitask prompt tuning": (MultitaskPromptTuningConfig, {"num_tasks": 3, "num_ranks": 2}),
    "prefix tuning": (PrefixTuningConfig, {}),
    "prefix tuning with a projection": (PrefixTuningConfig, {"prefix_projection": True, "encoder_hidden_size": 16}),
}
ROWS = ["ruby", "the sea at night", "grass"]


def recipe(folder, base, *, task="classification", labels="labels: [red, blue, green]"):
    path = folder / "recipe.yaml"
    metric = "accuracy" if task == "classification" else "exact_match"
    path.write_text(RECIPE.format(base=base, task=task, labels=labels, metric=metric))
    return str(path)


def saved_by_peft(directory, base, kind, num_tokens=4):
    """A checkpoint of random numbers that stock PEFT wrote."""
    config, options = KINDS[kind]
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), config(task_type="CAUSAL_LM", num_virtual_tokens=num_tokens, **options)
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in model.prompt_encoder.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(str(directory))
    return directory


@torch.no_grad()
def peft_probabilities(directory, base, texts, task):
    """Stock PEFT's probability of each label as the first token that tells them apart: ` r`, ` b`, ` g`."""
    frozen = load_base_model(base)
    encoded = EncodedTask.create(frozen.text, "Thing: {text}\nColour:", answers())
    firsts = [encoded.encoder.answer_ids(answer.text) for answer in encoded.answers]
    place = next(i for i in range(9) if len({ids[i] for ids in firsts}) == 3)
    assert len({tuple(ids[:place]) for ids in firsts}) == 1
    model = PeftModel.from_pretrained(copy.deepcopy(frozen.model), str(directory)).eval()
    found = []
    for text in texts:
        ids = torch.tensor([encoded.encoder.input_ids({"text": text}) + firsts[0][:place]])
        extra = {"task_ids": torch.tensor([task])} if task is not None else {}
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[0, -1]
        found.append(logits[[ids[place] for ids in firsts]].softmax(dim=0).tolist())
    return found


def answers():
    from softprompt.engine.encoding import answers_for

    return answers_for(("blue", "green", "red"), {})


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_saved_is_served_with_the_same_answers(tmp_path, llama_directory, kind):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, kind)
    task = 1 if "multitask" in kind else None
    file = import_prompt(checkpoint, recipe(tmp_path, llama_directory), tmp_path / "prompt", task=task)
    assert PromptFile.read(tmp_path / "prompt", expected_digest=file.digest) == file
    warm = warm_up(load_base_model(llama_directory), file)
    ours = [prediction.probabilities for prediction in warm.predictor.predict([{"text": text} for text in ROWS])]
    theirs = peft_probabilities(checkpoint, llama_directory, ROWS, task)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-3, atol=1e-4)
    bare = warm_up(load_base_model(llama_directory), zero(file)).predictor.predict([{"text": text} for text in ROWS])
    assert (torch.tensor([row.probabilities for row in bare]) - torch.tensor(theirs)).abs().max() > 0.01


def zero(file):
    fields = {name: getattr(file.manifest, name) for name in ("task", "template", "template_examples", "answers")}
    fields |= {"max_new_tokens": 5, "base_fingerprint": file.manifest.base_fingerprint}
    return PromptFile.build(file.values * 0, **fields)


def test_the_manifest_says_what_the_recipe_says(tmp_path, llama_directory):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "prompt tuning")
    labels = 'labels: [red, blue]\n  verbalisers: {red: " crimson"}'
    manifest = import_prompt(checkpoint, recipe(tmp_path, llama_directory, labels=labels), tmp_path / "prompt").manifest
    base = load_base_model(llama_directory)
    assert (manifest.task, manifest.template, manifest.num_tokens) == ("classification", "Thing: {text}\nColour:", 4)
    assert [(answer.label, answer.text) for answer in manifest.answers] == [("blue", " blue"), ("red", " crimson")]
    assert manifest.template_examples == TextEncoder(base.text, manifest.template).examples()
    assert manifest.base_fingerprint == base.fingerprint
    config = json.loads((tmp_path / "prompt" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == llama_directory.as_uri()


def test_a_generation_needs_no_labels(tmp_path, llama_directory):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "prefix tuning")
    file = import_prompt(checkpoint, recipe(tmp_path, llama_directory, task="generation", labels=""), tmp_path / "prompt")
    assert (file.manifest.task, file.manifest.answers, file.manifest.kind) == ("generation", (), "deep")


def test_an_export_comes_back_as_the_same_prompt(tmp_path, llama_directory):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "prefix tuning")
    wishes = recipe(tmp_path, llama_directory)
    once = import_prompt(checkpoint, wishes, tmp_path / "once")
    fields = {name: getattr(once.manifest, name) for name in ("task", "template", "template_examples", "answers")}
    fields |= {"max_new_tokens": once.manifest.max_new_tokens, "base_fingerprint": once.manifest.base_fingerprint}
    for file in (once, PromptFile.build(once.values, dtype="bfloat16", **fields)):
        out = tmp_path / file.digest
        export_prompt(file, "peft", out, ExportedBase.of(llama_directory.as_uri(), file))
        assert import_prompt(out, wishes, tmp_path / f"{file.digest}-again") == file


@pytest.mark.parametrize("task", [None, -1, 3])
def test_a_multitask_prompt_wants_to_know_which_task(tmp_path, llama_directory, task):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "multitask prompt tuning")
    with pytest.raises(InvalidRequest, match="one of its tasks") as caught:
        import_prompt(checkpoint, recipe(tmp_path, llama_directory), tmp_path / "prompt", task=task)
    assert caught.value.expected == "a task from 0 to 2"
    assert not (tmp_path / "prompt").exists()


def test_other_prompts_have_no_tasks(tmp_path, llama_directory):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "P-tuning")
    with pytest.raises(InvalidRequest, match="Only a multitask prompt"):
        import_prompt(checkpoint, recipe(tmp_path, llama_directory), tmp_path / "prompt", task=0)


def test_a_classification_without_labels_is_told_to_list_them(tmp_path, llama_directory):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "prompt tuning")
    with pytest.raises(InvalidRecipe, match="no training rows") as caught:
        import_prompt(checkpoint, recipe(tmp_path, llama_directory, labels=""), tmp_path / "prompt")
    assert "task.labels" in caught.value.where


def test_a_prompt_that_fills_the_context_is_refused(tmp_path, llama_directory):
    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "prompt tuning", num_tokens=64)
    with pytest.raises(UnsupportedBaseModel, match="longer than the base model's context"):
        import_prompt(checkpoint, recipe(tmp_path, llama_directory), tmp_path / "prompt")


def test_nonsense_is_not_imported(tmp_path, llama_directory):
    import safetensors.numpy

    checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "prompt tuning")
    path = checkpoint / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({name: tensor * 1e6 for name, tensor in tensors.items()}, path)
    with pytest.raises(VerificationFailed, match="none that its base model could have met"):
        import_prompt(checkpoint, recipe(tmp_path, llama_directory), tmp_path / "prompt")
    assert not (tmp_path / "prompt").exists()


class TestCommand:
    """`softprompt import`."""

    def invoke(self, *arguments):
        return CliRunner().invoke(app, ["import", *map(str, arguments)], env={"COLUMNS": "200"})

    def test_writes_a_prompt_file_and_says_which_prompt_it_is(self, tmp_path, llama_directory):
        checkpoint = saved_by_peft(tmp_path / "peft", llama_directory, "multitask prompt tuning")
        wishes = recipe(tmp_path, "embedded://base")
        result = self.invoke(checkpoint, "--recipe", wishes, "--base", llama_directory, "--task", 2, "--out", tmp_path / "prompt")
        assert result.exit_code == 0, result.output
        assert PromptFile.read(tmp_path / "prompt").digest in result.output
        assert "shallow prompt of 4 tokens" in result.output

    def test_what_is_wrong_ends_with_a_sentence_and_writes_nothing(self, tmp_path, llama_directory):
        checkpoint, wishes = saved_by_peft(tmp_path / "peft", llama_directory, "prompt tuning"), recipe(tmp_path, llama_directory)
        import_prompt(checkpoint, wishes, tmp_path / "prompt")
        out = tmp_path / "out"
        wrong = [
            ([tmp_path / "nowhere", "--recipe", wishes, "--out", out], 2, "no directory"),
            ([tmp_path / "prompt", "--recipe", wishes, "--out", out], 2, "needs no import"),
            ([checkpoint, "--recipe", "nothing", "--out", out], 2, "no such recipe"),
            ([checkpoint, "--recipe", wishes, "--out", tmp_path / "prompt"], 2, "something at the place"),
            ([checkpoint, "--recipe", wishes, "--out", out, "--base", "embedded://base"], 2, "does not fit the base model"),
        ]
        for arguments, code, told in wrong:
            result = self.invoke(*arguments)
            assert (result.exit_code, told in result.output) == (code, True), result.output
        assert not out.exists()
