"""What checks look at: rows, what was measured of them, their parts and clusters; and how a check says what it found."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from softprompt.data.measure import Measures
from softprompt.data.rows import MOST_PLACES, PARTS, Finding, Part, Row, Severity
from softprompt.data.split import leaders, moved
from softprompt.data.table import RowTable
from softprompt.data.text.personal_data import mask
from softprompt.documents import canonical_json
from softprompt.recipe import Recipe
from softprompt.recipe.dataset import FindingActions, RowAction

Rows = NDArray[np.int64]
NO_ROWS: Rows = np.zeros(0, np.int64)
Detail = Callable[[int, Row], str]
"""(place in the table, row) -> what is there."""
ROW_CHECKS = frozenset(name for name, key in FindingActions.model_fields.items() if "drop" in get_args(key.annotation))
"""Checks whose findings are mended by leaving their rows out; those of the others are about the set as a whole."""


@dataclass(frozen=True)
class Found:
    """What a check found.

    Attributes:
        check: Its name, a key of `dataset.on_finding`.
        message: What is wrong, and what to do.
        rows: Places in the table of the rows concerned, in order.
        detail: Says what is in one of them.
        severity: Where the recipe's wish does not count.
    """

    check: str
    message: str
    rows: Rows = field(default_factory=lambda: NO_ROWS)
    detail: Detail | None = None
    severity: Severity | None = None

    def said_of(self, place: int, row: Row) -> str:
        """What is in one of the rows, personal data masked."""
        return mask(self.detail(place, row)) if self.detail else ""


@dataclass
class Examined:
    """A dataset under examination.

    Attributes:
        recipe: What is wanted of it.
        table: Its rows.
        measures: Numbers of each row.
        part: `[R]` part of each row, as a place in `PARTS`.
        near: `[R]` the same number for rows with almost the same input.
        cluster: `[R]` the same number for rows that the split keeps together.
        free: `[R]` whether a row's part was ours to choose; else the data say it.
        kept: `[R]` whether a row is still in; checks drop rows by clearing it.
        mends: Whether rows that would refuse the dataset are left out instead.
        dropped_by: `[R]` what dropped a row, as a place in `drops`; -1: nothing.
    """

    recipe: Recipe
    table: RowTable
    measures: Measures
    part: NDArray[np.int8]
    near: NDArray[np.int64]
    cluster: NDArray[np.int64]
    free: NDArray[np.bool_]
    mends: bool = False
    kept: NDArray[np.bool_] = field(init=False)
    dropped_by: NDArray[np.int16] = field(init=False)
    drops: list[Found] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = np.ones(len(self.table), bool)
        self.dropped_by = np.full(len(self.table), -1, np.int16)

    @property
    def num_rows(self) -> int:
        """Rows that are still in."""
        return int(self.kept.sum())

    @property
    def num_rows_by_part(self) -> dict[Part, int]:
        """Part -> rows that are still in."""
        return dict(zip(PARTS, np.bincount(self.part[self.kept], minlength=len(PARTS)).tolist(), strict=True))

    @cached_property
    def _labels(self) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Every different answer, sorted, and each row's place among them."""
        encoded = self.table.column("target").combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), np.int32)
        rank[order] = np.arange(len(names), dtype=np.int32)
        codes = rank[encoded.indices.to_numpy()] if len(names) else np.zeros(0, np.int32)
        return tuple(names[place] for place in order), codes

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every different answer of a classification, sorted."""
        return self._labels[0]

    @property
    def label(self) -> NDArray[np.int32]:
        """`[R]` each row's label, as a place in `label_names`."""
        return self._labels[1]

    def rows_of(self, *parts: int) -> Rows:
        """Places of the rows that are still in, of some parts; of all where none is named."""
        chosen = self.kept & np.isin(self.part, parts) if parts else self.kept
        return np.nonzero(chosen)[0]

    def counts_by_label(self, *parts: int) -> NDArray[np.int64]:
        """`[labels]` rows of each label."""
        return np.bincount(self.label[self.rows_of(*parts)], minlength=len(self.label_names))

    def take(self, rows: Rows | Sequence[int]) -> list[Row]:
        """Rows by their places, in their parts."""
        return self.table.take(rows, self.part)

    def by_content(self, rows: Rows) -> Rows:
        """Places among these rows, in an order that follows from what they say, not from where they stand in their files."""
        said = [canonical_json([row.inputs, row.target, row.subgroups, row.must_pass]) for row in self.take(rows)]
        return np.array(sorted(range(len(rows)), key=said.__getitem__), np.int64)

    def by_digest(self, rows: Rows) -> Rows:
        """These rows in an order that follows from what they say but for case and white space: quicker than `by_content`."""
        return rows[np.lexsort((self.measures.target_digest[rows], self.measures.input_digest[rows]))]

    def texts(self, rows: Rows | Sequence[int]) -> list[str]:
        """The inputs of some rows, columns joined by line ends."""
        return ["\n".join(row.inputs.values()) for row in self.table.take(rows)]

    def sample(self, rows: Rows, most: int) -> Rows:
        """At most so many of these rows, chosen by their content and the split's seed, in table order."""
        if len(rows) <= most:
            return rows
        # Digits of the dice that the split did not use, so that the sample is no slice of one part.
        lot = np.modf(self.measures.place[rows] * 2.0**20)[0]
        return np.sort(rows[np.lexsort((rows, self.measures.input_digest[rows], lot))[:most]])

    def record(self, found: Found) -> None:
        """Act on a finding as the recipe says, and keep it."""
        severity = self.severity_of(found.check, found.severity)
        if severity == "ignore":
            return
        message = found.message
        if severity == "drop":
            self.drop(found)
            message += " They were left out." if len(found.rows) > 1 else " It was left out."
        first = found.rows[:MOST_PLACES]
        rows = self.take(first)
        details = tuple(found.said_of(*item) for item in zip(first.tolist(), rows, strict=True)) if found.detail else ()
        places = tuple(row.place for row in rows)
        # Whatever a check says: labels, groups and phrases may hold personal data, too.
        self.findings.append(Finding(found.check, severity, mask(message), len(found.rows), places, details))

    def action(self, check: str) -> RowAction:
        """What the recipe wants done about a check's findings."""
        action: RowAction = getattr(self.recipe.dataset.on_finding, check)
        return action

    def severity_of(self, check: str, given: Severity | None = None) -> RowAction:
        """What a finding leads to: what is given or else the recipe's wish; where rows are mended, dropping what would refuse.

        Args:
            check: Name of the check.
            given: Where the recipe's wish does not count.
        """
        wanted = given or self.action(check)
        return "drop" if wanted == "refuse" and self.mends and check in ROW_CHECKS else wanted

    def drop(self, found: Found) -> None:
        """Leave a finding's rows out, and remember why."""
        fresh = found.rows[self.kept[found.rows]]
        self.kept[fresh] = False
        self.dropped_by[fresh] = len(self.drops)
        self.drops.append(found)

    @property
    def num_dropped(self) -> dict[str, int]:
        """Check -> rows that it left out."""
        places, counts = np.unique(self.dropped_by[self.dropped_by >= 0], return_counts=True)
        found: Counter[str] = Counter()
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            found[self.drops[place].check] += count
        return dict(sorted(found.items()))

    def moved_rows(self) -> tuple[Rows, Rows]:
        """Rows in another part than their own draw says because their cluster stays together, and each one's leader."""
        (free,) = np.nonzero(self.free)
        spec, place = self.recipe.dataset.split, self.measures.place[free]
        some = moved(place, self.part[free], spec)
        some = some[self.kept[free[some]]]
        leader = leaders(self.measures.input_digest[free], self.cluster[free])
        return free[some], free[leader[some]]

    @property
    def refused(self) -> bool:
        """Whether a finding refuses the dataset."""
        return any(found.severity == "refuse" for found in self.findings)


def shown(text: str, most: int = 40) -> str:
    """The beginning of a text in quotes, personal data masked before it is cut."""
    return repr(mask(text[: 10 * most])[:most])


def rows_that(count: int, one: str, many: str) -> str:
    """`One row repeats`, `12 rows repeat`."""
    return f"One row {one}" if count == 1 else f"{count:,} rows {many}"
