"""Probabilities against what came true."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from softprompt.errors import SoftpromptError, UnsupportedBaseModel
from softprompt.evaluation.metrics.classification import hits
from softprompt.evaluation.observations import Answers, Floats

NUM_BINS = 15
"""Of confidence, equally wide, as in Guo 2017 and in torchmetrics."""
TOLERANCE = 1e-3
"""How far probabilities may be from a sum of 1; half precision needs this much."""


def calibration_error(targets: Sequence[str], answers: Answers) -> Callable[[Floats], Floats]:
    """Expected calibration error (Guo 2017): mean distance between confidence and accuracy over 15 equally wide bins.

    It is never below 0, so few rows make it look worse than it is.
    """
    excess = confidences(answers) - hits(targets, answers.outputs)
    spread = np.eye(NUM_BINS)[bins_of(confidences(answers))] * excess[:, None]
    return lambda weights: np.asarray(np.abs(weights @ spread).sum(axis=1) / weights.sum(axis=1))


def brier_scores(targets: Sequence[str], answers: Answers, labels: Sequence[str]) -> Floats:
    """`[n]`, squared distance between probabilities and truth (Brier 1950): summed over labels, half of that for two labels.

    That is what scikit-learn's `brier_score_loss` says. A target that is none of the labels had probability 0.
    """
    said = probabilities_of(answers)
    places = {label: place for place, label in enumerate(labels)}
    truth = np.zeros((len(said), len(labels) + 1))
    truth[np.arange(len(said)), [places.get(target, len(labels)) for target in targets]] = 1
    if said.shape[1] != len(labels):
        raise SoftpromptError(
            "There is not one probability for each label.", expected=f"{len(labels)} a row", actual=f"{said.shape[1]}"
        )
    distance: Floats = ((np.pad(said, ((0, 0), (0, 1))) - truth) ** 2).sum(axis=1)
    return distance / 2 if len(labels) == 2 else distance


def confidences(answers: Answers) -> Floats:
    """`[n]`, probability of the likeliest label."""
    highest: Floats = probabilities_of(answers).max(axis=1)
    return highest


def bins_of(confidence: Floats) -> NDArray[np.intp]:
    """`[n]`, the bin of each confidence; a bin has its lower bound, the last one both."""
    return np.minimum((confidence * NUM_BINS).astype(np.intp), NUM_BINS - 1)


def probabilities_of(answers: Answers) -> Floats:
    """`[n, labels]`. UnsupportedBaseModel: these numbers are no probabilities."""
    assert answers.probabilities is not None, "ask `available` first"
    found = np.asarray(answers.probabilities, dtype=float)
    wrong = np.flatnonzero(~((found >= 0).all(axis=1) & (np.abs(found.sum(axis=1) - 1) < TOLERANCE)))
    if wrong.size:
        raise UnsupportedBaseModel(
            "The model's probabilities are none.",
            where=f"test row {wrong[0] + 1} (counted from 1) and {wrong.size - 1} more",
            expected="numbers from 0 to 1 that add up to 1",
            actual=", ".join(f"{value:g}" for value in found[wrong[0]][:8]),
            hint="NaN comes of numbers too large for the format; set base_model.dtype to float32 or bfloat16.",
        )
    return found
