"""Confidence intervals of one number: exact for proportions, bootstrap for everything else, paired for differences."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from softprompt.errors import SoftpromptError
from softprompt.evaluation.metrics import Statistic
from softprompt.evaluation.observations import Floats
from softprompt.evaluation.proportions import exact_limits, paired_limits, unpaired_limits

SEED = 20_260_000
"""Of every bootstrap, so that the same predictions always give the same verdict."""
BLOCK = 2**23
"""Weights held at once, 64 MiB; a large test set is resampled in several blocks."""


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


def bootstrap_interval(value: Statistic, num_rows: int, confidence: float, num_samples: int) -> Interval:
    """Percentile bootstrap over rows (Efron 1979).

    Args:
        value: Statistic of weights; a difference of two statistics gives a paired interval.
        num_rows: Rows `n`.
        confidence: Level.
        num_samples: Resamples `S`.

    Raises:
        SoftpromptError: The statistic is not a finite number.
    """
    estimate, samples = float(value(np.ones((1, num_rows)))[0]), bootstrap_samples(value, num_rows, num_samples)
    low, high = percentile_limits(samples, confidence)
    return Interval(estimate, float(low), float(high))


def bootstrap_samples(value: Statistic, num_rows: int, num_samples: int) -> Floats:
    """`[S]`, the statistic of each resample. Arguments and errors as in `bootstrap_interval`."""
    samples = np.concatenate([value(weights) for weights in _blocks(num_rows, num_samples)])
    if not np.isfinite(samples).all():
        raise SoftpromptError(f"A metric is no finite number on {(~np.isfinite(samples)).sum()} of {num_samples} resamples.")
    return samples


def percentile_limits(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Lower and upper limit from resamples along the last axis."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=-1)
    return low, high


def resampling_weights(num_rows: int, num_samples: int) -> Floats:
    """How often each row is drawn in each resample, `[S, n]`; always the same for the same sizes."""
    return np.concatenate(list(_blocks(num_rows, num_samples)))


def _blocks(num_rows: int, num_samples: int) -> Iterator[Floats]:
    size = max(1, BLOCK // num_rows)
    for number, start in enumerate(range(0, num_samples, size)):
        yield _block(num_rows, min(size, num_samples - start), number)


@lru_cache(maxsize=4)
def _block(num_rows: int, num_samples: int, number: int) -> Floats:
    """Kept, since all metrics on the same rows use the same draws; drawing takes longer than measuring."""
    drawn = np.random.default_rng([SEED, number]).integers(0, num_rows, (num_samples, num_rows))
    places = drawn + num_rows * np.arange(num_samples)[:, None]
    weights = np.bincount(places.ravel(), minlength=num_samples * num_rows).reshape(num_samples, num_rows).astype(float)
    weights.flags.writeable = False
    return weights
