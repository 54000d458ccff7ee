"""The difference of a metric between two sets of different rows, such as two slices."""

import numpy as np

from softprompt.evaluation.intervals import Interval, difference_of_proportions, resampling_weights
from softprompt.evaluation.metrics import PROPORTIONS, row_scores, statistic
from softprompt.evaluation.observations import Answers, Booleans, Floats, Observations
from softprompt.gate_specs import Metric


def measure_between(
    seen: Observations, metric: Metric, answers: Answers, rows_a: Booleans, rows_b: Booleans, confidence: float
) -> Interval:
    """A metric on some rows, less the same metric on others: the score interval for proportions, bootstrap for the rest.

    Args:
        seen: What was seen; its rows' targets count.
        metric: Which.
        answers: A system's, to all rows of `seen`.
        rows_a: `[n]`, the first rows.
        rows_b: `[n]`, the rows to compare with; none of the first.
        confidence: Level of the two-sided interval.
    """
    if metric in PROPORTIONS:
        hits = row_scores(metric, seen.targets, answers, seen.labels, seen.spec)
        a, b = hits[rows_a], hits[rows_b]
        return difference_of_proportions(int(a.sum()), len(a), int(b.sum()), len(b), confidence)
    a_each, a_all = _resampled(seen, metric, answers, rows_a)
    b_each, b_all = _resampled(seen, metric, answers, rows_b)
    # Backwards: the resamples of equally many rows are the same draws, and drawing both alike would tie what is independent.
    tail = (1 - confidence) / 2
    low, high = np.quantile(a_each - b_each[::-1], [tail, 1 - tail])
    return Interval(a_all - b_all, float(low), float(high))


def magnitude(difference: Interval) -> Interval:
    """The interval of a difference's size from that of the signed difference."""
    low, high = abs(difference.low), abs(difference.high)
    straddles = difference.low <= 0 <= difference.high
    return Interval(abs(difference.estimate), 0.0 if straddles else min(low, high), max(low, high))


def _resampled(seen: Observations, metric: Metric, answers: Answers, rows: Booleans) -> tuple[Floats, float]:
    """The metric of `[S]` resamples of some rows, and of these rows themselves."""
    targets = [seen.targets[row] for row in np.flatnonzero(rows)]
    value = statistic(metric, targets, answers.at(rows), seen.labels, seen.spec)
    samples = value(resampling_weights(len(targets), seen.spec.bootstrap_samples))
    return samples, float(value(np.ones((1, len(targets))))[0])
