"""Keys and values of rows in slots: a cache that the base's layers write to and read from through transformers' own interface."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.cache_utils import CacheLayerMixin


@dataclass(frozen=True)
class Where:
    """What one forward reads and writes: slots `first` to `first + count`, their first `width` places."""

    first: int
    count: int
    width: int
    slots: Tensor
    places: Tensor
    is_text: Tensor | None
    """`[count, T]`, False on padding; None: there is none. `slots` and `places` name each text token's, in this order."""


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values of all rows.

    Args:
        keys, values: As the model makes them, `[1, N, T, D]`.

    Attributes:
        rooms: Keys, then values, each `[slots, N, places, D]`.
        where: What the next forward reads and writes.
    """

    where: Where

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Zeros, never empty memory: what a mask hides is multiplied by 0, and 0 times NaN is NaN.
        self.rooms = [like.new_zeros(0, like.shape[1], 0, like.shape[3]) for like in (keys, values)]
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """It is there from the beginning."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store what was read in its rows' places, and give these rows' keys and values."""
        where = self.where
        for room, new in zip(self.rooms, (key_states, value_states), strict=True):
            rows = new.transpose(1, 2)
            room[where.slots, :, where.places] = rows.flatten(0, 1) if where.is_text is None else rows[where.is_text]
        part = slice(where.first, where.first + where.count)
        return self.rooms[0][part, :, : where.width], self.rooms[1][part, :, : where.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Masks are ours."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Positions are ours."""
        return 0

    def get_max_length(self) -> int:
        """It grows."""
        return -1

    def resize(self, num_slots: int, num_places: int, num_kept: int) -> None:
        """Other room for the same first `num_kept` rows."""
        for index, old in enumerate(self.rooms):
            new = old.new_zeros(num_slots, old.shape[1], num_places, old.shape[3])
            width = min(num_places, old.shape[2])
            new[:num_kept, :, :width] = old[:num_kept, :, :width]
            self.rooms[index] = new
