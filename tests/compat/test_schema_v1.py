"""Prompt files of schema version 1, written by softprompt 0.1.0, stay readable for ever and stay the same prompts.

The directories in `v1/` are never written again. Whoever teaches the reader a new version adds `v2/` and a test beside this one.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from softprompt.artifact import PromptFile
from softprompt.documents import sha256_hex
from softprompt.errors import VerificationFailed

V1 = Path(__file__).parent / "v1"
DIGESTS = {
    "shallow": "ea34322fd6d6724bd30e9b4876b3a9d80d08884d7c692c1844f0ac64c3accd48",
    "deep": "fccc47688d5cdbb517d32d8175a0631a00001a380711efc861966ee3048c9a6d",
}
VALUES = {
    "shallow": (
        (3, 8),
        "7dfcea1a89cf1e02a5c75f2e7710069549907ff27b8d526d076d0522b9ccd149",
        [-0.79312247, 0.24057129, -1.89632630],
    ),
    "deep": (
        (2, 2, 3, 1, 4),
        "7d34e1542527bfe56480842de00429388f9a5d9c95e81346b0476e79e0c0397f",
        [0.640625, 1.828125, -0.71484375],
    ),
}
"""Shape, sha256 of the little-endian float32 numbers in C order, and the first three of them."""

pytestmark = pytest.mark.parametrize("kind", DIGESTS)


def read(kind):
    return PromptFile.read(V1 / kind, expected_digest=DIGESTS[kind])


def test_it_is_still_the_same_prompt(kind):
    assert read(kind).digest == DIGESTS[kind] == sha256_hex((V1 / kind / "manifest.json").read_bytes())


def test_its_numbers_are_still_the_same(kind):
    shape, digest, first = VALUES[kind]
    values = read(kind).values
    assert values.shape == shape
    assert sha256_hex(np.ascontiguousarray(values, dtype="<f4").tobytes()) == digest
    assert np.allclose(values.ravel()[:3], first, atol=1e-8)


def test_its_manifest_says_what_it_said(kind):
    manifest = read(kind).manifest
    assert (manifest.schema_version, manifest.kind, manifest.num_tokens, manifest.placement) == (1, kind, 3, "prefix")
    if kind == "shallow":
        assert (manifest.task, manifest.template) == ("classification", "Message: {text}\nQueue:")
        assert {answer.label: answer.text for answer in manifest.answers} == {
            "billing": " billing",
            "lost_parcel": " lost parcel",
        }
        (example,) = manifest.template_examples
        assert (example.values, example.token_ids) == ({"text": "Où est mon colis ?"}, (1, 17, 204, 9))
        assert (manifest.base_fingerprint, manifest.max_new_tokens) == ("5" * 64, 64)
    else:
        assert (manifest.task, manifest.template) == ("generation", "Ticket: {subject} {body}\nReply:")
        assert (manifest.layout.num_layers, manifest.layout.num_kv_heads, manifest.layout.head_size) == (2, 1, 4)
        assert (manifest.parts[0].dtype, manifest.answers, manifest.max_new_tokens) == ("bfloat16", (), 32)


def test_this_version_would_write_the_same_bytes(kind, tmp_path):
    file = read(kind)
    derived = ("schema_version", "kind", "num_tokens", "parts", "layout", "input_independent", "placement")
    fields = {name: getattr(file.manifest, name) for name in type(file.manifest).model_fields if name not in derived}
    PromptFile.build(file.values, dtype=file.manifest.parts[0].dtype, **fields).write(tmp_path / "again")
    for part in ("manifest.json", "adapter_model.safetensors"):
        assert (tmp_path / "again" / part).read_bytes() == (V1 / kind / part).read_bytes()


def test_stock_peft_still_reads_its_config(kind):
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(V1 / kind))
    assert (config.peft_type, config.num_virtual_tokens) == ({"shallow": "PROMPT_TUNING", "deep": "PREFIX_TUNING"}[kind], 3)


@pytest.mark.parametrize("part", ["manifest.json", "adapter_model.safetensors"])
def test_a_change_of_any_byte_is_refused(kind, part, tmp_path):
    folder = shutil.copytree(V1 / kind, tmp_path / kind)
    good = (folder / part).read_bytes()
    for place in range(len(good)):
        (folder / part).write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(VerificationFailed):
            PromptFile.read(folder, expected_digest=DIGESTS[kind])
    (folder / part).write_bytes(good)
    assert PromptFile.read(folder, expected_digest=DIGESTS[kind]).digest == DIGESTS[kind], "it was the change that was refused"


@pytest.mark.parametrize("part", ["manifest.json", "adapter_model.safetensors"])
def test_a_part_that_is_cut_short_grows_or_is_gone_is_refused(kind, part, tmp_path):
    folder = shutil.copytree(V1 / kind, tmp_path / kind)
    good = (folder / part).read_bytes()
    for bad in (b"", good[:-1], good + b"\0"):
        (folder / part).write_bytes(bad)
        with pytest.raises(VerificationFailed):
            PromptFile.read(folder, expected_digest=DIGESTS[kind])
    (folder / part).unlink()
    with pytest.raises(VerificationFailed, match="cannot be read"):
        PromptFile.read(folder)


def test_the_tensor_of_another_prompt_is_refused(kind, tmp_path):
    folder = shutil.copytree(V1 / kind, tmp_path / kind)
    other = next(name for name in DIGESTS if name != kind)
    shutil.copy(V1 / other / "adapter_model.safetensors", folder)
    with pytest.raises(VerificationFailed, match="tensor sha256"):
        PromptFile.read(folder)


def test_a_reader_of_version_1_refuses_version_2_by_name(kind, tmp_path):
    folder = shutil.copytree(V1 / kind, tmp_path / kind)
    content = json.loads((folder / "manifest.json").read_bytes()) | {"schema_version": 2}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(VerificationFailed, match="schema version"):
        PromptFile.read(folder)
