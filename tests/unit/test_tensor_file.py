"""Tensor files: ours have one form and no other is believed; others' are read strictly."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.errors import VerificationFailed
from softprompt.tensor_file import MAX_HEADER_BYTES, canonical_header, decode_matrix, encode_matrix, read_tensors

NAME = "prompt_embeddings"
SHAPE = (3, 4)
MATRIX = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
GOOD = encode_matrix(NAME, MATRIX, "float32")
TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decode(data, dtype="float32", shape=SHAPE):
    return decode_matrix(data, NAME, shape, dtype, source="there")


def numbers_of(data: bytes) -> bytes:
    return data[8 + int.from_bytes(data[:8], "little") :]


def with_header(header: str | bytes, numbers: bytes = numbers_of(GOOD)) -> bytes:
    """A safetensors file around a header of our own choice."""
    raw = header.encode() if isinstance(header, str) else header
    return len(raw).to_bytes(8, "little") + raw + numbers


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from(["float32", "bfloat16"]), st.integers(0, 2**32 - 1))
def test_the_canonical_form_is_what_the_safetensors_library_writes_and_reads(shape, dtype, seed):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    ours = encode_matrix(NAME, matrix.numpy(), dtype)
    assert ours == safetensors.torch.save({NAME: matrix.to(TORCH[dtype])})
    theirs = safetensors.torch.load(ours)
    assert list(theirs) == [NAME]
    assert torch.equal(theirs[NAME].float(), torch.from_numpy(decode(ours, dtype, shape)))


def test_float32_keeps_every_bit():
    odd = np.array([[0.0, -0.0, 1e-45, -3.4028235e38]], np.float32)
    assert decode(encode_matrix(NAME, odd, "float32"), shape=(1, 4)).tobytes() == odd.tobytes()


def test_a_matrix_in_another_order_of_memory_is_written_row_by_row():
    assert encode_matrix(NAME, np.asfortranarray(MATRIX), "float32") == GOOD


def entry(name=NAME, dtype="F32", shape="[3,4]", offsets="[0,48]"):
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


CANONICAL = canonical_header(NAME, SHAPE, "float32")[8:]
ESCAPED = NAME.replace("p", chr(92) + "u0070", 1)
OTHER_SPELLINGS = {
    "metadata": '{"__metadata__":{"format":"pt"},' + entry() + "}",
    "empty metadata": '{"__metadata__":{},' + entry() + "}",
    "the name twice": f"{{{entry()},{entry()}}}",
    "a key twice": "{" + entry(shape='[3,4],"shape":[3,4]') + "}",
    "no padding": CANONICAL.rstrip(b" "),
    "more padding": CANONICAL + b" " * 8,
    "padding in front": b" " * 8 + CANONICAL,
    "padding of zeros": CANONICAL.replace(b" ", b"\0") + b"\0" * 8,
    "a tab in it": "{\t" + entry() + "}",
    "another order of keys": f'{{"{NAME}":{{"shape":[3,4],"dtype":"F32","data_offsets":[0,48]}}}}',
    "an escaped name": "{" + entry(name=ESCAPED) + "}",
    "another name": "{" + entry(name="prompt_embedding") + "}",
    "a name with a zero byte": "{" + entry(name=NAME + chr(92) + "u0000") + "}",
    "another shape": "{" + entry(shape="[4,3]") + "}",
    "a shape with a one": "{" + entry(shape="[1,3,4]") + "}",
    "integers": "{" + entry(dtype="I32") + "}",
    "bytes": "{" + entry(dtype="U8", shape="[48]") + "}",
    "an empty tensor beside it": "{" + entry(name="empty", shape="[0,4]", offsets="[48,48]") + "," + entry() + "}",
    "two halves": "{" + entry(shape="[1,4]", offsets="[0,16]") + "," + entry(name="b", shape="[2,4]", offsets="[16,48]") + "}",
    "a gap before it": "{" + entry(shape="[2,4]", offsets="[16,48]") + "}",
    "offsets beyond the end": "{" + entry(offsets="[0,4800000000]") + "}",
    "offsets turned round": "{" + entry(offsets="[48,0]") + "}",
    "a huge shape": "{" + entry(shape="[4611686018427387904,4]") + "}",
    "a negative shape": "{" + entry(shape="[-3,-4]") + "}",
    "NaN for an offset": "{" + entry(offsets="[NaN,48]") + "}",
    "deep nesting": "[" * 50_000,
    "a list": "[]",
    "nothing": "",
}
NOT_SAFETENSORS = (
    "padding of zeros",
    "a gap before it",
    "offsets beyond the end",
    "offsets turned round",
    "a huge shape",
    "a negative shape",
    "a list",
    "nothing",
)


@pytest.mark.parametrize("case", OTHER_SPELLINGS)
def test_another_spelling_is_not_believed_whoever_else_would_read_it(case):
    bad = with_header(OTHER_SPELLINGS[case])
    for data in (bad, bad[: len(GOOD)].ljust(len(GOOD), b"\0")):  # of its own length, and of the right one
        with pytest.raises(VerificationFailed, match=r"tensor (length|header)") as caught:
            decode(data)
        assert "there" in str(caught.value)


@pytest.mark.parametrize("length", [0, 7, 79, 81, 2**31, 2**63, 2**64 - 1])
def test_a_wrong_length_of_the_header_is_not_believed(length):
    with pytest.raises(VerificationFailed, match="tensor header"):
        decode(length.to_bytes(8, "little") + GOOD[8:])


@pytest.mark.parametrize("data", [b"", GOOD[:4], GOOD[:-1], GOOD[:-4], GOOD + b"\0", GOOD + GOOD, GOOD[:8]])
def test_another_length_is_not_believed(data):
    with pytest.raises(VerificationFailed, match="tensor length"):
        decode(data)


@given(st.binary(max_size=400))
def test_random_bytes_are_neither_ours_nor_read_and_never_crash(data):
    with pytest.raises(VerificationFailed):
        decode(data)
    with pytest.raises(VerificationFailed):
        read_tensors(data, source="there")


@settings(max_examples=300)
@given(st.data())
def test_a_mutation_is_believed_only_where_it_changed_a_number(data):
    """Whatever is believed is byte for byte what its numbers are written as."""
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    place = data.draw(st.integers(0, len(changed)))
    changed[place:place] = data.draw(st.sampled_from([b"", b"", b"", b" ", b"\0\0\0\0"]))
    try:
        found = decode(bytes(changed))
    except VerificationFailed:
        return
    assert encode_matrix(NAME, found, "float32") == changed
    assert changed[: -MATRIX.nbytes] == GOOD[: -MATRIX.nbytes]


class TestOthersFiles:
    """`read_tensors`."""

    def test_gives_every_tensor_as_float32_with_what_it_was_stored_as(self):
        tensors = {
            "a": torch.arange(6.0).reshape(2, 3),
            "b": torch.tensor([1.5, -2.0]).half(),
            "c": torch.tensor([[[0.1]]]).bfloat16(),
        }
        found = read_tensors(safetensors.torch.save(tensors, metadata={"format": "pt"}), source="there")
        assert {name: stored.dtype for name, stored in found.items()} == {"a": "F32", "b": "F16", "c": "BF16"}
        for name, tensor in tensors.items():
            assert torch.equal(torch.from_numpy(found[name].values), tensor.float())

    @pytest.mark.parametrize(
        "case", ["metadata", "no padding", "more padding", "padding in front", "a tab in it", "another order of keys"]
    )
    def test_another_spelling_of_the_same_matrix_is_the_same_matrix(self, case):
        found = read_tensors(with_header(OTHER_SPELLINGS[case]), source="there")
        assert np.array_equal(found[NAME].values, MATRIX)

    @pytest.mark.parametrize("case", ["the name twice", "a key twice", "NaN for an offset", "deep nesting"])
    def test_a_header_that_is_not_strict_json_is_refused_though_the_library_may_read_it(self, case):
        with pytest.raises(VerificationFailed, match="not strict JSON"):
            read_tensors(with_header(OTHER_SPELLINGS[case]), source="there")

    @pytest.mark.parametrize("case", NOT_SAFETENSORS)
    def test_what_is_not_safetensors_is_refused(self, case):
        with pytest.raises(VerificationFailed):
            read_tensors(with_header(OTHER_SPELLINGS[case]), source="there")

    def test_a_header_beyond_its_cap_is_refused_before_it_is_parsed(self):
        entries = {f"tensor-{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(2000)}
        header = json.dumps(entries)
        assert len(header) > MAX_HEADER_BYTES
        with pytest.raises(VerificationFailed, match="larger than it may be"):
            read_tensors(with_header(header, b""), source="there")

    @pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.uint8, torch.bool])
    def test_other_kinds_of_numbers_are_refused_by_name(self, dtype):
        with pytest.raises(VerificationFailed) as caught:
            read_tensors(safetensors.torch.save({"a": torch.ones(2).to(dtype)}), source="there")
        assert "there, tensor a" in caught.value.where
