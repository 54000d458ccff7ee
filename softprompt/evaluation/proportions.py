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


def _shares(successes: ArrayLike, trials: ArrayLike) -> Floats:
    return np.asarray(successes, dtype=float) / np.asarray(trials, dtype=float)
