"""From several measurements, such as one for each slice or pair of groups, to one gate's result.

The gate passes where every part that is judged passes at the gate's own level. This is an intersection-union test (Berger 1982):
passing by mistake is no likelier than for one part alone, however many there are, so that nothing is corrected. What is not
protected is the other side: each part that is right on the edge may be rejected by mistake, so that of many parts one is likelier
to be than the level says. A gate that errs rather refuses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from softprompt.evaluation.gate_report import GatePart, GateResult, Verdict
from softprompt.evaluation.gates.outcome import Holds, at_least, not_measured, outcome, rows_to_decide
from softprompt.evaluation.intervals import Interval
from softprompt.evaluation.metrics.classification import hits
from softprompt.evaluation.observations import Booleans, Observations
from softprompt.recipe.gates import FairnessGate, SlicesGate

MOST_ROW_IDS = 100
MOST_NAMES = 5
"""Names in a note; the parts have them all."""


@dataclass(frozen=True)
class Part:
    """One measurement behind a gate.

    Attributes:
        name: Of the slice, or of the pair.
        interval: Its measurement; None: too few rows to judge.
        rows: `[n]`, the rows behind it.
    """

    name: str
    interval: Interval | None
    rows: Booleans

    @property
    def num_rows(self) -> int:
        """Rows behind it."""
        return int(self.rows.sum())

    @property
    def reported(self) -> GatePart:
        """As it stands in the report."""
        found = self.interval
        numbers = {"estimate": None, "low": None, "high": None} if found is None else vars(found)
        return GatePart(name=self.name, num_rows=self.num_rows, judged=found is not None, **numbers)


def outcome_of_parts(
    gate: SlicesGate | FairnessGate,
    seen: Observations,
    *,
    rule: str,
    threshold: float,
    holds: Holds,
    parts: Sequence[Part],
    gaps: Iterable[str],
    notes: Iterable[str],
) -> GateResult:
    """The result of a gate with several measurements; its numbers are the worst part's.

    Args:
        gate: The gate.
        seen: What was seen.
        rule: In words.
        threshold: What each part is held against.
        holds: `at_least` or `at_most`.
        parts: The measurements.
        gaps: Sentences on what ought to have been judged and could not be: with one of these the gate does not pass.
        notes: Sentences on what a reviewer should know besides.
    """
    gaps, floor = list(gaps), holds is at_least
    judged = sorted(
        ((part.interval, part) for part in parts if part.interval), key=lambda each: each[0].estimate, reverse=not floor
    )
    unjudged = [part for part in parts if not part.interval]
    reported = tuple(part.reported for part in [*(part for _, part in judged), *unjudged])
    note = "; ".join(filter(None, [*gaps, _too_few(unjudged), *notes]))
    if not judged:
        return not_measured(gate, rule=rule, threshold=threshold, note=note, parts=reported)
    statuses = [holds(found, threshold) for found, _ in judged]
    status = _together(statuses)
    interval, worst = judged[statuses.index(status)]
    undecided = [found for (found, _), each in zip(judged, statuses, strict=True) if each == "undecided"]
    result = outcome(
        gate,
        rule=f"{rule}; worst: {worst.name}",
        interval=interval,
        threshold=threshold,
        status="undecided" if gaps and status == "passed" else status,
        note=note,
        parts=reported,
        row_ids=() if status == "passed" else wrong_ids(seen, worst.rows),
    )
    more = _rows_to_decide(undecided, threshold, floor, len(seen.rows)) if status == "undecided" else None
    return result.model_copy(update={"rows_to_decide": more})


def wrong_ids(seen: Observations, rows: Booleans) -> tuple[str, ...]:
    """The first ids among some rows `[n]` that the soft prompt answers wrongly."""
    right = hits(seen.targets, seen.systems["soft_prompt"].outputs)
    return ids_of(seen, rows & (right == 0))


def ids_of(seen: Observations, rows: Booleans) -> tuple[str, ...]:
    """The first ids of some rows `[n]`."""
    return tuple(seen.rows[row].id for row in np.flatnonzero(rows)[:MOST_ROW_IDS])


def _too_few(unjudged: Sequence[Part]) -> str:
    """Which parts are not judged, the first of them by name; empty: none."""
    names = ", ".join(part.name for part in unjudged[:MOST_NAMES])
    more = f" and {len(unjudged) - MOST_NAMES} more" if len(unjudged) > MOST_NAMES else ""
    return f"too few rows to judge {names}{more}" if unjudged else ""


def _together(statuses: Sequence[Verdict]) -> Verdict:
    """Rejected if one is; passed if all are."""
    if "rejected" in statuses:
        return "rejected"
    return "undecided" if "undecided" in statuses else "passed"


def _rows_to_decide(undecided: Sequence[Interval], threshold: float, floor: bool, num_rows: int) -> int | None:
    """The first part on the wrong side decides it; where all are on the right one, the last does.

    Args:
        undecided: Intervals of the undecided parts.
        threshold: What they are held against.
        floor: Whether it must be reached.
        num_rows: All test rows; each part grows with them.
    """
    wrong = [found for found in undecided if (found.estimate < threshold if floor else found.estimate > threshold)]
    needed = [rows_to_decide(found, threshold, num_rows) for found in wrong or undecided]
    known = [rows for rows in needed if rows is not None]
    if wrong:
        return min(known, default=None)
    return max(known) if len(known) == len(needed) else None
