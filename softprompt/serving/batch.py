"""What a batch is to the engine, which kind a base gets, and which texts are read together."""

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.errors import UnsupportedBaseModel
from softprompt.serving.groups import GroupBatch
from softprompt.serving.rows import Row
from softprompt.serving.slots import SlotBatch

_log = logging.getLogger(__name__)
MAX_PADDING_TOKENS = 32
"""Texts are read together unless one more would pad the others by more than this; another forward costs about as much."""


class RunningBatch(Protocol):
    """Rows that are written together."""

    @property
    def rows(self) -> list[Row]:
        """In the order of the hidden states that `step` gives."""

    @property
    def num_bytes(self) -> int:
        """Memory that keys and values have now."""

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Whether these rows can join and be written to their ends within the bounds."""

    def join(self, rows: Sequence[Row]) -> Tensor:
        """Read rows' texts; returns the hidden states `[b, H]` that predict their first tokens."""

    def step(self) -> Tensor:
        """Every row reads its newest token; returns `[B, H]`."""

    def leave(self, indices: Sequence[int], *, broken: Sequence[int] = ()) -> None:
        """Take rows out; `broken` ones gave no numbers."""

    def clear(self) -> None:
        """Take all rows out."""


def batch_for(base: FrozenBase, max_rows: int, max_bytes: int) -> RunningBatch:
    """The fastest kind of batch that is exact for a base."""
    try:
        return SlotBatch(base, max_rows, max_bytes)
    except UnsupportedBaseModel as error:
        _log.info("rows are written in groups of one prompt: %s", " ".join(str(error).split()))
        return GroupBatch(base, max_rows, max_bytes)


def of_like_length(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that are read together, short ones first, without too much padding."""
    together: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.job.token_ids)):
        if together and len(together) * (len(row.job.token_ids) - len(together[-1].job.token_ids)) > MAX_PADDING_TOKENS:
            yield together
            together = []
        together.append(row)
    if together:
        yield together
