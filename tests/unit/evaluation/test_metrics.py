"""Metrics and intervals against scikit-learn, rouge-score, published tables and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from softprompt.evaluation.intervals import bootstrap_interval, exact_interval, resampling_weights
from softprompt.evaluation.metrics import row_scores, statistic
from softprompt.evaluation.observations import Answers

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=40)


def value(metric, targets, outputs) -> float:
    return float(statistic(metric, targets, Answers(tuple(outputs)))(np.ones((1, len(targets))))[0])


@given(st.data())
def test_accuracy_and_macro_f1_equal_scikit_learns(data):
    targets = data.draw(LABELS)
    outputs = data.draw(st.lists(st.sampled_from("abcde"), min_size=len(targets), max_size=len(targets)))
    assert value("accuracy", targets, outputs) == pytest.approx(accuracy_score(targets, outputs))
    assert value("macro_f1", targets, outputs) == pytest.approx(f1_score(targets, outputs, average="macro", zero_division=0))


@settings(max_examples=20)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_a_resample_is_the_metric_of_the_drawn_rows(num_rows, seed):
    generator = np.random.default_rng(seed)
    targets = generator.choice(list("abc"), num_rows).tolist()
    outputs = generator.choice(list("abc"), num_rows).tolist()
    weights = resampling_weights(num_rows, 5)
    for metric, reference in (
        ("accuracy", accuracy_score),
        ("macro_f1", lambda t, o: f1_score(t, o, average="macro", zero_division=0)),
    ):
        found = statistic(metric, targets, Answers(tuple(outputs)))(weights)
        for row, drawn in zip(found, weights.astype(int), strict=True):
            t, o = np.repeat(targets, drawn), np.repeat(outputs, drawn)
            assert row == pytest.approx(reference(t, o))


def test_exact_match_ignores_white_space_around():
    assert row_scores("exact_match", ["a b", "a b", "A"], Answers((" a b\n", "a  b", "a"))).tolist() == [1, 0, 0]


def test_rouge_l_of_a_worked_example():
    # Lin 2004: longest common subsequence "police the gunman" of 3 words; precision and recall 3/4.
    scores = row_scores("rouge_l", ["police killed the gunman"], Answers(("police kill the gunman",)))
    assert scores[0] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (81, 263, 0.2527, 0.3676)],
)
def test_exact_intervals_equal_published_ones(successes, trials, low, high):
    """Clopper & Pearson 1934; the last one is Newcombe 1998, table I."""
    interval = exact_interval(successes, trials, 0.95)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    scores = np.random.default_rng(0).normal(0.5, 0.2, 400)
    interval = bootstrap_interval(lambda w: w @ scores / w.sum(axis=1), 400, 0.95, 4000)
    half = 1.96 * scores.std() / 20
    assert interval.estimate == pytest.approx(scores.mean())
    assert interval.low == pytest.approx(scores.mean() - half, abs=0.003)
    assert interval.high == pytest.approx(scores.mean() + half, abs=0.003)


def test_a_paired_interval_is_narrower_than_the_difference_of_two():
    generator = np.random.default_rng(0)
    easy = generator.random(300)
    targets = ["x"] * 300
    mine = ["x" if e < 0.8 else "y" for e in easy]
    theirs = ["x" if e < 0.7 else "y" for e in easy]
    a, b = (statistic("accuracy", targets, Answers(tuple(said))) for said in (mine, theirs))
    paired = bootstrap_interval(lambda w: a(w) - b(w), 300, 0.95, 2000)
    single = bootstrap_interval(a, 300, 0.95, 2000)
    assert paired.high - paired.low < single.high - single.low
    assert paired.estimate == pytest.approx(a(np.ones((1, 300)))[0] - b(np.ones((1, 300)))[0])


def test_the_same_rows_always_give_the_same_interval():
    assert (resampling_weights(50, 10) == resampling_weights(50, 10)).all()
    assert (resampling_weights(50, 10).sum(axis=1) == 50).all()
