"""Gates: rules over measurements. A failed gate is a result, not an exception.

Passed: the interval lies wholly on the right side of the threshold. Rejected: wholly on the wrong side. Else undecided, with an
estimate of the rows that would decide it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.evaluation.intervals import Interval, bootstrap_interval, exact_interval
from softprompt.evaluation.metrics import PROPORTIONS, Floats, Statistic, row_scores, statistic
from softprompt.recipe import GateSpec, Metric, TaskType

Verdict = Literal["passed", "rejected", "undecided"]
System = Literal["soft_prompt", "bare_base", "instruction", "classical"]
SYSTEM_TITLES: dict[System, str] = {
    "soft_prompt": "soft prompt",
    "bare_base": "bare base",
    "instruction": "hand-written instruction",
    "classical": "TF-IDF and logistic regression",
}
METRIC_TITLES: dict[Metric, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
}


class Measured(Document):
    """One metric of one system on the test rows."""

    system: System
    metric: Metric
    estimate: float
    low: float
    high: float
    confidence: float


class GateResult(Document):
    """How one gate ended."""

    name: str
    metric: Metric
    rule: str
    """In words."""
    severity: Literal["block", "warn"]
    confidence: float
    estimate: float
    """Of the metric, or of its difference to the baseline."""
    low: float
    high: float
    threshold: float
    status: Verdict
    rows_to_decide: int | None
    """About how many test rows would decide an undecided gate; None where it is decided."""


class LabelScores(Document):
    """Per-label scores of the soft prompt."""

    label: str
    precision: float
    recall: float
    f1: float
    num_rows: int


class RowOutcome(Document):
    """A row behind the numbers, by id."""

    id: str
    target: str
    outputs: dict[str, str]
    """System -> output."""
    confidence: float
    """Of the soft prompt's label; 0 for a generation."""


class GateReport(Document):
    """Everything that the evaluation measured, and its verdict."""

    max_bytes: ClassVar[int] = 256 * 1024 * 1024

    schema_version: Literal[1] = 1
    prompt: Sha256
    dataset: Sha256
    base_uri: str
    base_fingerprint: Sha256
    numerics: str
    """Number format of the base that these measurements hold for."""
    task: TaskType
    evaluated: str
    """When, RFC 3339 in UTC."""
    verdict: Verdict
    reason: str
    """The verdict in one sentence."""
    num_test_rows: int
    gates: tuple[GateResult, ...]
    measured: tuple[Measured, ...]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: true labels; columns: the soft prompt's."""
    by_label: tuple[LabelScores, ...]
    rows: tuple[RowOutcome, ...]

    def value(self, system: System, metric: Metric) -> Measured | None:
        """One measurement, if it was made."""
        return next((found for found in self.measured if (found.system, found.metric) == (system, metric)), None)


def rejection_text(report: GateReport) -> str:
    """Markdown that says which gates a prompt failed."""
    failed = [gate for gate in report.gates if gate.status != "passed"]
    lines = [f"- **{gate.status}** ({gate.severity}): {_explained(gate)}" for gate in failed]
    return "\n".join([f"# {report.verdict.capitalize()}: nothing was published", "", report.reason, "", *lines, ""])


def measure(metric: Metric, targets: Sequence[str], outputs: Sequence[str], confidence: float, num_samples: int) -> Interval:
    """A metric with its interval: exact for proportions, bootstrap for the rest."""
    if metric in PROPORTIONS:
        scores = row_scores(metric, targets, outputs)
        return exact_interval(int(scores.sum()), len(scores), confidence)
    return bootstrap_interval(statistic(metric, targets, outputs), len(targets), confidence, num_samples)


def judge(gate: GateSpec, targets: Sequence[str], outputs: Mapping[System, Sequence[str]], num_samples: int) -> GateResult:
    """Apply one gate to the outputs of the soft prompt and its baselines on the same rows."""
    mine = outputs["soft_prompt"]
    if gate.better_than is None:
        assert gate.at_least is not None
        interval, threshold = measure(gate.metric, targets, mine, gate.confidence, num_samples), gate.at_least
        rule = f"{METRIC_TITLES[gate.metric]} at least {threshold:g}"
        status = _at_least(interval, threshold)
    else:
        difference = _difference(
            statistic(gate.metric, targets, mine), statistic(gate.metric, targets, outputs[gate.better_than])
        )
        interval, threshold = bootstrap_interval(difference, len(targets), gate.confidence, num_samples), gate.by
        rule = f"{METRIC_TITLES[gate.metric]} above the {SYSTEM_TITLES[gate.better_than]}'s" + (
            f" by more than {threshold:g}" if threshold else ""
        )
        status = _above(interval, threshold)
    return GateResult(
        name=gate.name,
        metric=gate.metric,
        rule=rule,
        severity=gate.severity,
        confidence=gate.confidence,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        threshold=threshold,
        status=status,
        rows_to_decide=_rows_to_decide(interval, threshold, len(targets)) if status == "undecided" else None,
    )


def verdict_of(gates: Sequence[GateResult]) -> tuple[Verdict, str]:
    """The verdict of all blocking gates, each at its own level, and the reason in one sentence."""
    blocking = [gate for gate in gates if gate.severity == "block"]
    for status in ("rejected", "undecided"):
        failed = [gate for gate in blocking if gate.status == status]
        if failed:
            return status, f"{status.capitalize()}: {'; '.join(map(_explained, failed))}."
    count = len(blocking)
    return (
        "passed",
        f"Passed: {'the one gate' if count == 1 else f'all {count} gates'} that can block {'holds' if count == 1 else 'hold'}.",
    )


def _explained(gate: GateResult) -> str:
    shown = f"{gate.rule}, measured {gate.estimate:.3f} [{gate.low:.3f}, {gate.high:.3f}]"
    return shown + (f", about {gate.rows_to_decide} test rows would decide it" if gate.rows_to_decide else "")


def _difference(mine: Statistic, theirs: Statistic) -> Statistic:
    def difference(weights: Floats) -> Floats:
        return mine(weights) - theirs(weights)

    return difference


def _at_least(interval: Interval, threshold: float) -> Verdict:
    if interval.low >= threshold:
        return "passed"
    return "rejected" if interval.high < threshold else "undecided"


def _above(interval: Interval, threshold: float) -> Verdict:
    if interval.low > threshold:
        return "passed"
    return "rejected" if interval.high <= threshold else "undecided"


def _rows_to_decide(interval: Interval, threshold: float, num_rows: int) -> int | None:
    """An interval shrinks with the square root of the rows; None where the estimate sits on the threshold itself."""
    distance = abs(interval.estimate - threshold)
    reach = interval.estimate - interval.low if interval.estimate > threshold else interval.high - interval.estimate
    return math.ceil(num_rows * (reach / distance) ** 2) if distance > 1e-9 else None
