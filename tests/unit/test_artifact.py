"""The prompt file: what is written reads back, and nothing that was changed is believed."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.artifact import PromptFile, read_manifest
from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import VerificationFailed
from tests.builders import prompt_file


@pytest.mark.parametrize(("deep", "dtype"), [(False, "float32"), (True, "float32"), (True, "bfloat16")])
def test_a_prompt_file_round_trips(tmp_path, deep, dtype):
    prompt = prompt_file(deep=deep, dtype=dtype)
    prompt.write(tmp_path / "prompt")
    again = PromptFile.read(tmp_path / "prompt", expected_digest=prompt.digest)
    assert again == prompt
    assert again.values.shape == ((2, 2, 4, 2, 4) if deep else (4, 8))


def test_deep_values_fold_and_unfold_to_the_same_numbers():
    values = np.random.default_rng(0).normal(size=(3, 2, 5, 2, 4)).astype(np.float32)
    prompt = PromptFile.build(values, **fields())
    assert (prompt.values == values).all()
    assert prompt.manifest.parts[0].shape == (5, 3 * 2 * 2 * 4)


def test_bfloat16_is_rounded_as_torch_rounds():
    import torch

    values = np.random.default_rng(0).normal(size=(2, 2, 3, 2, 4)).astype(np.float32)
    rounded = torch.from_numpy(values).bfloat16().float().numpy()
    assert (PromptFile.build(values, dtype="bfloat16", **fields()).values == rounded).all()


def test_the_tensor_is_what_safetensors_itself_writes():
    prompt = prompt_file()
    assert prompt.tensor == safetensors.numpy.save({"prompt_embeddings": prompt.values})


def test_identity_is_the_manifest_and_changes_with_everything_in_it():
    prompt = prompt_file()
    assert prompt.digest == sha256_hex(prompt.manifest.to_bytes())
    assert prompt_file(seed=1).digest != prompt.digest
    assert prompt_file(fingerprint="1" * 64).digest != prompt.digest
    assert prompt_file().digest == prompt.digest


def test_writing_leaves_no_draft_and_reading_ignores_peft_config(tmp_path):
    prompt_file().write(tmp_path / "prompt", base_uri="hf://a/b@c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prompt"]
    (tmp_path / "prompt" / "adapter_config.json").write_text("nonsense")
    assert PromptFile.read(tmp_path / "prompt") == prompt_file()


def changed(prompt: PromptFile, **changes: object) -> bytes:
    return canonical_json(json.loads(prompt.manifest.to_bytes()) | changes)


TAMPERED = {
    "a flipped bit in the tensor": (
        lambda p: (p.manifest.to_bytes(), p.tensor[:-1] + bytes([p.tensor[-1] ^ 1])),
        "tensor sha256",
    ),
    "a longer tensor": (lambda p: (p.manifest.to_bytes(), p.tensor + b"x"), "tensor length"),
    "a shorter tensor": (lambda p: (p.manifest.to_bytes(), p.tensor[:-4]), "tensor length"),
    "another schema version": (lambda p: (changed(p, schema_version=2), p.tensor), "schema version"),
    "an unknown kind": (lambda p: (changed(p, kind="lora"), p.tensor), "unknown kind"),
    "an unknown key": (lambda p: (changed(p, more=1), p.tensor), "Extra inputs"),
    "a missing key": (lambda p: (canonical_json({"schema_version": 1, "kind": "deep"}), p.tensor), "Field required"),
    "spaces in the manifest": (lambda p: (json.dumps(json.loads(p.manifest.to_bytes())).encode(), p.tensor), "manifest bytes"),
    "another length": (lambda p: (changed(p, num_tokens=5), p.tensor), "num_tokens says 5"),
    "a wrong shape": (lambda p: (part(p, shape=[4, 9]), p.tensor), "tensor."),
    "a huge tensor": (lambda p: (part(p, length_bytes=2**40), p.tensor), "less than or equal"),
    "another placement": (lambda p: (changed(p, placement="suffix"), p.tensor), "prefix"),
    "no answers": (lambda p: (changed(p, answers=[]), p.tensor), "a classification has answers"),
    "not JSON": (lambda p: (b"{", p.tensor), "strict JSON"),
}


def part(prompt: PromptFile, **changes: object) -> bytes:
    manifest = json.loads(prompt.manifest.to_bytes())
    return canonical_json(manifest | {"parts": [manifest["parts"][0] | changes]})


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_changed_is_refused_with_its_reason(case):
    tamper, reason = TAMPERED[case]
    with pytest.raises(VerificationFailed) as caught:
        PromptFile.from_bytes(*tamper(prompt_file()), source="s3://there")
    assert reason in str(caught.value)
    assert "s3://there" in str(caught.value)


def rewrapped(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> tuple[bytes, bytes]:
    """A manifest that agrees with another tensor file."""
    tensor = safetensors.numpy.save(tensors, metadata)
    return part(prompt_file(), length_bytes=len(tensor), sha256=sha256_hex(tensor)), tensor


GOOD = prompt_file().values


@pytest.mark.parametrize(
    ("tensors", "metadata", "reason"),
    [
        ({"other": GOOD}, None, "tensor."),
        ({"prompt_embeddings": GOOD, "more": GOOD}, None, "tensor."),
        ({}, None, "tensor."),
        ({"prompt_embeddings": GOOD.astype(np.float64)}, None, "tensor."),
        ({"prompt_embeddings": np.where(GOOD > 0, np.nan, GOOD)}, None, "tensor values"),
        ({"prompt_embeddings": np.full_like(GOOD, np.inf)}, None, "tensor values"),
        ({"prompt_embeddings": GOOD}, {"format": "pt"}, "tensor bytes"),
    ],
)
def test_a_tensor_file_that_its_manifest_vouches_for_is_still_checked(tensors, metadata, reason):
    with pytest.raises(VerificationFailed) as caught:
        PromptFile.from_bytes(*rewrapped(tensors, metadata), source="x")
    assert reason in str(caught.value)


def test_another_prompt_than_asked_for_is_refused():
    prompt = prompt_file()
    with pytest.raises(VerificationFailed, match="manifest digest"):
        PromptFile.from_bytes(prompt.manifest.to_bytes(), prompt.tensor, source="x", expected_digest="0" * 64)


@settings(max_examples=300)
@given(st.data())
def test_no_mutation_of_the_bytes_is_believed_or_crashes(data):
    prompt = prompt_file()
    manifest, tensor = bytearray(prompt.manifest.to_bytes()), bytearray(prompt.tensor)
    target = data.draw(st.sampled_from([manifest, tensor]))
    place = data.draw(st.integers(0, len(target) - 1))
    target[place] ^= data.draw(st.integers(1, 255))
    try:
        read = PromptFile.from_bytes(bytes(manifest), bytes(tensor), source="x")
    except VerificationFailed:
        return
    # A changed manifest may still be valid; then it is another prompt, and the tensor is as it says.
    assert read.digest != prompt.digest
    assert read.manifest.parts[0].sha256 == sha256_hex(bytes(tensor))


@given(st.binary(max_size=300))
def test_rubbish_is_no_manifest(data):
    with pytest.raises(VerificationFailed):
        read_manifest(data, source="x")


@pytest.mark.parametrize(
    "values", [np.zeros((2, 2), np.float64), np.full((2, 2), np.nan, np.float32), np.zeros((2, 2, 2), np.float32)]
)
def test_what_is_no_prompt_is_not_built(values):
    with pytest.raises(ValueError, match="prompt values must be"):
        PromptFile.build(values, **fields())


def test_a_shallow_prompt_is_float32():
    with pytest.raises(ValueError, match="float32"):
        PromptFile.build(np.zeros((2, 2), np.float32), dtype="bfloat16", **fields())


def fields() -> dict[str, object]:
    return {
        "task": "generation",
        "template": "{a}",
        "template_examples": (),
        "answers": (),
        "max_new_tokens": 1,
        "base_fingerprint": "0" * 64,
    }
