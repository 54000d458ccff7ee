"""Calibration bins and the abstention curve against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from softprompt.evaluation.curves import abstention_curve, calibration_bins
from softprompt.evaluation.metrics import statistic
from softprompt.evaluation.observations import Answers


def sure(confidences) -> Answers:
    values = np.array(confidences, dtype=float)
    return Answers(("x",) * len(values), np.stack([values, 1 - values], axis=1))


def guesses(num_rows=400):
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, num_rows)
    return ["x" if generator.random() < c else "y" for c in confidence], sure(confidence)


def test_bins_are_scikit_learns():
    targets, answers = guesses()
    bins = calibration_bins(targets, answers)
    right, said = calibration_curve([t == "x" for t in targets], answers.probabilities[:, 0], n_bins=15)
    assert [each.accuracy for each in bins] == pytest.approx(right.tolist())
    assert [each.confidence for each in bins] == pytest.approx(said.tolist())
    assert sum(each.num_rows for each in bins) == 400


def test_the_calibration_error_is_the_bins_mean_distance():
    targets, answers = guesses()
    distance = sum(each.num_rows * abs(each.confidence - each.accuracy) for each in calibration_bins(targets, answers)) / 400
    assert statistic("ece", targets, answers)(np.ones((1, 400)))[0] == pytest.approx(distance)


def test_abstaining_by_hand():
    curve = abstention_curve(["x", "y", "x", "x"], sure([0.9, 0.8, 0.8, 0.6]))
    assert [(each.threshold, each.coverage, round(each.accuracy, 3)) for each in curve] == [
        (0.6, 1.0, 0.75),
        (0.8, 0.75, 0.667),
        (0.9, 0.25, 1.0),
    ]


@given(st.lists(st.tuples(st.integers(50, 99), st.booleans()), min_size=1, max_size=300))
def test_each_point_is_the_accuracy_of_the_rows_that_are_sure_enough(rows):
    confidence = np.array([share / 100 for share, _ in rows])
    right = np.array([hit for _, hit in rows])
    curve = abstention_curve(["x" if hit else "y" for hit in right], sure(confidence))
    assert 1 <= len(curve) <= 50
    assert curve[0].coverage == 1
    for each in curve:
        kept = confidence >= each.threshold - 1e-12
        assert each.coverage == pytest.approx(kept.mean())
        assert each.accuracy == pytest.approx(right[kept].mean())


def test_answers_without_probabilities_have_no_curves():
    assert calibration_bins(["x"], Answers(("x",))) == abstention_curve(["x"], Answers(("x",))) == ()


def test_a_long_curve_has_at_most_fifty_points():
    targets, answers = guesses(5000)
    curve = abstention_curve(targets, answers)
    assert len(curve) == 50
    assert (curve[0].coverage, curve[-1].coverage) == (1.0, 1 / 5000)
