"""Rows needed: against a published example, against the exact power of the mid-p test, and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from softprompt.data.statistics.power import discordance, power_of, rows_needed, smallest_difference


def mid_p(better: np.ndarray, discordant: np.ndarray) -> np.ndarray:
    """Two-sided mid-p value of McNemar's test (Fagerland et al. 2013, equation 3)."""
    least = np.minimum(better, discordant - better)
    return np.minimum(2 * binom.cdf(least, discordant, 0.5) - binom.pmf(least, discordant, 0.5), 1)


def exact_power(num_rows: int, share: float, difference: float) -> float:
    """By summing over every outcome that is not vanishingly rare."""
    counts = np.arange(1, num_rows + 1)
    counts = counts[binom.pmf(counts, num_rows, share) > 1e-9]
    chance_better, power = (share + difference) / (2 * share), 0.0
    for count in counts:
        better = np.arange(count + 1)
        told = mid_p(better, np.full(count + 1, count)) <= 0.05
        power += binom.pmf(count, num_rows, share) * binom.pmf(better, count, chance_better)[told].sum()
    return float(power)


def test_the_published_example():
    """Discordant proportions 0.45 and 0.05 need 23 pairs: powerandsamplesize.com, after Connor 1987, page 209."""
    assert rows_needed(0.40, discordant=0.50) == 23


@pytest.mark.parametrize(("difference", "accuracy"), [(0.05, 0.9), (0.1, 0.7), (0.05, 0.6), (0.02, 0.97)])
def test_the_mid_p_test_has_the_power_that_is_promised(difference, accuracy):
    rows = rows_needed(difference, accuracy)
    assert exact_power(rows, discordance(accuracy, difference), difference) == pytest.approx(0.8, abs=0.04)


def test_the_mid_p_test_has_that_power_in_a_simulation_too():
    rows, share = rows_needed(0.02, 0.9), discordance(0.9, 0.02)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(rows, [(share + 0.02) / 2, (share - 0.02) / 2, 1 - share], size=4_000)
    assert (mid_p(draws[:, 0], draws[:, 0] + draws[:, 1]) <= 0.05).mean() == pytest.approx(0.8, abs=0.03)


@settings(deadline=None)
@given(st.integers(4, 20_000), st.floats(0, 1))
def test_the_smallest_difference_is_the_edge(num_rows, accuracy):
    smallest = smallest_difference(num_rows, accuracy)
    assert smallest is not None
    assert rows_needed(smallest, accuracy) <= num_rows
    if smallest > 0.0001:
        assert rows_needed(smallest - 0.0001, accuracy) > num_rows


def test_discordance_is_that_of_errors_half_correlated():
    rng = np.random.default_rng(0)
    shared = rng.random(200_000) < 0.5
    own = rng.random((2, 200_000)) < 0.1
    common = rng.random(200_000) < 0.1
    first, second = np.where(shared, common, own[0]), np.where(shared, common, own[1])
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.5, abs=0.02)
    assert (first != second).mean() == pytest.approx(discordance(0.9, 0.01), abs=0.003)


def test_the_sentence_says_what_to_do():
    power = power_of(280, 0.9)
    assert power.rows_needed == {0.02: rows_needed(0.02, 0.9), 0.05: rows_needed(0.05, 0.9)}
    assert "280 test rows tell differences of 5.0% and more between two candidates near 90% accuracy" in power.sentence("test")
    assert f"{rows_needed(0.02, 0.9):,} rows for 2%" in power.sentence("test")
    assert "no difference at all" in power_of(2).sentence("validation")


def test_what_cannot_be_is_refused():
    for difference, accuracy in ((0, 0.9), (1.1, 0.9), (0.1, 1.1)):
        with pytest.raises(ValueError, match="difference must be"):
            rows_needed(difference, accuracy)
    with pytest.raises(ValueError, match="discordant"):
        rows_needed(0.2, discordant=0.1)
