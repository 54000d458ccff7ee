"""Tests that two systems are equally good, and what becomes of many such tests."""

from collections.abc import Sequence

import numpy as np

from softprompt.evaluation.observations import Floats


def mcnemar_mid_p(only_a: int, only_b: int) -> float:
    """Two-sided mid-p McNemar test of two proportions on the same rows (Fagerland 2013).

    Args:
        only_a: Rows on which `a` succeeds and `b` does not.
        only_b: The other way round.
    """
    from scipy.stats import binom

    fewer, all_discordant = min(only_a, only_b), only_a + only_b
    return float(2 * binom.cdf(fewer, all_discordant, 0.5) - binom.pmf(fewer, all_discordant, 0.5))


def fisher_p(successes_a: int, rows_a: int, successes_b: int, rows_b: int) -> float:
    """Two-sided exact test of two proportions on different rows (Fisher 1935)."""
    from scipy.stats import fisher_exact

    table = [[successes_a, rows_a - successes_a], [successes_b, rows_b - successes_b]]
    return float(fisher_exact(table).pvalue)


def bootstrap_p(samples: Floats, estimate: float) -> float:
    """Two-sided bootstrap test that a difference is zero: how often resamples err by as much as was found.

    The resampled differences, moved to a mean of zero, stand for what chance does (Efron & Tibshirani 1993, chapter 16).
    `1 / (S + 1)` is the smallest value that `S` resamples can show.

    Args:
        samples: `[S]`, the difference on resamples.
        estimate: The difference on the rows themselves.
    """
    extreme = np.abs(samples - samples.mean()) >= abs(estimate) - 1e-12
    return float((1 + extreme.sum()) / (1 + len(samples)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for being many, in their order (Holm 1979): the chance that any is falsely small keeps its level."""
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return tuple(corrected.tolist())
