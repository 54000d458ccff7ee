"""Confidence limits of proportions and of their differences, for single counts and for whole arrays of them.

Which limits a gate uses was chosen by how often it errs (`python -m tests.bench.gate_errors`, figures in `docs/evaluation.md`).
"""

import numpy as np
from numpy.typing import ArrayLike

from softprompt.evaluation.observations import Floats

Limits = tuple[Floats, Floats]
"""Lower and upper, each shaped like the counts."""


def exact_limits(successes: ArrayLike, trials: ArrayLike, confidence: float) -> Limits:
    """Clopper & Pearson 1934: coverage is never below the level."""
    from scipy.special import betaincinv

    hits, rows = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    tail, misses = (1 - confidence) / 2, rows - hits
    low = np.where(hits == 0, 0.0, betaincinv(np.maximum(hits, 1), misses + 1, tail))
    high = np.where(misses == 0, 1.0, betaincinv(hits + 1, np.maximum(misses, 1), 1 - tail))
    return low, high


def unpaired_limits(
    successes_a: ArrayLike, trials_a: ArrayLike, successes_b: ArrayLike, trials_b: ArrayLike, confidence: float
) -> Limits:
    """Limits of the difference of two proportions on different rows, `a` less `b`.

    The square-and-add rule of Newcombe (1998, method 10; Zou & Donner 2008) over the exact limits of each proportion instead of
    Wilson's, which err up to twice as often as they say where one group is small and nearly always right.
    """
    a, b = _shares(successes_a, trials_a), _shares(successes_b, trials_b)
    low_a, high_a = exact_limits(successes_a, trials_a, confidence)
    low_b, high_b = exact_limits(successes_b, trials_b, confidence)
    return a - b - np.hypot(a - low_a, high_b - b), a - b + np.hypot(high_a - a, b - low_b)


def paired_limits(only_a: ArrayLike, only_b: ArrayLike, num_rows: ArrayLike, confidence: float) -> Limits:
    """Limits of the difference of two proportions on the same rows, `a` less `b`.

    Rows on which both or neither succeed cancel, so this is the difference of two shares of a multinomial draw: square-and-add
    over their exact limits (Zou & Donner 2008), with the correlation that such shares have.

    Tango's score limits (1998) are narrower and pass wrongly up to twice as often as they say (5.1 % for 2.5 %, 200 rows, 99 %
    right, better by 0.02).

    Args:
        only_a: Rows on which `a` succeeds and `b` does not.
        only_b: The other way round.
        num_rows: All rows.
        confidence: Level.
    """
    a, b = _shares(only_a, num_rows), _shares(only_b, num_rows)
    low_a, high_a = exact_limits(only_a, num_rows, confidence)
    low_b, high_b = exact_limits(only_b, num_rows, confidence)
    odds = a * b, (1 - a) * (1 - b)
    correlation = -np.sqrt(np.divide(*odds, out=np.zeros_like(odds[0]), where=odds[1] > 0))
    down = _add(a - low_a, high_b - b, correlation)
    up = _add(high_a - a, b - low_b, correlation)
    return a - b - down, a - b + up


def _add(first: Floats, second: Floats, correlation: Floats) -> Floats:
    """Length of the difference of two errors that are correlated."""
    total: Floats = np.sqrt(np.maximum(first**2 - 2 * correlation * first * second + second**2, 0.0))
    return total


def mid_p_limits(successes: ArrayLike, trials: ArrayLike, confidence: float) -> Limits:
    """Mid-p limits (Lancaster 1961): narrower than the exact ones, with the level on average only. No gate uses them."""
    from scipy.special import betainc

    hits, rows = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    tail = (1 - confidence) / 2

    def lower(hits: Floats) -> Floats:
        def at_least(count: Floats, share: Floats) -> Floats:
            found = betainc(np.maximum(count, 1), np.maximum(rows - count + 1, 1), share)
            certain: Floats = np.where(count <= 0, 1.0, np.where(count > rows, 0.0, found))
            return certain

        low, high = np.zeros_like(hits), np.ones_like(hits)
        for _ in range(60):  # halvings, down to the last digit of a float
            middle = (low + high) / 2
            below = (at_least(hits, middle) + at_least(hits + 1, middle)) / 2 < tail
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        limit: Floats = np.where(hits == 0, 0.0, low)
        return limit

    return lower(hits), 1 - lower(rows - hits)


def _shares(successes: ArrayLike, trials: ArrayLike) -> Floats:
    shares: Floats = np.asarray(successes, dtype=float) / np.asarray(trials, dtype=float)
    return shares
