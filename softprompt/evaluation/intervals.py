"""Confidence intervals of one number: exact for proportions, bootstrap for everything else, paired for differences."""

from dataclasses import dataclass

import numpy as np

from softprompt.evaluation.bootstrap import (
    acceleration_of,
    bca_limits,
    bootstrap_samples,
    left_out_groups,
    weight_blocks,
    wide_limits,
)
from softprompt.evaluation.metrics import Statistic
from softprompt.evaluation.observations import Floats
from softprompt.evaluation.proportions import exact_limits, paired_limits, unpaired_limits


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval."""

    estimate: float
    low: float
    high: float

    def negated(self) -> "Interval":
        """Of the same quantity with the other sign."""
        return Interval(-self.estimate, -self.high, -self.low)


def exact_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Clopper & Pearson's interval of a proportion: its coverage is never below the level."""
    low, high = exact_limits(successes, trials, confidence)
    return Interval(successes / trials, float(low), float(high))


def difference_of_proportions(successes_a: int, rows_a: int, successes_b: int, rows_b: int, confidence: float) -> Interval:
    """The difference of two shares on different rows, `a` less `b`, as between two slices (`proportions.unpaired_limits`)."""
    low, high = unpaired_limits(successes_a, rows_a, successes_b, rows_b, confidence)
    return Interval(successes_a / rows_a - successes_b / rows_b, float(low), float(high))


def paired_difference(only_a: int, only_b: int, num_rows: int, confidence: float) -> Interval:
    """The difference of two shares on the same rows (`proportions.paired_limits`).

    Args:
        only_a: Rows on which `a` succeeds and `b` does not.
        only_b: The other way round.
        num_rows: All rows.
        confidence: Level.
    """
    low, high = paired_limits(only_a, only_b, num_rows, confidence)
    return Interval((only_a - only_b) / num_rows, float(low), float(high))


def bootstrap_interval(
    value: Statistic, num_rows: int, confidence: float, num_samples: int, *, reach: float = 0.0, wide: bool = False
) -> Interval:
    """Bootstrap over rows, by BCa limits (Efron 1987).

    Args:
        value: Statistic of weights; a difference of two statistics gives a paired interval.
        num_rows: Rows `n`.
        confidence: Level.
        num_samples: Resamples `S`.
        reach: How far the truth may lie from the estimate without a sign of it in these rows (`unseen`); the interval is at
            least as wide.
        wide: `bootstrap.wide_limits` instead, which err less often for differences and calibration errors.

    Raises:
        SoftpromptError: The statistic is not a finite number.
    """
    estimate = value(np.ones((1, num_rows)))[0]
    samples = bootstrap_samples(value, num_rows, num_samples)
    if wide:
        low, high = wide_limits(samples, estimate, confidence)
    else:
        acceleration = acceleration_of(left_out_groups(value, num_rows)) if num_rows > 1 else np.zeros(())
        low, high = bca_limits(samples, np.asarray(estimate), acceleration, confidence)
    return Interval(float(estimate), min(float(low), float(estimate) - reach), max(float(high), float(estimate) + reach))


def unseen(num_rows: int, confidence: float) -> float:
    """The largest share of rows of a kind that may be missing among so many by chance (at 95 %: 3.7 / n).

    A bootstrap draws from what was seen, so that rows which are all alike would give an interval of no width.
    """
    return float(1 - ((1 - confidence) / 2) ** (1 / num_rows))


def resampling_weights(num_rows: int, num_samples: int) -> Floats:
    """How often each row is drawn in each resample, `[S, n]`; always the same for the same sizes."""
    return np.concatenate(list(weight_blocks(num_rows, num_samples)))
