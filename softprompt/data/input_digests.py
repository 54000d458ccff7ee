"""Which inputs a prompt has seen, as a compact file: evidence of a published prompt, by which later test rows are told apart.

Eight bytes of each `Row.input_digest`, sorted, so that the file does not depend on the order of the rows and gives away no text.
Two different inputs share them with a probability of 2^-64.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softprompt.data.dataset import iter_part
from softprompt.data.rows import Row
from softprompt.errors import VerificationFailed

Digests = NDArray[np.uint64]
DIGITS = 16
"""Hexadecimal digits that are kept of a digest."""
STORED = np.dtype(">u8")
MOST_DIGESTS = 4_000_000
"""32 MB; the inputs of a larger dataset are not kept."""


def digests_of(rows: Iterable[Row]) -> Digests:
    """The digest of each row's input, `[R]`, in the rows' order."""
    return np.fromiter((int(row.input_digest[:DIGITS], 16) for row in rows), np.uint64)


def seen_inputs(dataset: Path) -> bytes | None:
    """The inputs that a prompt sees while it is tuned on a dataset artifact: of training rows, and of validation rows, too.

    Validation rows pick the checkpoint, so a prompt does better on them than on rows that are new to it.

    Returns:
        The file's bytes; None where there are more than `MOST_DIGESTS`.
    """
    digests = np.unique(digests_of(chain(iter_part(dataset, "train"), iter_part(dataset, "validation"))))
    return digests.astype(STORED).tobytes() if len(digests) <= MOST_DIGESTS else None


def read_seen_inputs(data: bytes, *, source: str) -> Digests:
    """The digests in a file, sorted. VerificationFailed: it is not such a file."""
    digests = np.frombuffer(data[: len(data) // STORED.itemsize * STORED.itemsize], STORED).astype(np.uint64)
    if len(data) % STORED.itemsize or bool((digests[1:] <= digests[:-1]).any()):
        raise VerificationFailed(
            "A file of seen inputs does not verify.", where=source, expected="ascending numbers of eight bytes"
        )
    return digests


def is_among(digests: Digests, known: Digests) -> NDArray[np.bool_]:
    """`[R]`, which digests are among the known ones."""
    return np.isin(digests, known)
