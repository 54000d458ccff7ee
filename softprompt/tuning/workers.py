"""What the workers of one training exchange: sums of small tensors, and nothing else.

A batch is cut into shards, usually one for each worker. Where the number of workers may change, there are as many shards as there
can be workers, whoever takes part: a worker computes its shards one after the other, and all shards are added up in their order.
Then one worker and eight end with the same bits; sums that a process group adds up differ in the last ones, of which a training
at a usual rate makes another prompt (docs/reliability.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """The workers that share a batch.

    Attributes:
        rank: This worker's number.
        count: How many there are.
        num_shards: Into how many shards a batch is cut, whoever takes part; 0: one for each worker.
    """

    rank: int = 0
    count: int = 1
    num_shards: int = 0

    @classmethod
    def current(cls, num_shards: int = 0) -> "Workers":
        """The workers of torch's process group, or one alone."""
        return cls(dist.get_rank(), dist.get_world_size(), num_shards) if dist.is_initialized() else cls(num_shards=num_shards)

    def shards(self, items: list[T]) -> list[list[T]]:
        """This worker's shards of a batch, some of them empty in a small one; every worker computes the same division."""
        return [items[number :: self.num_shards or self.count] for number in self._numbers]

    def first(self, value: T | None) -> T | None:
        """The value of the first worker that has one, the same for all; they have to be small."""
        if self.count == 1:
            return value
        found: list[T | None] = [None] * self.count
        dist.all_gather_object(found, value)
        return next((value for value in found if value is not None), None)

    def sum(self, shards: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Element-wise sums over all shards of all workers, each value in its own shape, in one exchange.

        Args:
            shards: The values of each of this worker's shards.
        """
        values = shards[0]
        if self.count == len(shards) == 1:
            return list(values)
        flat = torch.stack([torch.cat([value.detach().reshape(-1).float() for value in shard]) for shard in shards])
        total = self._sum_in_order(flat) if self.num_shards else self._all_reduced(flat[0])
        parts = total.split([value.numel() for value in values])
        return [part.reshape(value.shape) for part, value in zip(parts, values, strict=True)]

    def _sum_in_order(self, mine: Tensor) -> Tensor:
        """The sum of all shards, first to last; `mine` are this worker's, one a row."""
        rows = mine.new_zeros(self.num_shards, mine.shape[1])
        rows[list(self._numbers)] = mine
        if self.count > 1:
            self._all_reduced(rows)  # of each number and zeros, which changes none
        total: Tensor = reduce(torch.add, rows)
        return total

    @staticmethod
    def _all_reduced(values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    @property
    def _numbers(self) -> range:
        return range(self.rank, self.num_shards or self.count, self.count)
