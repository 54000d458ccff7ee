"""Which group each training row belongs to: one number a row beside the rows in tokens, read only where fairness is asked for."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softprompt.data.dataset import read_subgroups
from softprompt.errors import InvalidRecipe

LEAST_ROWS = 30
"""A group with fewer training rows, or a rate of fewer validation rows, takes no part: it would be noise."""


@dataclass(frozen=True)
class Groups:
    """The groups of one subgroup column.

    Attributes:
        names: Sorted.
        train: `[R]` place of each training row's group in `names`; -1 where its group is too small.
    """

    names: tuple[str, ...]
    train: NDArray[np.int16]

    @classmethod
    def read(cls, dataset: Path, column: str) -> "Groups":
        """The groups of a dataset artifact's training rows.

        Raises:
            InvalidRecipe: There are not two groups of enough rows.
        """
        values = read_subgroups(dataset, "train", column)
        counts = Counter(values)
        names = tuple(sorted(name for name, count in counts.items() if count >= LEAST_ROWS))
        if len(names) < 2:
            raise InvalidRecipe(
                "There are no groups to treat alike.",
                where=f"training.fairness.column: {column}",
                expected=f"two groups or more of at least {LEAST_ROWS} training rows each",
                actual=", ".join(f"{name!r} {count}" for name, count in counts.most_common(10)),
                hint="Name another column, or leave training.fairness out.",
            )
        groups = cls(names, np.empty(0, np.int16))
        return cls(names, np.fromiter((groups.place(value) for value in values), np.int16, len(values)))

    def place(self, value: str) -> int:
        """A group's place in `names`; -1 for one that is not there."""
        return self.names.index(value) if value in self.names else -1
