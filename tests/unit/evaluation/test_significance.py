"""Tests of equality against published examples, statsmodels, scipy and enumeration."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from softprompt.evaluation.bootstrap import bootstrap_samples
from softprompt.evaluation.significance import bootstrap_p, fisher_p, holm, mcnemar_mid_p


@pytest.mark.parametrize(("only_a", "only_b", "expected"), [(1, 7, 0.039), (16, 6, 0.035), (0, 0, 1.0), (5, 5, 1.0)])
def test_mid_p_of_published_examples(only_a, only_b, expected):
    """Fagerland, Lydersen & Laake 2013: airway hyper-responsiveness, and complete response before and after treatment."""
    assert mcnemar_mid_p(only_a, only_b) == pytest.approx(expected, abs=5e-4)
    assert mcnemar_mid_p(only_b, only_a) == mcnemar_mid_p(only_a, only_b)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mid_p_is_the_exact_test_less_the_chance_of_just_this_table(only_a, only_b):
    exact = mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue
    discordant = only_a + only_b
    draws = np.array([1.0])
    for _ in range(discordant):  # Pascal's triangle, halved each time
        draws = np.convolve(draws, [0.5, 0.5])
    just_this = draws[min(only_a, only_b)]
    assert mcnemar_mid_p(only_a, only_b) == pytest.approx(1.0 if only_a == only_b else exact - just_this, abs=1e-9)


def test_fishers_tea():
    assert fisher_p(3, 4, 1, 4) == pytest.approx(0.4857, abs=1e-4)


@pytest.mark.parametrize(("shift", "seed"), [(0.0, 1), (0.1, 2), (0.25, 3)])
def test_the_bootstrap_test_is_near_a_permutation_test(shift, seed):
    differences = np.random.default_rng(seed).normal(shift, 1, 150)
    samples = bootstrap_samples(lambda w: w @ differences / w.sum(axis=1), 150, 10_000)
    zeros = np.zeros(150)
    expected = permutation_test(
        (differences, zeros), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=10_000, rng=0
    )
    assert bootstrap_p(samples, differences.mean()) == pytest.approx(expected.pvalue, abs=0.03)


def test_no_difference_at_all_is_no_evidence_and_resamples_bound_the_rest():
    assert bootstrap_p(np.zeros(999), 0.0) == 1.0
    assert bootstrap_p(np.full(999, 0.5), 0.5) == pytest.approx(0.001)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_bonferroni_over_every_set_of_hypotheses(p_values):
    """The closure principle (Marcus, Peritz & Gabriel 1976): the largest corrected value among all sets that one is in."""
    places = range(len(p_values))
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(places, size)]
    expected = [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if place in s) for place in places]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_equals_statsmodels():
    p_values = np.random.default_rng(0).beta(0.3, 2, 40).round(2)
    assert holm(p_values.tolist()) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_nothing_to_correct():
    assert holm([]) == ()
