"""One metric of one system, or the paired difference of two, with its confidence interval."""

import numpy as np

from softprompt.evaluation.intervals import Interval, bootstrap_interval, exact_interval
from softprompt.evaluation.metrics import PROPORTIONS, Statistic, row_scores, statistic
from softprompt.evaluation.observations import Answers, Booleans, Floats, Observations
from softprompt.gate_specs import Metric


def measure(seen: Observations, metric: Metric, answers: Answers, confidence: float, rows: Booleans | None = None) -> Interval:
    """A metric with its interval: exact for proportions, bootstrap for the rest.

    Args:
        seen: What was seen; its rows' targets count.
        metric: Which.
        answers: A system's, to all rows of `seen`.
        confidence: Level of the two-sided interval.
        rows: `[n]`, only these; None: all.
    """
    targets, answers = _on(seen, answers, rows)
    if metric in PROPORTIONS:
        scores = row_scores(metric, targets, answers, seen.labels, seen.spec)
        return exact_interval(int(scores.sum()), len(scores), confidence)
    value = statistic(metric, targets, answers, seen.labels, seen.spec)
    return bootstrap_interval(value, len(targets), confidence, seen.spec.bootstrap_samples)


def measure_difference(
    seen: Observations, metric: Metric, mine: Answers, theirs: Answers, confidence: float, rows: Booleans | None = None
) -> Interval:
    """The paired difference of a metric, mine less theirs, on the same rows. Arguments as in `measure`."""
    targets, mine = _on(seen, mine, rows)
    _, theirs = _on(seen, theirs, rows)
    value = _difference(
        statistic(metric, targets, mine, seen.labels, seen.spec), statistic(metric, targets, theirs, seen.labels, seen.spec)
    )
    return bootstrap_interval(value, len(targets), confidence, seen.spec.bootstrap_samples)


def _on(seen: Observations, answers: Answers, rows: Booleans | None) -> tuple[list[str], Answers]:
    """Targets and answers of some rows."""
    if rows is None:
        return list(seen.targets), answers
    return [seen.targets[row] for row in np.flatnonzero(rows)], answers.at(rows)


def _difference(mine: Statistic, theirs: Statistic) -> Statistic:
    def difference(weights: Floats) -> Floats:
        return mine(weights) - theirs(weights)

    return difference
