"""Confidence intervals: exact for proportions, bootstrap for everything else, paired for differences."""

from dataclasses import dataclass

import numpy as np

from softprompt.evaluation.metrics import Statistic
from softprompt.evaluation.observations import Floats
from softprompt.evaluation.proportions import exact_limits, unpaired_limits

SEED = 20_260_000
"""Of every bootstrap, so that the same predictions always give the same verdict."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval."""

    estimate: float
    low: float
    high: float


def exact_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Clopper & Pearson's interval of a proportion: its coverage is never below the level."""
    low, high = exact_limits(successes, trials, confidence)
    return Interval(successes / trials, float(low), float(high))


def difference_of_proportions(successes_a: int, rows_a: int, successes_b: int, rows_b: int, confidence: float) -> Interval:
    """The difference of two shares on different rows, `a` less `b`, as between two slices (`proportions.unpaired_limits`)."""
    low, high = unpaired_limits(successes_a, rows_a, successes_b, rows_b, confidence)
    return Interval(successes_a / rows_a - successes_b / rows_b, float(low), float(high))


def bootstrap_interval(value: Statistic, num_rows: int, confidence: float, num_samples: int) -> Interval:
    """Percentile bootstrap over rows (Efron 1979).

    Args:
        value: Statistic of weights; a difference of two statistics gives a paired interval.
        num_rows: Rows `n`.
        confidence: Level.
        num_samples: Resamples `S`.
    """
    samples = value(resampling_weights(num_rows, num_samples))
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(value(np.ones((1, num_rows)))[0]), float(low), float(high))


def resampling_weights(num_rows: int, num_samples: int) -> Floats:
    """How often each row is drawn in each resample, `[S, n]`; always the same for the same sizes."""
    generator = np.random.default_rng(SEED)
    return generator.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=num_samples).astype(float)
