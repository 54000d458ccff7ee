"""How differently subgroups are treated: demographic parity, equal opportunity, equalised odds (Hardt, Price & Srebro 2016).

Each is a largest difference of rates between two groups, over one label or over all:

demographic_parity   P(said label | group)
equal_opportunity    P(said label | right answer is label, group)
equalised_odds       that, and P(said label | right answer is another, group)

It holds where the interval of every pair's difference lies inside plus and minus the limit, for every rate and label, and is
broken where one lies wholly outside. Why this is not corrected for the number of pairs, and what that leaves unprotected, says
`parts.py`.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from softprompt.evaluation.gate_report import GateResult
from softprompt.evaluation.gates.outcome import at_most, not_measured
from softprompt.evaluation.gates.parts import Part, outcome_of_parts
from softprompt.evaluation.gates.subgroups import Subgroups, missing_note, subgroups_of
from softprompt.evaluation.intervals import difference_of_proportions
from softprompt.evaluation.observations import Booleans, Observations
from softprompt.evaluation.unpaired import magnitude
from softprompt.recipe.gates import Criterion, FairnessGate

TITLES: dict[Criterion, str] = {
    "demographic_parity": "shares of rows that are given",
    "equal_opportunity": "shares of rows of",
    "equalised_odds": "true and false positive rates of",
}
SHARE, TRUE_POSITIVES, FALSE_POSITIVES = "share", "true positive rate", "false positive rate"
RATES: dict[Criterion, tuple[str, ...]] = {
    "demographic_parity": (SHARE,),
    "equal_opportunity": (TRUE_POSITIVES,),
    "equalised_odds": (TRUE_POSITIVES, FALSE_POSITIVES),
}


def judge_fairness(gate: FairnessGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    rule = _rule(gate)
    if gate.label and gate.label not in seen.labels:
        note = f"no row has the label {gate.label!r}; there is {', '.join(seen.labels) or 'none'}"
        return not_measured(gate, rule=rule, threshold=gate.at_most, note=note)
    labels = (gate.label,) if gate.label else seen.labels
    subgroups = subgroups_of(seen.rows, gate.columns, intersections=gate.intersections)
    parts, gaps = [], []
    for each in subgroups:
        for rate in RATES[gate.criterion]:
            found = [part for label in labels for part in _pairs(gate, seen, each, rate, label)]
            parts += found
            if not any(part.interval for part in found):
                gaps.append(f"no two groups of {each.title} with {gate.min_rows} rows behind a {rate}")
    return outcome_of_parts(
        gate, seen, rule=rule, threshold=gate.at_most, holds=at_most, parts=parts, gaps=gaps, notes=[missing_note(subgroups)]
    )


def _rule(gate: FairnessGate) -> str:
    label = f"the label {gate.label}" if gate.label else "a label"
    what = TITLES[gate.criterion] + " " + label + (" that are given it" if gate.criterion == "equal_opportunity" else "")
    where = (" and " if gate.intersections else " or of ").join(gate.columns)
    return f"{what} at most {gate.at_most:g} apart between groups of {where}"


def _pairs(gate: FairnessGate, seen: Observations, subgroups: Subgroups, rate: str, label: str) -> Iterator[Part]:
    """Each two groups with rows enough behind the rate, and by themselves the groups that have too few."""
    said = np.array([output == label for output in seen.systems["soft_prompt"].outputs])
    behind = _behind(rate, label, seen.targets)
    groups = {name: rows & behind for name, rows in subgroups.groups.items()}
    large = {name: rows for name, rows in groups.items() if rows.sum() >= gate.min_rows}
    for (name, a), (other, b) in combinations(large.items(), 2):
        said_a, said_b = int((a & said).sum()), int((b & said).sum())
        apart = difference_of_proportions(said_a, int(a.sum()), said_b, int(b.sum()), gate.confidence)
        yield Part(f"{rate} of {label}, {name} against {other}", magnitude(apart), a | b)
    for name, rows in groups.items():
        if name not in large:
            yield Part(f"{rate} of {label}, {name}", None, rows)


def _behind(rate: str, label: str, targets: Sequence[str]) -> Booleans:
    """`[n]`, the rows that a rate is a share of."""
    deserve = np.array([target == label for target in targets], dtype=bool)
    return {SHARE: np.full(len(targets), True), TRUE_POSITIVES: deserve, FALSE_POSITIVES: ~deserve}[rate]
