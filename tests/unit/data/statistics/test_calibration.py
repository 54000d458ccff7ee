"""Temperature scaling recovers a temperature that is known, and gives up confidence where there is nothing to know."""

import numpy as np
import pytest

from softprompt.data.statistics.calibration import calibrated, margins


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
def test_a_known_temperature_is_found(sharpness):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4))
    truth = np.exp(sharpness * logits)
    truth /= truth.sum(axis=1, keepdims=True)
    labels = (truth.cumsum(axis=1) > rng.random((len(truth), 1))).argmax(axis=1)
    found, inverse_temperature = calibrated(logits, labels)
    assert inverse_temperature == pytest.approx(sharpness, rel=0.05)
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_random_labels_leave_no_confidence():
    rng = np.random.default_rng(0)
    found, _ = calibrated(10 * rng.normal(size=(5_000, 2)), rng.integers(0, 2, 5_000))
    assert found.max() < 0.6


def test_margins_name_the_best_other_label():
    best, margin = margins(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([0, 1]))
    assert best.tolist() == [1, 2]
    assert margin.tolist() == pytest.approx([-0.2, 0.5])
