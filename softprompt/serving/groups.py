"""The simple path: rows that came together are written together, and nobody joins them later.

For encoder-decoder models and for any base whose rows `softprompt.serving.slots` refuses. Rows of one prompt that wait together
make a group, of equal length where the strategy reads no padding; several groups take their steps in turn.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import pad
from softprompt.engine.strategy import State
from softprompt.serving.rows import Row


@dataclass
class _Group:
    rows: list[Row]
    state: State


class GroupBatch:
    """Rows of one base in groups; what `SlotBatch` does, without joining.

    Args:
        base: The base model.
        max_rows: Most rows at once.
        max_bytes: Most memory for what the rows have read.
    """

    def __init__(self, base: FrozenBase, max_rows: int, max_bytes: int) -> None:
        self._base, self._max_rows, self._max_bytes = base, max_rows, max_bytes
        self._groups: list[_Group] = []
        config = base.model.config.get_text_config(decoder=True)
        # Keys and values are at most as wide as the hidden states in the models that come here, in every layer.
        self._place_bytes: int = 2 * config.num_hidden_layers * base.hidden_size * base.model.dtype.itemsize

    @property
    def rows(self) -> list[Row]:
        """Group after group."""
        return [row for group in self._groups for row in group.rows]

    @property
    def num_bytes(self) -> int:
        """An estimate of what the rows have read so far."""
        return sum(row.position for row in self.rows) * self._place_bytes

    def has_room(self, rows: Sequence[Row]) -> bool:
        """Whether these rows can join and be written to their ends within the bounds."""
        together = [*self.rows, *rows]
        return len(together) <= self._max_rows and sum(row.most_places for row in together) * self._place_bytes <= self._max_bytes

    def join(self, rows: Sequence[Row]) -> Tensor:
        """Read rows' texts behind their prompts; returns the hidden states `[b, H]` that predict their first tokens."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            alike[id(row.prefix), 0 if row.strategy.pads else len(row.job.token_ids)].append(index)
        begun: list[_Group] = []
        found: dict[int, Tensor] = {}
        for indices in alike.values():
            group = [rows[index] for index in indices]
            hidden, state = self._start(group)
            begun.append(_Group(group, state))
            found |= zip(indices, hidden, strict=True)
        self._groups += begun
        return torch.stack([found[index] for index in range(len(rows))])

    def step(self) -> Tensor:
        """Every row reads its newest token; returns `[B, H]`."""
        return torch.cat([self._extend(group) for group in self._groups])

    def leave(self, indices: Sequence[int], *, broken: Sequence[int] = ()) -> None:
        """Take rows out."""
        gone = {id(row) for index, row in enumerate(self.rows) if index in indices}
        for group in self._groups:
            kept = [index for index, row in enumerate(group.rows) if id(row) not in gone]
            if kept and len(kept) < len(group.rows):
                group.state = group.state.keep(torch.tensor(kept, device=self._base.model.device))
            group.rows = [group.rows[index] for index in kept]
        self._groups = [group for group in self._groups if group.rows]

    def clear(self) -> None:
        """Take all rows out."""
        self._groups = []

    def _start(self, group: list[Row]) -> tuple[Tensor, State]:
        ids, is_text = pad([row.job.token_ids for row in group], self._base.model.device)
        lengths = None if bool(is_text.all()) else is_text.sum(dim=1)
        return group[0].strategy.start(group[0].prefix, ids, lengths)

    def _extend(self, group: _Group) -> Tensor:
        tokens = torch.tensor([[row.last_token] for row in group.rows], device=self._base.model.device)
        for row in group.rows:
            row.position += 1
        return group.state.extend(tokens)[:, -1]
