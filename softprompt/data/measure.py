"""What each row says about itself, in numbers: computed a batch at a time, by this process or by Ray Data's, the same code.

Checks then work on these arrays (some 170 bytes a row), and read a row's text again only to show it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from softprompt.data.near import NUM_HASHES, signatures
from softprompt.data.rows import normalised
from softprompt.data.table import INPUT
from softprompt.data.text.flags import text_flags
from softprompt.documents import canonical_json, sha256_hex


@dataclass(frozen=True)
class Measures:
    """Numbers of R rows.

    Attributes:
        input_digest: `[R]` first 64 bits of the rows' `input_digest`.
        target_digest: `[R]` first 64 bits of the sha256 of the answer.
        place: `[R]` in [0, 1): where the split's dice put each row by itself.
        characters: `[R]` length of the inputs.
        num_bytes: `[R]` UTF-8 bytes of inputs and answer.
        flags: `[R]` bits of `TextFlag` over inputs and answer.
        signature: `[R, 32]` MinHash of the inputs.
    """

    input_digest: NDArray[np.uint64]
    target_digest: NDArray[np.uint64]
    place: NDArray[np.float64]
    characters: NDArray[np.int32]
    num_bytes: NDArray[np.int32]
    flags: NDArray[np.uint32]
    signature: NDArray[np.uint32]

    @classmethod
    def joined(cls, pieces: Iterable[Mapping[str, NDArray[Any]]]) -> Self:
        """Those of all rows from those of the batches, in order."""
        found = list(pieces) or [{field.name: EMPTY[field.name] for field in fields(cls)}]
        return cls(**{field.name: np.concatenate([piece[field.name] for piece in found]) for field in fields(cls)})

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Those of some rows."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


EMPTY: dict[str, NDArray[Any]] = {
    "input_digest": np.zeros(0, np.uint64),
    "target_digest": np.zeros(0, np.uint64),
    "place": np.zeros(0, np.float64),
    "characters": np.zeros(0, np.int32),
    "num_bytes": np.zeros(0, np.int32),
    "flags": np.zeros(0, np.uint32),
    "signature": np.zeros((0, NUM_HASHES), np.uint32),
}


class Measurer:
    """Measures batches of rows.

    Args:
        split_seed: Of the split's dice.
    """

    def __init__(self, split_seed: int) -> None:
        self._seed = split_seed

    def __call__(self, batch: pa.RecordBatch) -> dict[str, NDArray[Any]]:
        """The fields of `Measures` for the rows of a batch."""
        inputs = {
            name.removeprefix(INPUT): batch.column(name).to_pylist() for name in batch.schema.names if name.startswith(INPUT)
        }
        targets: list[str] = batch.column("target").to_pylist()
        columns = list(inputs.values())
        rows = list(zip(*columns, targets, strict=True))
        plain = [[normalised(text) for text in column] for column in columns]
        digests = [sha256_hex(canonical_json(dict(zip(inputs, cells, strict=True)))) for cells in zip(*plain, strict=True)]
        lengths = np.array([[len(text) for text in column] for column in columns], np.int32).sum(0, dtype=np.int32)
        return {
            "input_digest": np.array([int(digest[:16], 16) for digest in digests], np.uint64),
            "target_digest": np.array([int(sha256_hex(target.encode())[:16], 16) for target in targets], np.uint64),
            "place": np.array([place_of(digest, self._seed) for digest in digests], np.float64),
            "characters": lengths,
            "num_bytes": np.array([sum(len(text.encode()) for text in cells) for cells in rows], np.int32),
            "flags": np.array([_flags(cells) for cells in rows], np.uint32),
            "signature": signatures(["\n".join(cells) for cells in zip(*plain, strict=True)]),
        }


def place_of(input_digest: str, seed: int) -> float:
    """Where the dice put an input, in [0, 1): the same for the same content and seed, whatever other rows there are."""
    return int(sha256_hex(f"{seed}/{input_digest}".encode())[:13], 16) / 16**13


def _flags(texts: Iterable[str]) -> int:
    found = 0
    for text in texts:
        found |= int(text_flags(text))
    return found
