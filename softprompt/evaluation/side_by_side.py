"""Two evaluations side by side: what changed from one version of a prompt to another, on the rows that both have answered."""

from collections.abc import Sequence
from typing import Literal

from softprompt.data.rows import Row
from softprompt.documents import Document
from softprompt.errors import InvalidRequest
from softprompt.evaluation.comparisons import explore
from softprompt.evaluation.gate_report import Comparison, GateReport, Measured, RowOutcome, SliceScores, Verdict
from softprompt.evaluation.metrics import row_scores
from softprompt.evaluation.observations import Answers, Observations
from softprompt.recipe.gates import Metric

CONFIDENCE = 0.95
OF_EACH_ROW: dict[str, Metric] = {"classification": "accuracy", "generation": "rouge_l"}
"""What says whether a row was won or lost."""


class Side(Document):
    """One of the two."""

    name: str
    prompt: str
    dataset: str
    base_uri: str
    verdict: Verdict
    evaluated: str
    num_test_rows: int


class GatePair(Document):
    """A gate on both sides; empty where one of them does not have it."""

    rule: str
    before: Verdict | Literal[""]
    after: Verdict | Literal[""]
    estimate_before: float | None
    estimate_after: float | None


class ChangedRow(Document):
    """A row that one side answers better than the other."""

    id: str
    target: str
    before: str
    after: str


class SideBySide(Document):
    """What changed."""

    schema_version: Literal[1] = 1
    before: Side
    after: Side
    num_common: int
    """Test rows that both have answered: the same input with the same right answer."""
    comparisons: tuple[Comparison, ...]
    """Paired, on the common rows; a positive lead means that the second one is better."""
    measured: tuple[tuple[Measured, Measured], ...]
    """Every metric that both reports have, each on its own test rows."""
    gates: tuple[GatePair, ...]
    slices: tuple[tuple[SliceScores, SliceScores], ...]
    won: tuple[ChangedRow, ...]
    """Common rows that the second one answers better."""
    lost: tuple[ChangedRow, ...]


def put_side_by_side(names: tuple[str, str], before: GateReport, after: GateReport) -> SideBySide:
    """Compare two evaluations.

    Args:
        names: What to call them.
        before: The first.
        after: The second.

    Raises:
        InvalidRequest: They do different tasks, or no test row of one is one of the other's.
    """
    if before.task != after.task:
        raise InvalidRequest(
            "Two evaluations of different kinds of tasks cannot be compared.", expected=before.task, actual=after.task
        )
    pairs = _common_rows(before, after)
    if not pairs:
        raise InvalidRequest(
            "The two evaluations have no test row in common.",
            where=" and ".join(names),
            expected="some rows with the same input and the same right answer",
            hint="Evaluate both prompts on one dataset.",
        )
    won, lost = _changed(before, pairs)
    return SideBySide(
        before=_side(names[0], before),
        after=_side(names[1], after),
        num_common=len(pairs),
        comparisons=_comparisons(before, pairs),
        measured=tuple(_measured(before, after)),
        gates=tuple(_gates(before, after)),
        slices=tuple(_slices(before, after)),
        won=won,
        lost=lost,
    )


def _side(name: str, report: GateReport) -> Side:
    return Side(
        name=name,
        prompt=report.prompt,
        dataset=report.dataset,
        base_uri=report.base_uri,
        verdict=report.verdict,
        evaluated=report.evaluated,
        num_test_rows=report.num_test_rows,
    )


def _common_rows(before: GateReport, after: GateReport) -> list[tuple[RowOutcome, RowOutcome]]:
    known = {(row.input, row.target): row for row in before.rows}
    return [(known[key], row) for row in after.rows if (key := (row.input, row.target)) in known]


def _comparisons(report: GateReport, pairs: Sequence[tuple[RowOutcome, RowOutcome]]) -> tuple[Comparison, ...]:
    old, new = ([pair[side] for pair in pairs] for side in (0, 1))
    rows = [Row(row.id, 0, {}, row.target, part="test") for row in new]
    systems = {"soft_prompt": _answers(new), "before": _answers(old)}
    return explore(Observations(report.task, rows, (), systems), CONFIDENCE)


def _answers(rows: Sequence[RowOutcome]) -> Answers:
    return Answers(tuple(row.outputs["soft_prompt"] for row in rows))


def _changed(
    report: GateReport, pairs: Sequence[tuple[RowOutcome, RowOutcome]]
) -> tuple[tuple[ChangedRow, ...], tuple[ChangedRow, ...]]:
    metric, targets = OF_EACH_ROW[report.task], [new.target for _, new in pairs]
    old, new = (row_scores(metric, targets, _answers([pair[side] for pair in pairs])) for side in (0, 1))
    rows = [
        ChangedRow(id=b.id, target=b.target, before=a.outputs["soft_prompt"], after=b.outputs["soft_prompt"]) for a, b in pairs
    ]
    won = tuple(row for row, a, b in zip(rows, old, new, strict=True) if b > a)
    lost = tuple(row for row, a, b in zip(rows, old, new, strict=True) if b < a)
    return won, lost


def _measured(before: GateReport, after: GateReport) -> list[tuple[Measured, Measured]]:
    pairs = [(before.value("soft_prompt", metric), after.value("soft_prompt", metric)) for metric in after.metrics]
    return [(old, new) for old, new in pairs if old and new]


def _gates(before: GateReport, after: GateReport) -> list[GatePair]:
    old, new = ({gate.name: gate for gate in report.gates} for report in (before, after))
    found = []
    for name, either in (new | {name: gate for name, gate in old.items() if name not in new}).items():
        a, b = old.get(name), new.get(name)
        found.append(
            GatePair(
                rule=either.rule,
                before=a.status if a else "",
                after=b.status if b else "",
                estimate_before=a.estimate if a else None,
                estimate_after=b.estimate if b else None,
            )
        )
    return found


def _slices(before: GateReport, after: GateReport) -> list[tuple[SliceScores, SliceScores]]:
    old = {(found.column, found.value): found for found in before.slices}
    return [(old[key], found) for found in after.slices if (key := (found.column, found.value)) in old]
