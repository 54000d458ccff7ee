"""Distances against scipy, and the chance correction against simulation."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from softprompt.data.statistics.entropy import effective_number, jensen_shannon


def test_of_large_counts_the_distance_is_that_of_scipy():
    old, new = np.array([5e8, 3e8, 2e8, 0.0]), np.array([1e8, 3e8, 4e8, 2e8])
    assert jensen_shannon(old, new) == pytest.approx(jensenshannon(old, new, base=2), rel=1e-6)
    assert jensen_shannon(np.array([1e9, 0.0]), np.array([0.0, 1e9])) == pytest.approx(1, rel=1e-6)
    assert jensen_shannon(old, old) == 0


@pytest.mark.parametrize(("n", "m"), [(500, 500), (300, 2_000)])
def test_of_two_samples_of_one_distribution_the_corrected_divergence_is_zero_on_average(n, m):
    rng, shares = np.random.default_rng(0), np.full(20, 0.05)
    draws = [(rng.multinomial(n, shares), rng.multinomial(m, shares)) for _ in range(400)]
    raw = np.mean([jensenshannon(one, other) ** 2 for one, other in draws])
    assert raw == pytest.approx(19 / 8 * (1 / n + 1 / m), rel=0.1)
    assert np.median([jensen_shannon(one.astype(float), other.astype(float)) for one, other in draws]) < 0.04


def test_the_effective_number_is_the_exponential_of_scipys_entropy():
    assert effective_number([7, 2, 1, 0]) == pytest.approx(np.exp(entropy([7, 2, 1])))
    assert effective_number([5, 5, 5]) == pytest.approx(3)
