"""Limits of proportions and their differences against published tables, statsmodels and enumeration of every outcome."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import binom, bootstrap, multinomial
from statsmodels.stats.proportion import proportion_confint

from softprompt.errors import SoftpromptError
from softprompt.evaluation.bootstrap import left_out_groups, weight_blocks
from softprompt.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    difference_of_proportions,
    exact_interval,
    paired_difference,
    resampling_weights,
    unseen,
)
from softprompt.evaluation.proportions import exact_limits, mid_p_limits, paired_limits, unpaired_limits


@pytest.mark.parametrize(
    ("successes", "trials", "exact", "mid_p"),
    [
        (81, 263, (0.2527, 0.3676), (0.2544, 0.3658)),
        (15, 148, (0.0578, 0.1617), (0.0601, 0.1581)),
        (0, 20, (0.0, 0.1684), (0.0, 0.1391)),
        (1, 29, (0.0009, 0.1776), (0.0017, 0.1585)),
    ],
)
def test_limits_of_one_proportion_equal_newcombes_table(successes, trials, exact, mid_p):
    """Newcombe 1998a, table I, methods 5 and 6."""
    assert exact_limits(successes, trials, 0.95) == pytest.approx(exact, abs=6e-5)
    assert mid_p_limits(successes, trials, 0.95) == pytest.approx(mid_p, abs=6e-5)
    turned = mid_p_limits(trials - successes, trials, 0.95)
    assert (1 - turned[1], 1 - turned[0]) == pytest.approx(mid_p, abs=6e-5)


@given(st.integers(1, 3000), st.floats(0, 1), st.floats(0.6, 0.999))
def test_exact_limits_equal_statsmodels(trials, share, confidence):
    successes = round(share * trials)
    expected = proportion_confint(successes, trials, 1 - confidence, method="beta")
    assert exact_limits(successes, trials, confidence) == pytest.approx(expected, abs=1e-9)


@given(st.integers(2, 300), st.integers(2, 300), st.floats(0, 1), st.floats(0, 1))
def test_differences_follow_square_and_add_over_statsmodels_limits(rows_a, rows_b, share_a, share_b):
    """Zou & Donner 2008, equations 6 and 7."""
    a, b = round(share_a * rows_a), round(share_b * rows_b)
    (l1, u1), (l2, u2) = (proportion_confint(k, n, 0.05, method="beta") for k, n in ((a, rows_a), (b, rows_b)))
    p, q = a / rows_a, b / rows_b
    found = difference_of_proportions(a, rows_a, b, rows_b, 0.95)
    assert found.estimate == pytest.approx(p - q)
    assert found.low == pytest.approx(p - q - ((p - l1) ** 2 + (u2 - q) ** 2) ** 0.5)
    assert found.high == pytest.approx(p - q + ((u1 - p) ** 2 + (q - l2) ** 2) ** 0.5)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 200))
def test_differences_the_other_way_round_have_the_other_sign(rows, a, b):
    a, b = min(a, rows), min(b, rows)
    there, back = difference_of_proportions(a, rows, b, rows, 0.9), difference_of_proportions(b, rows, a, rows, 0.9).negated()
    assert (there.low, there.high) == pytest.approx((back.low, back.high))
    b = min(b, rows - a)
    there, back = paired_difference(a, b, rows, 0.9), paired_difference(b, a, rows, 0.9).negated()
    assert (there.low, there.high) == pytest.approx((back.low, back.high))
    assert -1 <= there.low <= there.estimate <= there.high <= 1


def test_no_discordant_row_leaves_room_for_some():
    """What none among 50 rows allows of one side: the exact limit of 0 of 50."""
    found = paired_difference(0, 0, 50, 0.95)
    assert (found.low, found.estimate, found.high) == (pytest.approx(-0.0711, abs=1e-4), 0, pytest.approx(0.0711, abs=1e-4))
    assert unseen(50, 0.95) == pytest.approx(found.high)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_paired_limits_keep_their_level_over_every_outcome(confidence):
    """Every pair of counts that 40 rows allow, weighed by its probability: no draw, no luck."""
    rows = 40
    only_a, only_b = np.array([(a, b) for a in range(rows + 1) for b in range(rows + 1 - a)]).T
    low, high = paired_limits(only_a, only_b, rows, confidence)
    for share_a in np.linspace(0.0, 0.5, 11):
        for share_b in np.linspace(0.0, 0.5, 11):
            chance = multinomial.pmf(
                np.stack([only_a, only_b, rows - only_a - only_b], axis=1), rows, [share_a, share_b, 1 - share_a - share_b]
            )
            assert chance.sum() == pytest.approx(1)
            truth, nominal = share_a - share_b, (1 - confidence) / 2
            assert chance[low > truth + 1e-12].sum() <= nominal + 0.005
            assert chance[high < truth - 1e-12].sum() <= nominal + 0.005


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("sizes", [(40, 40), (30, 120)])
def test_unpaired_limits_keep_their_level_over_every_outcome(confidence, sizes):
    a, b = np.arange(sizes[0] + 1)[:, None], np.arange(sizes[1] + 1)[None, :]
    low, high = unpaired_limits(a, sizes[0], b, sizes[1], confidence)
    for share_a in np.linspace(0.0, 1.0, 11):
        for share_b in np.linspace(0.0, 1.0, 11):
            chance = binom.pmf(a, sizes[0], share_a) * binom.pmf(b, sizes[1], share_b)
            truth, nominal = share_a - share_b, (1 - confidence) / 2
            assert chance[low > truth + 1e-12].sum() <= nominal + 0.005
            assert chance[high < truth - 1e-12].sum() <= nominal + 0.005


def mean_of(scores):
    return lambda weights: weights @ scores / weights.sum(axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_bootstrap_limits_are_near_scipys_bca(seed):
    scores = np.random.default_rng(seed).exponential(1.0, 120)
    found = bootstrap_interval(mean_of(scores), 120, 0.95, 20_000)
    expected = bootstrap((scores,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    percentile = bootstrap((scores,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx(expected, abs=0.008)
    assert abs(percentile.high - expected.high) > 0.015, "else this test tells nothing"


def test_rows_that_are_all_alike_give_an_interval_of_the_width_that_they_leave_open():
    found = bootstrap_interval(mean_of(np.ones(50)), 50, 0.95, 200, reach=unseen(50, 0.95))
    assert (found.estimate, found.low) == (1.0, pytest.approx(exact_interval(50, 50, 0.95).low))


def test_groups_of_rows_are_as_skewed_as_rows():
    scores = np.random.default_rng(0).exponential(1.0, 1500)
    left_out = left_out_groups(mean_of(scores), 1500)
    assert left_out.shape == (500,)
    assert left_out.mean() == pytest.approx(scores.mean(), abs=1e-3)
    assert left_out_groups(mean_of(scores), 1500).tolist() == left_out.tolist()


def test_large_sets_are_drawn_in_blocks_of_bounded_size():
    blocks = list(weight_blocks(3_000_000, 5))
    assert [block.shape for block in blocks] == [(2, 3_000_000), (2, 3_000_000), (1, 3_000_000)]
    assert all((block.sum(axis=1) == 3_000_000).all() for block in blocks)
    assert (blocks[0][0] != blocks[1][0]).any()


@settings(max_examples=20)
@given(st.integers(1, 200))
def test_the_same_sizes_are_drawn_alike(rows):
    weights = resampling_weights(rows, 7)
    assert (weights == resampling_weights(rows, 7)).all()
    assert (weights.sum(axis=1) == rows).all()


def test_rows_are_drawn_equally_often():
    """Against the multinomial distribution: variance n(1/n)(1 - 1/n) each."""
    weights = resampling_weights(100, 20_000)
    assert weights.mean(axis=0) == pytest.approx(np.ones(100), abs=0.04)
    assert weights.var() == pytest.approx(0.99, abs=0.01)
    zero = np.exp(100 * np.log(0.99) + gammaln(1))
    assert (weights == 0).mean() == pytest.approx(zero, abs=0.002)


def test_a_metric_that_is_no_number_is_refused():
    with pytest.raises(SoftpromptError, match="no finite number on 10 of 10"):
        bootstrap_interval(lambda weights: np.full(len(weights), np.nan), 5, 0.95, 10)


def test_a_negated_interval():
    assert Interval(1, 0, 3).negated() == Interval(-1, -3, 0)
