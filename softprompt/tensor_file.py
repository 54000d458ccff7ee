"""Tensor files without torch: the one canonical form of a matrix, and a strict reading of what others wrote.

A safetensors file is eight bytes with the header's length, a header in JSON, and the numbers. One matrix can be written in many
ways: with metadata, other spaces, another order of keys. Here it has exactly one, and that one is built in this module and by no
library: a digest over it cannot change with a library's version, and a file is held against it byte by byte before anything in
it is parsed. What PEFT wrote has no such form; it is read with the safetensors library after a look at its header.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import safetensors
from numpy.typing import NDArray

from softprompt.documents import parse_json
from softprompt.errors import VerificationFailed

Dtype = Literal["float32", "bfloat16"]
Float32Array = NDArray[np.float32]

STORED: dict[Dtype, str] = {"float32": "F32", "bfloat16": "BF16"}
"""What the format calls them."""
NUM_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
MAX_HEADER_BYTES = 64 * 1024
"""Of somebody else's file; a handful of tensors need a thousand."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of somebody else's file.

    Attributes:
        dtype: As it was stored: `F32`, `F16` or `BF16`.
        values: The same numbers as float32.
    """

    dtype: str
    values: Float32Array


def encode_matrix(name: str, matrix: Float32Array, dtype: Dtype) -> bytes:
    """The canonical file of one matrix; numbers are rounded to nearest even where `dtype` is bfloat16."""
    numbers = matrix.astype("<f4") if dtype == "float32" else _to_bfloat16(matrix).astype("<u2")
    return canonical_header(name, matrix.shape, dtype) + numbers.tobytes()


def decode_matrix(data: bytes, name: str, shape: tuple[int, int], dtype: Dtype, *, source: str) -> Float32Array:
    """The numbers of a canonical file.

    Args:
        data: The file.
        name: What the tensor must be called.
        shape: What its shape must be.
        dtype: What its numbers must be stored as.
        source: Where the file comes from, for messages.

    Returns:
        `shape`, float32; NaN and infinity pass.

    Raises:
        VerificationFailed: It is not byte for byte what `encode_matrix` writes.
    """
    header = canonical_header(name, shape, dtype)
    expected_bytes = len(header) + shape[0] * shape[1] * NUM_BYTES[dtype]
    if len(data) != expected_bytes:
        raise _not_canonical("length", source, f"{expected_bytes} bytes", f"{len(data)} bytes")
    if data[: len(header)] != header:
        raise _not_canonical("header", source, repr(header), repr(data[: len(header)]))
    return _numbers(memoryview(data)[len(header) :], STORED[dtype]).reshape(shape)


def canonical_header(name: str, shape: tuple[int, ...], dtype: Dtype) -> bytes:
    """The bytes before the numbers, as safetensors 0.8 writes them: keys in this order, spaces up to a multiple of eight."""
    sizes, num_bytes = ",".join(map(str, shape)), int(np.prod(shape, dtype=object)) * NUM_BYTES[dtype]
    text = f'{{"{name}":{{"dtype":"{STORED[dtype]}","shape":[{sizes}],"data_offsets":[0,{num_bytes}]}}}}'.encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_tensors(data: bytes, *, source: str) -> dict[str, StoredTensor]:
    """All tensors of a safetensors file that somebody else wrote.

    Args:
        data: The file.
        source: Where it comes from, for messages.

    Raises:
        VerificationFailed: It is not safetensors, its header is too large or names something twice, or numbers are not floating
            point.
    """
    header_bytes = int.from_bytes(data[:8], "little")
    parse_json(data[8 : 8 + min(header_bytes, MAX_HEADER_BYTES + 1)], source=f"{source}, header", max_bytes=MAX_HEADER_BYTES)
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise VerificationFailed("A tensor file is not safetensors.", where=source, actual=str(error)) from None
    return {name: _stored(name, entry["dtype"], entry["shape"], bytes(entry["data"]), source) for name, entry in entries}


def _stored(name: str, dtype: str, shape: list[int], raw: bytes, source: str) -> StoredTensor:
    if dtype not in ("F32", "F16", "BF16"):
        raise VerificationFailed(
            "A tensor holds something other than floating-point numbers of up to 32 bits.",
            where=f"{source}, tensor {name}",
            expected="F32, F16 or BF16",
            actual=dtype,
        )
    return StoredTensor(dtype, _numbers(raw, dtype).reshape(shape))


def _numbers(raw: bytes | memoryview, dtype: str) -> Float32Array:
    """Little-endian numbers as float32; numpy has no bfloat16, which is the upper half of a float32."""
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, dtype={"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def _to_bfloat16(matrix: Float32Array) -> NDArray[np.uint16]:
    """Round finite float32 to the nearest bfloat16, ties to even, as 16-bit integers."""
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _not_canonical(what: str, source: str, expected: str, actual: str) -> VerificationFailed:
    return VerificationFailed(
        f"A prompt does not verify: tensor {what}.",
        where=source,
        expected=expected,
        actual=actual,
        hint="Do not use it; fetch it again.",
    )
