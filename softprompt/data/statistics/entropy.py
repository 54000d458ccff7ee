"""How many labels there are in effect, and how far two distributions are apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def effective_number(counts: Sequence[int] | NDArray[np.int64]) -> float:
    """How many equally frequent kinds would be as diverse: the exponential of Shannon's entropy (Hill 1973, order 1).

    Args:
        counts: Rows of each kind; at least one is positive.
    """
    found = np.asarray(counts, dtype=float)
    shares = found[found > 0] / found.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def jensen_shannon(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """Jensen-Shannon distance in bits, 0 (the same) to 1 (nothing in common), corrected for what chance alone makes of it.

    Two samples of one distribution over `k` kinds have an expected divergence of about (k - 1) / 8 (1/n + 1/m) nats: for n = m
    and times 2 (n + m), it is the likelihood ratio of homogeneity, whose expectation is its k - 1 degrees of freedom (Grosse et
    al. 2002, "Analysis of symbolic sequences using the Jensen-Shannon divergence"). That much is taken off before the root.

    Args:
        old: Counts `[k]`, some of them positive.
        new: Counts of the same kinds `[k]`, some of them positive.
    """
    first, second = old / old.sum(), new / new.sum()
    middle = (first + second) / 2
    divergence = (_kullback_leibler(first, middle) + _kullback_leibler(second, middle)) / 2
    by_chance = (np.count_nonzero(middle) - 1) / 8 * (1 / old.sum() + 1 / new.sum())
    return float(np.sqrt(max(divergence - by_chance, 0.0) / np.log(2)))


def _kullback_leibler(shares: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    some = shares > 0
    return float((shares[some] * np.log(shares[some] / others[some])).sum())
