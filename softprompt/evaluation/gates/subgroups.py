"""Rows by the values of the recipe's subgroup columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from softprompt.data.rows import Row
from softprompt.evaluation.observations import Booleans


@dataclass(frozen=True)
class Subgroups:
    """The rows of one column, or of several together, by value.

    Attributes:
        title: The column; of several, joined.
        groups: Name such as `region=north` -> `[n]`, its rows; in the order of the names.
        num_missing: Rows without a value; they belong to no group.
    """

    title: str
    groups: Mapping[str, Booleans]
    num_missing: int


def subgroups_of(rows: Sequence[Row], columns: Sequence[str], *, intersections: bool) -> list[Subgroups]:
    """The rows by each column's values, or by the combinations of all columns' values.

    Args:
        rows: The test rows, `[n]`.
        columns: Subgroup columns.
        intersections: One set of groups, the combinations that occur, instead of one for each column.
    """
    together = [tuple(columns)] if intersections else [(column,) for column in columns]
    return [_grouped(rows, each) for each in together]


def missing_note(subgroups: Sequence[Subgroups]) -> str:
    """How many rows belong to no group, in words; empty: none."""
    return "; ".join(f"{each.num_missing} rows without {each.title} belong to no group" for each in subgroups if each.num_missing)


def _grouped(rows: Sequence[Row], columns: tuple[str, ...]) -> Subgroups:
    names = [_name(row, columns) for row in rows]
    groups = {name: np.array([each == name for each in names]) for name in sorted(set(names)) if name}
    return Subgroups(" and ".join(columns), groups, names.count(""))


def _name(row: Row, columns: tuple[str, ...]) -> str:
    """Empty where a value is missing."""
    values = [(column, row.subgroups.get(column)) for column in columns]
    return ", ".join(f"{column}={value}" for column, value in values) if all(value for _, value in values) else ""
