"""The prompt file: what is written reads back, and nothing that was changed is believed."""

import json
import subprocess
import sys

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
    "a wrong shape": (lambda p: (part(p, shape=[4, 9]), p.tensor), "tensor length"),
    "a shape turned round": (lambda p: (part(changed(p, num_tokens=8), shape=[8, 4]), p.tensor), "tensor header"),
    "a tensor of no numbers": (lambda p: (part(p, shape=[4, 0]), p.tensor), "greater than or equal to 1"),
    "a tensor of no rows": (lambda p: (part(changed(p, num_tokens=0), shape=[0, 8]), p.tensor), "greater than or equal to 1"),
    "two parts": (lambda p: (changed(p, parts=json.loads(p.manifest.to_bytes())["parts"] * 2), p.tensor), "parts"),
    "a huge tensor": (lambda p: (part(p, length_bytes=2**40), p.tensor), "less than or equal"),
    "another placement": (lambda p: (changed(p, placement="suffix"), p.tensor), "prefix"),
    "no answers": (lambda p: (changed(p, answers=[]), p.tensor), "a classification has answers"),
    "the same label twice": (lambda p: (changed(p, answers=[{"label": "a", "text": " a"}] * 2), p.tensor), "same label"),
    "a template that is none": (lambda p: (changed(p, template="{"), p.tensor), "single brace"),
    "an example of another template": (
        lambda p: (changed(p, template_examples=[{"values": {"b": "x"}, "token_ids": [1]}]), p.tensor),
        "an example has other values",
    ),
    "answers of no tokens": (lambda p: (changed(p, max_new_tokens=0), p.tensor), "greater than or equal to 1"),
    "a number too large": (lambda p: (changed(p, max_new_tokens=10**300), p.tensor), "less than or equal"),
    "true for one": (lambda p: (changed(p, schema_version=True), p.tensor), "manifest bytes"),
    "1.0 for 1": (lambda p: (changed(p, schema_version=1.0), p.tensor), "manifest bytes"),
    "a number as text": (lambda p: (changed(p, num_tokens="4"), p.tensor), "valid integer"),
    "not JSON": (lambda p: (b"{", p.tensor), "strict JSON"),
    "a key twice": (lambda p: (inserted(p, b'"task":"generation",'), p.tensor), "duplicate key 'task'"),
    "NaN": (lambda p: (inserted(p, b'"a":NaN,'), p.tensor), "NaN is not a number"),
    "infinity": (lambda p: (inserted(p, b'"a":1e999,'), p.tensor), "not strict JSON"),
    "a number of ten thousand digits": (lambda p: (inserted(p, b'"a":' + b"9" * 10_000 + b","), p.tensor), "not strict JSON"),
    "deep nesting": (lambda p: (inserted(p, b'"a":' + b"[" * 100_000 + b"]" * 100_000 + b","), p.tensor), "not strict JSON"),
    "half a character": (lambda p: (inserted(p, b'"a":"\\ud800",'), p.tensor), "not strict JSON"),
    "bytes that are no text": (lambda p: (inserted(p, b'"a":"\xff",'), p.tensor), "not strict JSON"),
    "a mark in front": (lambda p: (b"\xef\xbb\xbf" + p.manifest.to_bytes(), p.tensor), "not strict JSON"),
    "a manifest beyond its cap": (lambda p: (b" " * (4 * 2**20) + p.manifest.to_bytes(), p.tensor), "larger than it may be"),
}


def inserted(prompt: PromptFile, text: bytes) -> bytes:
    """The manifest with a few bytes after its first brace."""
    return b"{" + text + prompt.manifest.to_bytes()[1:]


def part(prompt: PromptFile | bytes, **changes: object) -> bytes:
    manifest = json.loads(prompt if isinstance(prompt, bytes) else prompt.manifest.to_bytes())
    return canonical_json(manifest | {"parts": [manifest["parts"][0] | changes]})


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_changed_is_refused_with_its_reason(case):
    tamper, reason = TAMPERED[case]
    with pytest.raises(VerificationFailed) as caught:
        PromptFile.from_bytes(*tamper(prompt_file()), source="s3://there")
    assert reason in str(caught.value)
    assert "s3://there" in str(caught.value)


def vouched(tensor: bytes) -> tuple[bytes, bytes]:
    """A tensor file with a manifest that agrees with its length and digest."""
    return part(prompt_file(), length_bytes=len(tensor), sha256=sha256_hex(tensor)), tensor


GOOD = prompt_file().values


@pytest.mark.parametrize(
    ("tensors", "metadata", "reason"),
    [
        ({"other": GOOD}, None, "tensor length"),
        ({"prompt_embeddinga": GOOD}, None, "tensor header"),
        ({"prompt_embeddings": GOOD, "more": GOOD}, None, "tensor length"),
        ({}, None, "tensor length"),
        ({"prompt_embeddings": GOOD.astype(np.float64)}, None, "tensor length"),
        ({"prompt_embeddings": GOOD.astype(np.int32)}, None, "tensor header"),
        ({"prompt_embeddings": GOOD.T}, None, "tensor header"),
        ({"prompt_embeddings": np.where(GOOD > 0, np.nan, GOOD)}, None, "tensor values"),
        ({"prompt_embeddings": np.full_like(GOOD, np.inf)}, None, "tensor values"),
        ({"prompt_embeddings": GOOD}, {"format": "pt"}, "tensor length"),
    ],
)
def test_a_tensor_file_that_its_manifest_vouches_for_is_still_checked(tensors, metadata, reason):
    """Every other spelling of the right matrix is in test_tensor_file.py."""
    with pytest.raises(VerificationFailed) as caught:
        PromptFile.from_bytes(*vouched(safetensors.numpy.save(tensors, metadata)), source="x")
    assert reason in str(caught.value)


def test_another_prompt_than_asked_for_is_refused():
    prompt = prompt_file()
    with pytest.raises(VerificationFailed, match="manifest digest"):
        PromptFile.from_bytes(prompt.manifest.to_bytes(), prompt.tensor, source="x", expected_digest="0" * 64)


def mutated(data, good: bytes) -> bytes:
    """Up to four bytes changed, then perhaps some cut out or put in."""
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    start = data.draw(st.integers(0, len(bad)))
    end = data.draw(st.integers(start, min(len(bad), start + 8)))
    bad[start:end] = data.draw(st.binary(max_size=8))
    return bytes(bad)


@settings(max_examples=300)
@given(st.data())
def test_no_mutation_is_believed_to_be_the_prompt_that_was_asked_for(data):
    prompt = prompt_file(deep=data.draw(st.booleans()))
    good = prompt.manifest.to_bytes(), prompt.tensor
    bad = mutated(data, good[0]), mutated(data, good[1])
    bad = data.draw(st.sampled_from([(bad[0], good[1]), (good[0], bad[1]), bad]))
    if bad == good:
        assert PromptFile.from_bytes(*bad, source="x", expected_digest=prompt.digest) == prompt
        return
    with pytest.raises(VerificationFailed):
        PromptFile.from_bytes(*bad, source="x", expected_digest=prompt.digest)


@settings(max_examples=300)
@given(st.data())
def test_what_is_believed_is_what_writing_it_again_gives(data):
    """Where nobody asked for a digest and the manifest vouches for it, a changed file may be a prompt: another, and canonical."""
    prompt = prompt_file(deep=data.draw(st.booleans()))
    manifest = mutated(data, prompt.manifest.to_bytes()) if data.draw(st.booleans()) else prompt.manifest.to_bytes()
    tensor = mutated(data, prompt.tensor)
    if data.draw(st.booleans()):
        manifest = part(prompt, length_bytes=len(tensor), sha256=sha256_hex(tensor))
    try:
        read = PromptFile.from_bytes(manifest, tensor, source="x")
    except VerificationFailed:
        return
    assert read.manifest.to_bytes() == manifest
    assert (read.digest == prompt.digest) == (tensor == prompt.tensor and manifest == prompt.manifest.to_bytes())
    derived = {"schema_version", "kind", "num_tokens", "parts", "layout", "input_independent", "placement"}
    fields = {name: getattr(read.manifest, name) for name in type(read.manifest).model_fields if name not in derived}
    assert PromptFile.build(read.values, dtype=read.manifest.parts[0].dtype, **fields).tensor == tensor
    assert list(safetensors.numpy.load(tensor)) == ["prompt_embeddings"]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_random_bytes_are_no_prompt(manifest, tensor):
    prompt = prompt_file()
    for pair in ((manifest, tensor), (prompt.manifest.to_bytes(), tensor), (manifest, prompt.tensor), vouched(tensor)):
        with pytest.raises(VerificationFailed):
            PromptFile.from_bytes(*pair, source="x")


READ_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
from pathlib import Path
from softprompt.artifact import PromptFile
for folder in sys.argv[1:]:
    file = PromptFile.read(Path(folder))
    print(file.digest, file.manifest.parts[0].dtype, float(file.values.sum()))
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "tensorflow", "jax", "pickle", "boto3"}))
"""


def test_a_prompt_file_is_read_and_verified_in_a_process_that_has_no_torch(tmp_path):
    prompts = [prompt_file(), prompt_file(deep=True), prompt_file(deep=True, dtype="bfloat16")]
    for number, prompt in enumerate(prompts):
        prompt.write(tmp_path / str(number))
    folders = [str(tmp_path / str(number)) for number in range(3)]
    done = subprocess.run([sys.executable, "-c", READ_WITHOUT_TORCH, *folders], capture_output=True, text=True, check=True)
    *read, loaded = done.stdout.splitlines()
    assert read == [f"{p.digest} {p.manifest.parts[0].dtype} {float(p.values.sum())}" for p in prompts]
    assert "transformers" not in loaded
    assert loaded.count("torch") == 1, "the one that this test put there"


def test_a_tensor_larger_than_its_manifest_says_is_not_read_to_its_end(tmp_path):
    prompt_file().write(tmp_path / "prompt")
    with (tmp_path / "prompt" / "adapter_model.safetensors").open("ab") as file:
        file.truncate(2**33)
    with pytest.raises(VerificationFailed, match="larger than it may be"):
        PromptFile.read(tmp_path / "prompt")


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
