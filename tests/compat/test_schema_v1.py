"""Prompt files of schema version 1 stay readable for ever and stay the same prompts; what was done to one is always told alike.

`shallow` and `deep` were written by softprompt 0.1.0, the others by the version after it. The directories in `v1/` are never
written again. Whoever teaches the reader a new version adds `v2/` and a test beside this one.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from softprompt.artifact import PromptFile
from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import VerificationFailed

V1 = Path(__file__).parent / "v1"
MANIFEST, TENSOR, PEFT = "manifest.json", "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True)
class Golden:
    """What a prompt file said when it was written.

    Attributes:
        digest: The prompt's.
        kind: `shallow` or `deep`.
        dtype: Of the tensor.
        task: `classification` or `generation`.
        shape: Of the values.
        numbers: sha256 of the little-endian float32 numbers in C order.
        first: The first three of them.
        peft: Kind and submodules, as stock PEFT reads them.
    """

    digest: str
    kind: str
    dtype: str
    task: str
    shape: tuple[int, ...]
    numbers: str
    first: tuple[float, float, float]
    peft: tuple[str, int]


GOLDEN = {
    "shallow": Golden(
        "ea34322fd6d6724bd30e9b4876b3a9d80d08884d7c692c1844f0ac64c3accd48",
        "shallow",
        "float32",
        "classification",
        (3, 8),
        "7dfcea1a89cf1e02a5c75f2e7710069549907ff27b8d526d076d0522b9ccd149",
        (-0.79312247, 0.24057129, -1.89632630),
        ("PROMPT_TUNING", 1),
    ),
    "deep": Golden(
        "fccc47688d5cdbb517d32d8175a0631a00001a380711efc861966ee3048c9a6d",
        "deep",
        "bfloat16",
        "generation",
        (2, 2, 3, 1, 4),
        "7d34e1542527bfe56480842de00429388f9a5d9c95e81346b0476e79e0c0397f",
        (0.640625, 1.828125, -0.71484375),
        ("PREFIX_TUNING", 1),
    ),
    "shallow-generation": Golden(
        "165da308d172c2216115a0eb321dbae1473141afa8556673c3e571a804a0e9f9",
        "shallow",
        "float32",
        "generation",
        (2, 6),
        "7b340c4f2961361aee7f521bc0ecc24515f006f84dc7e3119dfc7f0e65eebd24",
        (0.03419277, 1.3597475, 1.2247211),
        ("PROMPT_TUNING", 1),
    ),
    "deep-float32": Golden(
        "82b2a55d755b834f41c942e123cada2cc8274f92e2691a8ae3022cb03aba8af1",
        "deep",
        "float32",
        "classification",
        (2, 2, 3, 1, 4),
        "cd69209043c55515a64b2a36676fe3ea219fdec4eab1d433bf458fe2f96cfc7c",
        (-0.00682678, 1.0461433, 0.7415884),
        ("PREFIX_TUNING", 1),
    ),
    "deep-encoder-decoder": Golden(
        "5cc560fc356c35eab6adb0fe7e01e652b37fa727444bea5b200dcd4b1634581a",
        "deep",
        "float32",
        "classification",
        (3, 2, 2, 2, 4),
        "062f2c21408aa252167746dc7321f3ebf0aebf1836eb5612baa2ae3b2e30d3bc",
        (1.8267566, -3.078332, 0.95806396),
        ("PREFIX_TUNING", 2),
    ),
    "deep-encoder-decoder-bfloat16": Golden(
        "162679808c9fe928d6b916073ac47398403bedea25e01299e7f4403e14066c4c",
        "deep",
        "bfloat16",
        "generation",
        (1, 2, 2, 2, 4),
        "ca0d979a0f1246c2a9e92acaf13d3e4ce1a6383d167734bc7455cd63168c4425",
        (0.6953125, -0.98046875, -1.5703125),
        ("PREFIX_TUNING", 2),
    ),
}
MANIFESTS_SAY = {
    "shallow": {
        "template": "Message: {text}\nQueue:",
        "answers": {"billing": " billing", "lost_parcel": " lost parcel"},
        "examples": [({"text": "Où est mon colis ?"}, (1, 17, 204, 9))],
        "layout": None,
        "base": "5" * 64,
        "max_new_tokens": 64,
    },
    "deep": {
        "template": "Ticket: {subject} {body}\nReply:",
        "answers": {},
        "layout": (2, 1, 4),
        "max_new_tokens": 32,
    },
    "shallow-generation": {
        "template": "{messages}",
        "answers": {},
        "examples": [],
        "layout": None,
        "base": "b" * 64,
        "max_new_tokens": 4096,
    },
    "deep-float32": {
        "template": "Claim: {claim}\nFact: {fact}\nDoes it follow?",
        "answers": {"no": " no", "yes": " yes, it does"},
        "examples": [({"claim": "3 < π", "fact": "{braces}"}, (1, 5, 6, 7)), ({"claim": "", "fact": "two\nlines"}, (1, 9))],
        "layout": (2, 1, 4),
        "base": "a" * 64,
        "max_new_tokens": 1,
    },
    "deep-encoder-decoder": {
        "answers": {"no": " no", "yes": " yes, it does"},
        "layout": (3, 2, 4),
        "base": "c" * 64,
        "max_new_tokens": 1,
    },
    "deep-encoder-decoder-bfloat16": {
        "template": "Translate: {text}",
        "answers": {},
        "layout": (1, 2, 4),
        "base": "d" * 64,
    },
}

every_golden = pytest.mark.parametrize("name", GOLDEN)


def read(name):
    return PromptFile.read(V1 / name, expected_digest=GOLDEN[name].digest)


def test_every_kind_number_format_task_and_sort_of_base_has_a_golden_file():
    assert sorted(GOLDEN) == sorted(MANIFESTS_SAY) == sorted(path.name for path in V1.iterdir() if path.is_dir())
    assert {(golden.kind, golden.dtype, golden.task, golden.peft[1]) for golden in GOLDEN.values()} == {
        ("shallow", "float32", "classification", 1),
        ("shallow", "float32", "generation", 1),
        ("deep", "float32", "classification", 1),
        ("deep", "bfloat16", "generation", 1),
        ("deep", "float32", "classification", 2),
        ("deep", "bfloat16", "generation", 2),
    }


@every_golden
def test_it_is_still_the_same_prompt(name):
    assert read(name).digest == GOLDEN[name].digest == sha256_hex((V1 / name / MANIFEST).read_bytes())


@every_golden
def test_its_numbers_are_still_the_same(name):
    values, golden = read(name).values, GOLDEN[name]
    assert values.shape == golden.shape
    assert sha256_hex(np.ascontiguousarray(values, dtype="<f4").tobytes()) == golden.numbers
    assert np.allclose(values.ravel()[:3], golden.first, atol=1e-8)


@every_golden
def test_its_manifest_says_what_it_said(name):
    manifest, golden, said = read(name).manifest, GOLDEN[name], MANIFESTS_SAY[name]
    assert (manifest.schema_version, manifest.placement, manifest.input_independent) == (1, "prefix", True)
    assert (manifest.kind, manifest.task, manifest.parts[0].dtype) == (golden.kind, golden.task, golden.dtype)
    layout = manifest.layout and (manifest.layout.num_layers, manifest.layout.num_kv_heads, manifest.layout.head_size)
    found = {
        "template": manifest.template,
        "answers": {answer.label: answer.text for answer in manifest.answers},
        "examples": [(example.values, example.token_ids) for example in manifest.template_examples],
        "layout": layout,
        "base": manifest.base_fingerprint,
        "max_new_tokens": manifest.max_new_tokens,
    }
    assert {key: found[key] for key in said} == said


@every_golden
def test_this_version_would_write_the_same_bytes(name, tmp_path):
    file = read(name)
    derived = ("schema_version", "kind", "num_tokens", "parts", "layout", "input_independent", "placement")
    fields = {field: getattr(file.manifest, field) for field in type(file.manifest).model_fields if field not in derived}
    PromptFile.build(file.values, dtype=file.manifest.parts[0].dtype, **fields).write(tmp_path / "again")
    for part in (MANIFEST, TENSOR):
        assert (tmp_path / "again" / part).read_bytes() == (V1 / name / part).read_bytes()


@every_golden
def test_stock_peft_still_reads_its_config(name):
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(V1 / name))
    assert (config.peft_type, config.num_transformer_submodules) == GOLDEN[name].peft
    assert config.num_virtual_tokens == read(name).manifest.num_tokens


@pytest.mark.parametrize("part", [MANIFEST, TENSOR])
@every_golden
def test_a_change_of_any_byte_is_refused(name, part):
    files = {path: (V1 / name / path).read_bytes() for path in (MANIFEST, TENSOR)}
    for place, byte in enumerate(files[part]):
        changed = files | {part: files[part][:place] + bytes([byte ^ 1]) + files[part][place + 1 :]}
        with pytest.raises(VerificationFailed):
            believe(changed, name)
    assert believe(files, name) == read(name), "it was the change that was refused"


def believe(files, name):
    return PromptFile.from_bytes(files[MANIFEST], files[TENSOR], source="here", expected_digest=GOLDEN[name].digest)


def tampered(change, folder):
    """Do something to the files in a folder; `change` gets their bytes and gives other ones, None for no file."""
    files = {part: (folder / part).read_bytes() for part in (MANIFEST, TENSOR)}
    for part, data in (files | change(files)).items():
        (folder / part).unlink()
        if data is not None:
            (folder / part).write_bytes(data)


def manifest_with(files, part=None, **changes):
    """The manifest with other values, those of `part` in its only part."""
    content = json.loads(files[MANIFEST])
    parts = {"parts": [content["parts"][0] | part]} if part else {}
    return {MANIFEST: canonical_json(content | parts | changes)}


def vouched(files, tensor):
    """Another tensor, and a manifest that agrees with its length and digest."""
    return {TENSOR: tensor} | manifest_with(files, part={"length_bytes": len(tensor), "sha256": sha256_hex(tensor)})


def header_and_numbers(files):
    length = 8 + int.from_bytes(files[TENSOR][:8], "little")
    return files[TENSOR][8:length], files[TENSOR][length:]


def with_header(files, header):
    return vouched(files, len(header).to_bytes(8, "little") + header + header_and_numbers(files)[1])


def with_numbers(files, numbers):
    header = header_and_numbers(files)[0]
    return vouched(files, len(header).to_bytes(8, "little") + header + numbers)


OTHER = {"classification": "generation", "generation": "classification", "float32": "bfloat16", "bfloat16": "float32"}
NOT_VERIFIED = "A prompt does not verify: "
NO_MANIFEST = "This is not a valid Manifest document."
NOT_JSON = "A document is not strict JSON."
REFUSALS = {
    "one bit of the numbers": (lambda f: {TENSOR: f[TENSOR][:-1] + bytes([f[TENSOR][-1] ^ 1])}, NOT_VERIFIED + "tensor sha256."),
    "numbers cut short": (lambda f: {TENSOR: f[TENSOR][:-1]}, NOT_VERIFIED + "tensor length."),
    "numbers that grew": (lambda f: {TENSOR: f[TENSOR] + b"\0"}, "A file is larger than it may be."),
    "an empty tensor file": (lambda f: {TENSOR: b""}, NOT_VERIFIED + "tensor length."),
    "no tensor file": (lambda f: {TENSOR: None}, "A file of a prompt cannot be read."),
    "no manifest": (lambda f: {MANIFEST: None}, "A file of a prompt cannot be read."),
    "an empty manifest": (lambda f: {MANIFEST: b""}, NOT_JSON),
    "a manifest cut short": (lambda f: {MANIFEST: f[MANIFEST][:-1]}, NOT_JSON),
    "a manifest with a line's end": (lambda f: {MANIFEST: f[MANIFEST] + b"\n"}, NOT_VERIFIED + "manifest bytes."),
    "a manifest with spaces": (
        lambda f: {MANIFEST: json.dumps(json.loads(f[MANIFEST])).encode()},
        NOT_VERIFIED + "manifest bytes.",
    ),
    "a key twice": (lambda f: {MANIFEST: b'{"kind":"deep",' + f[MANIFEST][1:]}, NOT_JSON),
    "NaN": (lambda f: {MANIFEST: b'{"a":NaN,' + f[MANIFEST][1:]}, NOT_JSON),
    "deep nesting": (lambda f: {MANIFEST: b'{"a":' + b"[" * 10**6 + f[MANIFEST][1:]}, NOT_JSON),
    "another version": (
        lambda f: manifest_with(f, schema_version=2),
        "A prompt manifest has a schema version that this softprompt does not know.",
    ),
    "no version": (
        lambda f: {MANIFEST: canonical_json({k: v for k, v in json.loads(f[MANIFEST]).items() if k != "schema_version"})},
        "A prompt manifest has a schema version that this softprompt does not know.",
    ),
    "another kind": (lambda f: manifest_with(f, kind="lora"), "A prompt manifest is of an unknown kind."),
    "a key nobody knows": (lambda f: manifest_with(f, more=1), NO_MANIFEST),
    "another placement": (lambda f: manifest_with(f, placement="suffix"), NO_MANIFEST),
    "another number of tokens": (lambda f: manifest_with(f, num_tokens=4), NO_MANIFEST),
    "another task": (
        lambda f: manifest_with(
            f, task={"classification": "generation", "generation": "classification"}[json.loads(f[MANIFEST])["task"]]
        ),
        NO_MANIFEST,
    ),
    "another path": (lambda f: manifest_with(f, part={"path": "../../etc/passwd"}), NO_MANIFEST),
    "another role": (lambda f: manifest_with(f, part={"role": "adapter"}), NO_MANIFEST),
    "a digest that is none": (lambda f: manifest_with(f, part={"sha256": "0"}), NO_MANIFEST),
    "another digest": (lambda f: manifest_with(f, part={"sha256": "0" * 64}), NOT_VERIFIED + "tensor sha256."),
    "a smaller length": (lambda f: manifest_with(f, part={"length_bytes": 8}), "A file is larger than it may be."),
    "a larger length": (lambda f: manifest_with(f, part={"length_bytes": 10**6}), NOT_VERIFIED + "tensor length."),
    "a length beyond the cap": (lambda f: manifest_with(f, part={"length_bytes": 2**40}), NO_MANIFEST),
    "another number format": (
        lambda f: manifest_with(f, part={"dtype": OTHER[json.loads(f[MANIFEST])["parts"][0]["dtype"]]}),
        NOT_VERIFIED + "tensor length.",
    ),
    "a header with metadata": (
        lambda f: with_header(f, b'{"__metadata__":{"format":"pt"},' + header_and_numbers(f)[0][1:]),
        NOT_VERIFIED + "tensor length.",
    ),
    "a header with the tensor twice": (
        lambda f: with_header(f, header_and_numbers(f)[0].rstrip()[:-1] + b"," + header_and_numbers(f)[0][1:]),
        NOT_VERIFIED + "tensor length.",
    ),
    "a header of another name": (
        lambda f: with_header(f, header_and_numbers(f)[0].replace(b"prompt_embeddings", b"prompt_embeddingz")),
        NOT_VERIFIED + "tensor header.",
    ),
    "a header with a tab": (
        lambda f: with_header(f, header_and_numbers(f)[0].rstrip(b" ").ljust(len(header_and_numbers(f)[0]), b"\t")),
        NOT_VERIFIED + "tensor header.",
    ),
    "NaN among the numbers": (
        lambda f: with_numbers(f, b"\xff" * len(header_and_numbers(f)[1])),
        NOT_VERIFIED + "tensor values.",
    ),
    "infinity among the numbers": (
        lambda f: with_numbers(f, b"\x80\x7f" * (len(header_and_numbers(f)[1]) // 2)),
        NOT_VERIFIED + "tensor values.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
@every_golden
def test_what_was_done_to_it_is_always_told_alike(name, case, tmp_path):
    change, told = REFUSALS[case]
    folder = shutil.copytree(V1 / name, tmp_path / name)
    tampered(change, folder)
    with pytest.raises(VerificationFailed) as caught:
        PromptFile.read(folder)
    assert caught.value.what == told
    assert str(folder) in caught.value.where
    with pytest.raises(VerificationFailed):
        PromptFile.read(folder, expected_digest=GOLDEN[name].digest)


@every_golden
def test_another_prompt_than_was_asked_for_is_refused(name, tmp_path):
    folder = shutil.copytree(V1 / name, tmp_path / name)
    tampered(lambda files: manifest_with(files, base_fingerprint="0" * 64), folder)
    assert PromptFile.read(folder).digest != GOLDEN[name].digest, "whole, but another prompt"
    with pytest.raises(VerificationFailed, match=r"does not verify: manifest digest\."):
        PromptFile.read(folder, expected_digest=GOLDEN[name].digest)


@every_golden
def test_the_tensor_of_another_prompt_is_refused(name, tmp_path):
    for other in set(GOLDEN) - {name}:
        folder = shutil.copytree(V1 / name, tmp_path / f"{name}-{other}")
        shutil.copy(V1 / other / TENSOR, folder)
        with pytest.raises(VerificationFailed, match=r"tensor (sha256|length)\.|larger than it may be"):
            PromptFile.read(folder)
