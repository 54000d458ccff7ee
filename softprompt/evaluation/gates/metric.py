"""A metric on the test rows: above a floor, below a ceiling, better than a baseline, or not worse than one."""

import numpy as np

from softprompt.evaluation.gate_report import METRIC_TITLES, GateResult, system_title
from softprompt.evaluation.gates.outcome import above, at_least, at_most, outcome
from softprompt.evaluation.intervals import Interval
from softprompt.evaluation.measure import measure, measure_difference
from softprompt.evaluation.observations import Booleans, Observations
from softprompt.gate_specs import LOWER_IS_BETTER, MetricGate


def judge_metric(gate: MetricGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    rows = _slice(gate, seen)
    where = "".join(f", {column} {value}" for column, value in gate.slice.items())
    title = METRIC_TITLES[gate.metric] + where
    if gate.baseline:
        return _against_baseline(gate, seen, rows, title)
    interval = measure(seen, gate.metric, seen.systems["soft_prompt"], gate.confidence, rows)
    if gate.at_least is not None:
        threshold, rule, status = gate.at_least, f"{title} at least {gate.at_least:g}", at_least(interval, gate.at_least)
    else:
        assert gate.at_most is not None
        threshold, rule, status = gate.at_most, f"{title} at most {gate.at_most:g}", at_most(interval, gate.at_most)
    return outcome(gate, rule=rule, interval=interval, threshold=threshold, status=status, num_rows=int(rows.sum()))


def _against_baseline(gate: MetricGate, seen: Observations, rows: Booleans, title: str) -> GateResult:
    """Positive differences are the soft prompt's lead, also where lower numbers are better."""
    rows = rows & seen.comparable_rows(gate.baseline)
    mine, theirs = seen.systems["soft_prompt"], seen.systems[gate.baseline]
    lead = measure_difference(seen, gate.metric, mine, theirs, gate.confidence, rows)
    if gate.metric in LOWER_IS_BETTER:
        lead = Interval(-lead.estimate, -lead.high, -lead.low)
    if gate.better_than:
        margin = f" by more than {gate.by:g}" if gate.by else ""
        side = "below" if gate.metric in LOWER_IS_BETTER else "above"
        rule, threshold, status = f"{title} {side} the {system_title(gate.baseline)}'s{margin}", gate.by, above(lead, gate.by)
    else:
        rule = f"{title} not worse than the {system_title(gate.baseline)}'s by {gate.margin:g} or more"
        threshold, status = -gate.margin, above(lead, -gate.margin)
    return outcome(gate, rule=rule, interval=lead, threshold=threshold, status=status, num_rows=int(rows.sum()))


def _slice(gate: MetricGate, seen: Observations) -> Booleans:
    """`[n]`, the rows that the gate is about."""
    wanted = gate.slice.items()
    return np.array([all(row.subgroups.get(column) == value for column, value in wanted) for row in seen.rows], dtype=bool)
