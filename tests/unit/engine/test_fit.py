"""A prompt is believed by a base only if its shape is the base's and its numbers are some that the base could have met."""

import re

import numpy as np
import pytest
import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.engine.fit import MOST_NORM, check_fit, fitting_prompt
from softprompt.engine.real_tokens import token_values
from softprompt.errors import FingerprintMismatch, VerificationFailed
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.serving.bank import warm_up
from softprompt.tuning.initialisers import from_prompt
from tests.builders import prompt_file
from tests.families import CAUSAL, ENCODER_DECODER, FAMILIES, tiny_base
from tests.stock import random_prompt


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize("family", FAMILIES)
def test_real_tokens_and_ordinary_prompts_fit(family, kind):
    base = tiny_base(family)
    check_fit(base, token_values(base, [5, 60, 70], kind), where="here")
    check_fit(base, random_prompt(base, kind), where="here")
    check_fit(base, torch.zeros_like(random_prompt(base, kind)), where="here")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "t5", "bart"])
def test_a_shallow_vector_is_held_against_what_the_embedding_module_gives(family):
    base = tiny_base(family)
    with torch.no_grad():
        rows = torch.stack([base.model.get_input_embeddings()(torch.tensor([token]))[0] for token in range(97)])
    bound = MOST_NORM * float(rows.norm(dim=1).max())
    if family == "gemma2":
        table = base.model.get_input_embeddings().weight
        assert bound == pytest.approx(MOST_NORM * 32**0.5 * float(table.norm(dim=1).max())), "Gemma scales inside the module"
    prompt = random_prompt(base, "shallow")
    prompt[3] *= 0.99 * bound / prompt[3].norm()
    check_fit(base, prompt, where="here")
    prompt[3] *= 1.02
    with pytest.raises(VerificationFailed, match="none that its base model could have met") as caught:
        check_fit(base, prompt, where="here")
    assert caught.value.where == "here, vector 4 among the input embeddings"
    assert f"{bound:.4g}" in caught.value.expected
    assert float(caught.value.actual) == pytest.approx(1.01 * bound, rel=1e-2)


@pytest.mark.parametrize(("side", "part"), enumerate(["keys", "values"]))
@pytest.mark.parametrize("family", CAUSAL)
def test_a_deep_vector_is_held_against_the_keys_and_values_of_real_tokens_in_its_layer(family, side, part):
    base = tiny_base(family)
    ids = torch.linspace(0, 96, 64).long()[None]
    with torch.no_grad():
        layer = base.model(input_ids=ids, use_cache=True).past_key_values.layers[1]
    real = (layer.keys, layer.values)[side][0].transpose(0, 1).flatten(1).norm(dim=1)
    prompt = random_prompt(base, "deep")
    vector = prompt[1, side, 2]
    # A window keeps the last positions only, so stock's largest may be less than ours; nowhere is it more.
    vector *= 0.99 * MOST_NORM * float(real.max()) / vector.norm()
    check_fit(base, prompt, where="here")
    vector *= 20
    with pytest.raises(VerificationFailed) as caught:
        check_fit(base, prompt, where="here")
    assert caught.value.where == f"here, vector 3 among the {part} of layer 2"


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_in_a_decoder_the_bound_is_that_of_the_largest_layer(family):
    """PEFT deals layers out anew and may have more of them than the decoder, so a layer's own bound is not its neighbour's."""
    base = tiny_base(family)
    for side in (0, 1):
        prompt = random_prompt(base, "deep")
        largest = token_values(base, torch.linspace(0, 96, 64).long().tolist(), "deep")[:, side].flatten(2).norm(dim=-1).max()
        vector = prompt[-1, side, 0]
        vector *= 0.99 * MOST_NORM * largest / vector.norm()
        check_fit(base, torch.cat([prompt, prompt]), where="here")
        vector *= 1.02
        with pytest.raises(VerificationFailed, match="none that its base model"):
            check_fit(base, torch.cat([prompt, prompt]), where="here")


@pytest.mark.parametrize(
    ("family", "shape", "told"),
    [
        ("llama", (5, 16), "hidden size 16"),
        ("llama", (3, 2, 5, 2, 8), "layers 3"),
        ("llama", (1, 2, 5, 2, 8), "layers 1"),
        ("llama", (2, 2, 5, 4, 8), "heads 4"),
        ("llama", (2, 2, 5, 2, 16), "head size 16"),
        ("t5-uneven", (2, 2, 5, 4, 16), "layers 2"),
        ("t5-uneven", (3, 2, 5, 4, 8), "head size 8"),
    ],
)
def test_another_shape_is_refused_by_name(family, shape, told):
    base = tiny_base(family)
    with pytest.raises(VerificationFailed, match="shape of its base model") as caught:
        check_fit(base, torch.ones(shape), where="here")
    assert told in caught.value.actual
    assert caught.value.expected.split()[0] == told.split()[0] or "layers" in caught.value.expected


def of_llama(directory, scale, **changes):
    values = np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32)
    manifest = prompt_file().manifest
    fields = {name: getattr(manifest, name) for name in ("task", "template", "answers", "max_new_tokens")}
    fields |= {"template_examples": (), "base_fingerprint": load_base_model(directory).fingerprint}
    return PromptFile.build((values * scale).astype(np.float32), **(fields | changes))


MEETINGS = {
    "the engine": lambda base, file, folder: fitting_prompt(base, file),
    "serving": lambda base, file, folder: warm_up(base, file),
    "evaluation": lambda base, file, folder: BaseSystem.of_file(base, file),
    "training from it": lambda base, file, folder: from_prompt(base, folder, "shallow", 4),
}


@pytest.mark.parametrize("place", MEETINGS)
def test_wherever_a_prompt_meets_a_base_nonsense_is_refused_with_its_digest(tmp_path, llama_directory, place):
    base = load_base_model(llama_directory)
    good, bad = of_llama(llama_directory, 1.0), of_llama(llama_directory, 1e6)
    good.write(tmp_path / "good")
    bad.write(tmp_path / "bad")
    MEETINGS[place](base, good, tmp_path / "good")
    with pytest.raises(VerificationFailed, match="none that its base model could have met") as caught:
        MEETINGS[place](base, bad, tmp_path / "bad")
    assert re.search(f"prompt {bad.digest[:12]}, vector [1-4] among the input embeddings", str(caught.value))


@pytest.mark.parametrize("place", MEETINGS)
def test_wherever_a_prompt_meets_another_base_it_is_refused(tmp_path, llama_directory, place):
    file = of_llama(llama_directory, 1.0, base_fingerprint="1" * 64)
    file.write(tmp_path / "prompt")
    with pytest.raises(FingerprintMismatch, match="trained on another base model"):
        MEETINGS[place](load_base_model(llama_directory), file, tmp_path / "prompt")


def test_numbers_read_in_the_wrong_order_of_bytes_are_found_out(llama_directory):
    """A mistake that leaves everything finite, of the right shape and with a digest that is right."""
    base = load_base_model(llama_directory)
    values = of_llama(llama_directory, 1.0).values
    swapped = torch.from_numpy(values.byteswap())
    assert swapped.isfinite().all()
    check_fit(base, torch.from_numpy(values), where="here")
    with pytest.raises(VerificationFailed, match="none that its base model could have met"):
        check_fit(base, swapped, where="here")
