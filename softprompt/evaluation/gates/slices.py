"""The same metric in every slice of the rows: a floor for each, or a limit to the gap between them.

A floor holds where every judged slice's interval reaches it. A gap is judged over all pairs of a column's slices: within the
limit where the interval of every pair's difference lies inside plus and minus the limit, too large where one lies wholly outside.
Why neither is corrected for the number of slices, and what that leaves unprotected, says `parts.py`.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

from softprompt.evaluation.gate_report import METRIC_TITLES, GateResult
from softprompt.evaluation.gates.outcome import at_least, at_most, not_measured
from softprompt.evaluation.gates.parts import Part, outcome_of_parts
from softprompt.evaluation.gates.subgroups import Subgroups, missing_note, subgroups_of
from softprompt.evaluation.measure import level_note, measure
from softprompt.evaluation.metrics import available
from softprompt.evaluation.observations import Observations
from softprompt.evaluation.unpaired import magnitude, measure_between
from softprompt.recipe.gates import SlicesGate


def judge_slices(gate: SlicesGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    floor = gate.at_least is not None
    threshold = gate.at_least if gate.at_least is not None else gate.gap_at_most
    assert threshold is not None
    where = (" and " if gate.intersections else " or of ").join(gate.columns)
    title = METRIC_TITLES[gate.metric]
    if floor:
        rule = f"{title} at least {threshold:g} in every slice of {where}"
    else:
        rule = f"{title} at most {threshold:g} apart between slices of {where}"
    if not available(gate.metric, seen.systems["soft_prompt"]):
        return not_measured(gate, rule=rule, threshold=threshold, note=f"the answers do not suffice to measure {title}")
    subgroups = subgroups_of(seen.rows, gate.columns, intersections=gate.intersections)
    parts = {each.title: list(_slices(gate, seen, each) if floor else _pairs(gate, seen, each)) for each in subgroups}
    what = "no slice" if floor else "no two slices"
    gaps = [
        f"{what} of {title} with {gate.min_rows} rows"
        for title, found in parts.items()
        if not any(part.interval for part in found)
    ]
    return outcome_of_parts(
        gate,
        seen,
        rule=rule,
        threshold=threshold,
        holds=at_least if floor else at_most,
        parts=[part for each in parts.values() for part in each],
        gaps=gaps,
        notes=[missing_note(subgroups), _level_note(gate, subgroups)],
    )


def _level_note(gate: SlicesGate, subgroups: Sequence[Subgroups]) -> str:
    """About the interval of the smallest slice that is judged."""
    sizes = [int(rows.sum()) for each in subgroups for rows in each.groups.values()]
    judged = [size for size in sizes if size >= gate.min_rows]
    return level_note(gate.metric, min(judged)) if judged else ""


def _slices(gate: SlicesGate, seen: Observations, subgroups: Subgroups) -> Iterator[Part]:
    answers = seen.systems["soft_prompt"]
    for name, rows in subgroups.groups.items():
        enough = rows.sum() >= gate.min_rows
        yield Part(name, measure(seen, gate.metric, answers, gate.confidence, rows) if enough else None, rows)


def _pairs(gate: SlicesGate, seen: Observations, subgroups: Subgroups) -> Iterator[Part]:
    """Each two slices with rows enough, and by themselves the slices that have too few."""
    large = {name: rows for name, rows in subgroups.groups.items() if rows.sum() >= gate.min_rows}
    for (name, rows), (other, its_rows) in combinations(large.items(), 2):
        apart = measure_between(seen, gate.metric, seen.systems["soft_prompt"], rows, its_rows, gate.confidence)
        yield Part(f"{name} against {other}", magnitude(apart), rows | its_rows)
    for name, rows in subgroups.groups.items():
        if name not in large:
            yield Part(name, None, rows)
