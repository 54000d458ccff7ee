"""From an interval and a threshold to a gate's result."""

import math
from collections.abc import Callable
from typing import Any

from softprompt.evaluation.gate_report import GateResult, Verdict
from softprompt.evaluation.intervals import Interval
from softprompt.recipe.gates import GateSpec, Metric

Holds = Callable[[Interval, float], Verdict]
"""Whether an interval keeps a threshold: `at_least`, `above`, `at_most`."""


def outcome(
    gate: GateSpec,
    *,
    rule: str,
    interval: Interval,
    threshold: float,
    status: Verdict,
    num_rows: int = 0,
    metric: Metric | None = None,
    **more: Any,
) -> GateResult:
    """A gate's result.

    Args:
        gate: The gate.
        rule: In words.
        interval: What was measured.
        threshold: What it is held against.
        status: How it ended.
        num_rows: Rows behind the measurement; 0: more rows would not change it.
        metric: What the gate is about, where it does not say so itself.
        **more: Other fields of the result.
    """
    undecided = status == "undecided" and num_rows > 0
    return GateResult(
        name=gate.name,
        kind=gate.kind,
        metric=metric or getattr(gate, "metric", None) or "",
        rule=rule,
        severity=gate.severity,
        confidence=gate.confidence,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        threshold=threshold,
        status=status,
        rows_to_decide=rows_to_decide(interval, threshold, num_rows) if undecided else None,
        **more,
    )


def by_fact(gate: GateSpec, *, rule: str, value: float, threshold: float, holds: Holds, **more: Any) -> GateResult:
    """The result of a gate that a fact decides and no sample: no interval, never undecided. Arguments as in `outcome`."""
    fact = Interval(value, value, value)
    return outcome(gate, rule=rule, interval=fact, threshold=threshold, status=holds(fact, threshold), **more)


def not_measured(gate: GateSpec, *, rule: str, threshold: float, note: str, **more: Any) -> GateResult:
    """The result where there was nothing to measure: undecided, no numbers, and a note that says why."""
    return GateResult(
        name=gate.name,
        kind=gate.kind,
        metric=getattr(gate, "metric", None) or "",
        rule=rule,
        severity=gate.severity,
        confidence=gate.confidence,
        estimate=None,
        low=None,
        high=None,
        threshold=threshold,
        status="undecided",
        note=note,
        **more,
    )


def at_least(interval: Interval, threshold: float) -> Verdict:
    """Passed where the whole interval reaches the threshold."""
    if interval.low >= threshold:
        return "passed"
    return "rejected" if interval.high < threshold else "undecided"


def above(interval: Interval, threshold: float) -> Verdict:
    """Passed where the whole interval lies above the threshold: equal is not better."""
    if interval.low > threshold:
        return "passed"
    return "rejected" if interval.high <= threshold else "undecided"


def at_most(interval: Interval, threshold: float) -> Verdict:
    """Passed where the whole interval stays at or below the threshold."""
    if interval.high <= threshold:
        return "passed"
    return "rejected" if interval.low > threshold else "undecided"


def rows_to_decide(interval: Interval, threshold: float, num_rows: int) -> int | None:
    """An interval shrinks with the square root of the rows; None where the estimate sits on the threshold itself."""
    if math.isclose(interval.estimate, threshold, abs_tol=1e-9):
        return None
    reach = interval.estimate - interval.low if interval.estimate > threshold else interval.high - interval.estimate
    return math.ceil(num_rows * (reach / (interval.estimate - threshold)) ** 2)
