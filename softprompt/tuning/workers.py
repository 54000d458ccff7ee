"""What the workers of one training exchange: sums of small tensors, and nothing else."""

from dataclasses import dataclass
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
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> "Workers":
        """The workers of torch's process group, or one alone."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    def share(self, items: list[T]) -> list[T]:
        """This worker's part of a batch; every worker computes the same division."""
        return items[self.rank :: self.count]

    def first(self, value: T | None) -> T | None:
        """The value of the first worker that has one, the same for all; they have to be small."""
        if self.count == 1:
            return value
        found: list[T | None] = [None] * self.count
        dist.all_gather_object(found, value)
        return next((value for value in found if value is not None), None)

    def sum(self, *values: Tensor) -> list[Tensor]:
        """Element-wise sums over all workers, each value in its own shape, in one exchange."""
        if self.count == 1:
            return list(values)
        flat = torch.cat([value.detach().reshape(-1).float() for value in values])
        dist.all_reduce(flat)
        parts = flat.split([value.numel() for value in values])
        return [part.reshape(value.shape) for part, value in zip(parts, values, strict=True)]
