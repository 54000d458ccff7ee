"""The report's curves: how far confidence can be trusted, and what is gained where the unsure rows go to a person."""

from collections.abc import Sequence

import numpy as np

from softprompt.evaluation.gate_report import Abstention, CalibrationBin
from softprompt.evaluation.metrics.calibration import NUM_BINS, bins_of, confidences
from softprompt.evaluation.metrics.classification import hits
from softprompt.evaluation.observations import Answers

MAX_POINTS = 50


def calibration_bins(targets: Sequence[str], answers: Answers) -> tuple[CalibrationBin, ...]:
    """The bins behind the calibration error that have rows, by rising confidence; empty for answers without probabilities."""
    if answers.probabilities is None:
        return ()
    confidence, right = confidences(answers), hits(targets, answers.outputs)
    place = bins_of(confidence)
    return tuple(
        CalibrationBin(
            low=number / NUM_BINS,
            high=(number + 1) / NUM_BINS,
            confidence=float(confidence[place == number].mean()),
            accuracy=float(right[place == number].mean()),
            num_rows=int((place == number).sum()),
        )
        for number in sorted(set(place.tolist()))
    )


def abstention_curve(targets: Sequence[str], answers: Answers) -> tuple[Abstention, ...]:
    """Coverage and accuracy of the rows at least as confident as each threshold, by rising threshold (El-Yaniv & Wiener 2010).

    Rows of equal confidence stay together. At most 50 points, evenly spread over the possible ones; empty for answers without
    probabilities.
    """
    if answers.probabilities is None or not targets:
        return ()
    confidence, right = confidences(answers), hits(targets, answers.outputs)
    order = np.argsort(confidence)
    thresholds, first = np.unique(confidence[order], return_index=True)
    answered = len(order) - first
    accuracy = right[order][::-1].cumsum()[answered - 1] / answered
    shown = np.unique(np.linspace(0, len(first) - 1, min(MAX_POINTS, len(first))).round().astype(int))
    return tuple(
        Abstention(threshold=float(thresholds[i]), coverage=float(answered[i] / len(order)), accuracy=float(accuracy[i]))
        for i in shown
    )
