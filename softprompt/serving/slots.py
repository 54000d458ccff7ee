"""Continuous batching: rows of many prompts in one cache, which they join and leave between steps.

Each row has a slot: its prompt's keys and values, then those of its text, one place after the other, so a place *is* a position.
Prompts of every length and kind, and the bare base, then differ only in how many places a row has when it joins; what a row may
see is a comparison of places with its own position, sliding windows included, and padding is never seen. Rows that join are
read together, padded on the right; padding is not stored.

The base runs as it is, through the cache's own interface. Whether that is exact is asked of the model itself when the batch is
made (`softprompt.serving.slot_check`): what it gives for ragged rows must be what it gives for each row alone.
"""

from collections.abc import Sequence

from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.serving.rows import Row
from softprompt.serving.slot_check import exact_runner

ROOM_PLACES = 64
"""Slots grow by multiples of this."""


class SlotBatch:
    """Rows of one causal base that are written together.

    Args:
        base: The base model.
        max_rows: Most rows at once.
        max_bytes: Most memory for keys and values.

    Attributes:
        rows: In the order of their slots.

    Raises:
        UnsupportedBaseModel: It would not be exact for this base.
    """

    def __init__(self, base: FrozenBase, max_rows: int, max_bytes: int) -> None:
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._runner = exact_runner(base)
        self.rows: list[Row] = []

    @property
    def num_bytes(self) -> int:
        """Memory that keys and values have now."""
        return self._runner.num_bytes

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Whether these rows can join and be written to their ends within the bounds."""
        places = max(row.most_places for row in (*self.rows, *rows))
        count = len(self.rows) + len(rows)
        return count <= self._max_rows and count * places * self._runner.place_bytes <= self._max_bytes

    def join(self, rows: Sequence[Row]) -> Tensor:
        """Read rows' texts behind their prompts; returns the hidden states `[b, H]` that predict their first tokens."""
        first = len(self.rows)
        self._reserve(first + len(rows), max(row.num_read for row in rows))
        for slot, row in enumerate(rows, first):
            self._runner.put_prompt(slot, row.prefix)
        hidden = self._runner.read(first, [row.job.token_ids for row in rows], [row.prefix.num_tokens for row in rows])
        self.rows += rows
        return hidden

    def step(self) -> Tensor:
        """Every row reads its newest token; returns `[B, H]`."""
        starts = [row.position for row in self.rows]
        self._reserve(len(self.rows), max(starts) + 1)
        hidden = self._runner.read(0, [(row.last_token,) for row in self.rows], starts)
        for row in self.rows:
            row.position += 1
        return hidden

    def leave(self, indices: Sequence[int], *, broken: Sequence[int] = ()) -> None:
        """Take rows out, the last rows moving into their slots; `broken` ones leave nothing that could spoil another."""
        for index in sorted(indices, reverse=True):
            last = len(self.rows) - 1
            if index in broken:
                self._runner.wipe(index)
            if index != last:
                self._runner.move(last, index, self.rows[last].position)
            self.rows[index] = self.rows[last]
            self.rows.pop()

    def clear(self) -> None:
        """Take all rows out and free their memory."""
        self.rows = []
        self._runner.resize(0, 0, 0)

    def _reserve(self, num_slots: int, num_places: int) -> None:
        """Room for so many slots of so many places: more than that while it fits, so that room seldom has to be made."""
        old_slots, old_places = self._runner.size
        if num_slots <= old_slots and num_places <= old_places:
            return
        num_places = max([num_places, *(row.position for row in self.rows)])
        slots = max(old_slots, min(self._max_rows, 1 << (num_slots - 1).bit_length()))
        places = max(old_places, -(-num_places // ROOM_PLACES) * ROOM_PLACES)
        if slots * places * self._runner.place_bytes > self._max_bytes:
            slots, places = num_slots, num_places
        self._runner.resize(slots, places, len(self.rows))
