"""Bootstrap limits: drawing rows again, and reading limits from what a statistic does then.

Chosen by measurement (`docs/evaluation.md`, "How often the gates err"): BCa for a metric, since plain percentile limits pass a
macro-F1 floor up to three times as often as they say; the wider of percentile limits and their mirror image for a difference of
two systems, where BCa limits err more often still, and for a calibration error, which few rows make larger. With few rows won
and lost a difference passes a margin wrongly up to twice as often as it says, by these limits too.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from softprompt.errors import SoftpromptError
from softprompt.evaluation.observations import Floats

SEED = 20_260_000
"""Of every bootstrap, so that the same predictions always give the same verdict."""
BLOCK = 2**23
"""Weights held at once, 64 MiB; a large test set is resampled in several blocks."""
GROUPS = 500
"""Most groups of rows that are left out in turn."""


def bootstrap_samples(value: Callable[[Floats], Floats], num_rows: int, num_samples: int) -> Floats:
    """`[S]`, a statistic of weights on every resample. SoftpromptError: it is not a finite number."""
    samples = np.concatenate([value(weights) for weights in weight_blocks(num_rows, num_samples)])
    if not np.isfinite(samples).all():
        raise SoftpromptError(f"A metric is no finite number on {(~np.isfinite(samples)).sum()} of {num_samples} resamples.")
    return samples


def bca_limits(samples: Floats, estimate: Floats, acceleration: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Bias-corrected and accelerated limits (Efron 1987).

    Args:
        samples: `[..., S]`, the statistic on resamples.
        estimate: `[...]`, on the rows themselves.
        acceleration: `[...]`, how fast its spread changes with its value.
        confidence: Level.
    """
    from scipy.special import ndtr, ndtri

    num_samples, same = samples.shape[-1], np.isclose(samples, estimate[..., None], rtol=0, atol=1e-12)
    below = ((samples < estimate[..., None]) & ~same).sum(axis=-1) + same.sum(axis=-1) / 2
    bias = ndtri(np.clip(below / num_samples, 1 / (num_samples + 1), num_samples / (num_samples + 1)))
    ordered = np.sort(samples, axis=-1)

    def limit(tail: float) -> Floats:
        reach = bias + ndtri(tail)
        place = ndtr(bias + reach / (1 - acceleration * reach)) * (num_samples - 1)
        low = np.floor(place).astype(np.intp)
        pair = [np.take_along_axis(ordered, np.minimum(i, num_samples - 1)[..., None], -1)[..., 0] for i in (low, low + 1)]
        return np.asarray(pair[0] + (place - low) * (pair[1] - pair[0]))

    return limit((1 - confidence) / 2), limit((1 + confidence) / 2)


def wide_limits(samples: Floats, estimate: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Percentile limits and their mirror image at the estimate (basic limits), the farther of both on each side.

    Where a statistic lies off the truth, or takes few values, each of both errs on one side. Arguments as in `bca_limits`.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=-1)
    return np.minimum(low, 2 * estimate - high), np.maximum(high, 2 * estimate - low)


def acceleration_of(left_out: Floats, times: Floats | None = None) -> Floats:
    """`[...]`, a sixth of the skewness of the influences (Efron & Tibshirani 1993, equation 14.15).

    Args:
        left_out: `[..., G]`, the statistic without one group of rows (or one row).
        times: `[..., G]`, how many such groups there are; None: one each.
    """
    times = np.ones_like(left_out) if times is None else times
    mean = (times * left_out).sum(axis=-1, keepdims=True) / times.sum(axis=-1, keepdims=True)
    influence = mean - left_out
    spread = (times * influence**2).sum(axis=-1) ** 1.5
    third = (times * influence**3).sum(axis=-1)
    skewness: Floats = np.divide(third, spread, out=np.zeros_like(third), where=spread > 1e-30)
    return skewness / 6


def left_out_groups(value: Callable[[Floats], Floats], num_rows: int) -> Floats:
    """`[G]`, a statistic of weights without each row in turn; with many rows, without each of 500 groups of them.

    The skewness of groups, over the square root of their number, is that of rows.
    """
    num_groups = min(num_rows, GROUPS)
    group = np.random.default_rng(SEED).permutation(num_rows) % num_groups
    size = max(1, BLOCK // num_rows)
    starts = range(0, num_groups, size)
    without = (group != np.arange(start, min(start + size, num_groups))[:, None] for start in starts)
    return np.concatenate([value(weights.astype(float)) for weights in without])


def weight_blocks(num_rows: int, num_samples: int) -> Iterator[Floats]:
    """How often each row is drawn in each resample, `[s, n]` at a time; always the same for the same sizes."""
    size = max(1, BLOCK // num_rows)
    for number, start in enumerate(range(0, num_samples, size)):
        yield _block(num_rows, min(size, num_samples - start), number)


@lru_cache(maxsize=4)
def _block(num_rows: int, num_samples: int, number: int) -> Floats:
    """Kept, since all metrics on the same rows use the same draws, and drawing takes longer than measuring."""
    drawn = np.random.default_rng([SEED, number]).integers(0, num_rows, (num_samples, num_rows))
    places = drawn + num_rows * np.arange(num_samples)[:, None]
    weights = np.bincount(places.ravel(), minlength=num_samples * num_rows).reshape(num_samples, num_rows).astype(float)
    weights.flags.writeable = False
    return weights
