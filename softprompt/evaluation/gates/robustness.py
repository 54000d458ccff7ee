"""How much is lost when the input is disturbed: the clean answers against the disturbed ones, paired on the same rows.

Where the disturbance leaves nothing to answer (`empty`), a loss would say nothing. What must hold there is that a valid answer
comes: a label, or a text, and finite probabilities. Probabilities that are no numbers reject under every other disturbance too,
before anything is measured.
"""

from collections.abc import Sequence

import numpy as np

from softprompt.evaluation.gate_report import METRIC_TITLES, GateResult
from softprompt.evaluation.gates.outcome import at_most, by_fact, not_measured, outcome
from softprompt.evaluation.gates.parts import ids_of
from softprompt.evaluation.measure import level_note, measure_difference
from softprompt.evaluation.metrics import available, row_scores
from softprompt.evaluation.metrics.classification import hits
from softprompt.evaluation.observations import Answers, Booleans, Disturbed, Floats, Observations
from softprompt.recipe.gates import LOWER_IS_BETTER, METRICS_OF_TASK, Metric, Perturbation, RobustnessGate

TITLES: dict[Perturbation, str] = {
    "typos": "typing errors",
    "upper_case": "upper case",
    "lower_case": "lower case",
    "whitespace": "other white space",
    "punctuation": "other punctuation",
    "prefix": "words in front",
    "suffix": "words behind",
    "long": "very long input",
    "empty": "empty input",
    "paraphrases": "paraphrases",
}


def judge_robustness(gate: RobustnessGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    disturbed, metric = seen.disturbed.get(gate.perturbation), gate.metric or METRICS_OF_TASK[seen.task][0]
    rule = f"{METRIC_TITLES[metric]} lost to {TITLES[gate.perturbation]} at most {gate.drop_at_most:g}"
    if disturbed is None or not len(disturbed.rows):
        return not_measured(gate, rule=rule, threshold=gate.drop_at_most, note="no row was disturbed")
    broken = _without_finite_numbers(disturbed.answers)
    if gate.perturbation == "empty":
        return _answers_come(gate, seen, disturbed, broken | _without_output(disturbed.answers, seen.labels))
    if broken.any():
        return _answers_come(gate, seen, disturbed, broken)
    if not available(metric, disturbed.answers):
        note = f"the answers do not suffice to measure {METRIC_TITLES[metric]}"
        return not_measured(gate, rule=rule, threshold=gate.drop_at_most, note=note)
    return _drop(gate, seen, disturbed, metric, rule)


def _drop(gate: RobustnessGate, seen: Observations, disturbed: Disturbed, metric: Metric, rule: str) -> GateResult:
    """Positive differences are a loss, also where lower numbers are better."""
    these = seen.only(disturbed.rows)
    clean = these.systems["soft_prompt"]
    better, worse = (disturbed.answers, clean) if metric in LOWER_IS_BETTER else (clean, disturbed.answers)
    drop = measure_difference(these, metric, better, worse, gate.confidence)
    num_rows, num_all = len(these.rows), len(seen.rows)
    some = f"{num_rows} of {num_all} test rows could be disturbed" if num_rows < num_all else ""
    return outcome(
        gate,
        rule=rule,
        interval=drop,
        threshold=gate.drop_at_most,
        status=at_most(drop, gate.drop_at_most),
        num_rows=num_rows,
        metric=metric,
        note="; ".join(filter(None, [some, level_note(metric, num_rows)])),
        row_ids=_worse_ids(these, clean, disturbed.answers),
    )


def _answers_come(gate: RobustnessGate, seen: Observations, disturbed: Disturbed, silent: Booleans) -> GateResult:
    """The share of disturbed inputs without a valid answer; one is too many, whatever loss the gate allows."""
    these = seen.only(disturbed.rows)
    return by_fact(
        gate,
        rule=f"no disturbed input ({TITLES[gate.perturbation]}) without a valid answer",
        value=float(silent.mean()),
        threshold=0.0,
        holds=at_most,
        note=f"{int(silent.sum())} of {len(silent)} inputs got none",
        row_ids=ids_of(these, silent),
    )


def _without_finite_numbers(answers: Answers) -> Booleans:
    """`[m]`, answers whose probabilities are not all numbers."""
    if answers.probabilities is None:
        return np.zeros(len(answers.outputs), dtype=bool)
    return np.array([not np.isfinite(each).all() for each in answers.probabilities])


def _without_output(answers: Answers, labels: Sequence[str]) -> Booleans:
    """`[m]`, answers that are no label, or no text."""
    return np.array([output not in labels if labels else not output.strip() for output in answers.outputs])


def _worse_ids(seen: Observations, clean: Answers, disturbed: Answers) -> tuple[str, ...]:
    """Rows that are answered worse when disturbed, whatever the gate's metric is."""
    return ids_of(seen, _scores(seen, clean) > _scores(seen, disturbed))


def _scores(seen: Observations, answers: Answers) -> Floats:
    if seen.task == "generation":
        return row_scores("rouge_l", seen.targets, answers)
    return hits(seen.targets, answers.outputs)
