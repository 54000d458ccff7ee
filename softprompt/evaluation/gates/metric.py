"""A metric on the test rows: above a floor, below a ceiling, better than a baseline, or not worse than one."""

import numpy as np

from softprompt.evaluation.gate_report import METRIC_TITLES, GateResult, system_title
from softprompt.evaluation.gates.outcome import above, at_least, at_most, not_measured, outcome
from softprompt.evaluation.intervals import Interval
from softprompt.evaluation.measure import OF_LABELS, level_note, measure, measure_difference
from softprompt.evaluation.metrics import available
from softprompt.evaluation.observations import Booleans, Observations
from softprompt.recipe.gates import LOWER_IS_BETTER, MetricGate

NO_CHAMPION = "the channel serves no prompt yet"


def judge_metric(gate: MetricGate, seen: Observations) -> GateResult:
    """Apply the gate.

    Passed without a measurement: a comparison with the champion of a channel that has none. Undecided without one: there are no
    rows, a system could not answer them, or gave no probabilities for a metric of them; the note says so.
    """
    rows = _slice(gate, seen)
    threshold, rule = _threshold(gate), _rule(gate)
    if gate.baseline == "champion" and "champion" not in {*seen.systems, *seen.notes}:
        nothing = not_measured(gate, rule=rule, threshold=threshold, note=NO_CHAMPION)
        return nothing.model_copy(update={"status": "passed"})
    if gate.baseline:
        rows = rows & seen.comparable_rows(gate.baseline)
    impossible = _impossible(gate, seen, rows)
    if impossible:
        return not_measured(gate, rule=rule, threshold=threshold, note=impossible)
    if gate.baseline:
        interval = _lead(gate, seen, rows)
        status = above(interval, threshold)
    else:
        interval = measure(seen, gate.metric, seen.systems["soft_prompt"], gate.confidence, rows)
        status = at_most(interval, threshold) if gate.at_most is not None else at_least(interval, threshold)
    num_rows, note = int(rows.sum()), _note(gate, seen, rows)
    return outcome(gate, rule=rule, interval=interval, threshold=threshold, status=status, num_rows=num_rows, note=note)


def _lead(gate: MetricGate, seen: Observations, rows: Booleans) -> Interval:
    """Positive where the soft prompt is better, also where lower numbers are."""
    mine, theirs = seen.systems["soft_prompt"], seen.systems[gate.baseline]
    difference = measure_difference(seen, gate.metric, mine, theirs, gate.confidence, rows)
    return difference.negated() if gate.metric in LOWER_IS_BETTER else difference


def _threshold(gate: MetricGate) -> float:
    """What the metric, or the lead over the baseline, is held against."""
    if gate.better_than:
        return gate.by
    if gate.not_worse_than:
        return -gate.margin
    limit = gate.at_least if gate.at_least is not None else gate.at_most
    assert limit is not None, "a gate has one rule"
    return limit


def _rule(gate: MetricGate) -> str:
    """In words."""
    title = METRIC_TITLES[gate.metric] + "".join(f", {column} {value}" for column, value in gate.slice.items())
    if gate.better_than:
        side = "below" if gate.metric in LOWER_IS_BETTER else "above"
        return f"{title} {side} the {system_title(gate.baseline)}'s" + (f" by more than {gate.by:g}" if gate.by else "")
    if gate.not_worse_than:
        return f"{title} not worse than the {system_title(gate.baseline)}'s by {gate.margin:g} or more"
    return f"{title} at {'least' if gate.at_least is not None else 'most'} {_threshold(gate):g}"


def _impossible(gate: MetricGate, seen: Observations, rows: Booleans) -> str:
    """Why nothing can be measured; empty where it can."""
    if gate.baseline and gate.baseline not in seen.systems:
        return seen.notes.get(gate.baseline) or f"the {system_title(gate.baseline)} did not answer"
    if not rows.any():
        return "no test row is left to compare on" if gate.baseline else "no test row lies in the slice"
    silent = [s for s in ("soft_prompt", gate.baseline) if s and not available(gate.metric, seen.systems[s])]
    return f"the {system_title(silent[0])} gives no probabilities, which this metric needs" if silent else ""


def _note(gate: MetricGate, seen: Observations, rows: Booleans) -> str:
    """What a reviewer should know about the number."""
    targets = {seen.targets[row] for row in np.flatnonzero(rows)} if gate.metric in OF_LABELS else set()
    alike = f"all these rows have the label {min(targets)}" if len(targets) == 1 else ""
    return "; ".join(note for note in (alike, level_note(gate.metric, int(rows.sum()), paired=bool(gate.baseline))) if note)


def _slice(gate: MetricGate, seen: Observations) -> Booleans:
    """`[n]`, the rows that the gate is about."""
    wanted = gate.slice.items()
    return np.array([all(row.subgroups.get(column) == value for column, value in wanted) for row in seen.rows], dtype=bool)
