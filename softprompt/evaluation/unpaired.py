"""The difference of a metric between two sets of different rows, such as two slices."""

import math

from softprompt.evaluation.intervals import Interval
from softprompt.evaluation.measure import measure
from softprompt.evaluation.observations import Answers, Booleans, Observations
from softprompt.recipe.gates import Metric


def measure_between(
    seen: Observations, metric: Metric, answers: Answers, rows_a: Booleans, rows_b: Booleans, confidence: float
) -> Interval:
    """A metric on some rows, less the same metric on others.

    The square-and-add rule (Zou & Donner 2008) over the interval that the metric has on either side: exact for proportions, as
    `proportions.unpaired_limits`, by bootstrap for the rest.

    Args:
        seen: What was seen; its rows' targets count.
        metric: Which.
        answers: A system's, to all rows of `seen`.
        rows_a: `[n]`, the first rows.
        rows_b: `[n]`, the rows to compare with; none of the first.
        confidence: Level of the two-sided interval.

    Raises:
        InvalidRequest: A side has no rows.
    """
    a, b = (measure(seen, metric, answers, confidence, rows) for rows in (rows_a, rows_b))
    difference = a.estimate - b.estimate
    down = math.hypot(a.estimate - a.low, b.high - b.estimate)
    up = math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(difference, difference - down, difference + up)


def magnitude(difference: Interval) -> Interval:
    """The interval of a difference's size from that of the signed difference."""
    nearest, farthest = max(0.0, difference.low, -difference.high), max(-difference.low, difference.high)
    return Interval(abs(difference.estimate), nearest, farthest)
