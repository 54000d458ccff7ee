"""Probabilities that mean what they say: one temperature over out-of-sample predictions."""

import numpy as np

from softprompt.data.statistics.sampling import Ids
from softprompt.data.statistics.text_model import Floats

SMALLEST = 1e-12
"""Probability that stands for zero, so that a logarithm exists."""


def calibrated(log_probabilities: Floats, label_ids: Ids) -> tuple[Floats, float]:
    """Temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2).

    A regularised classifier of few rows is far less sure than it is right, naive Bayes far more; and where labels cannot be told
    from the text at all, the best temperature makes every label equally probable, so that nothing is ever said with confidence.

    Args:
        log_probabilities: Out of sample, up to a constant a row `[n, L]`.
        label_ids: The given labels `[n]`.

    Returns:
        Probabilities `[n, L]`, and the inverse temperature that maximises the likelihood of the given labels.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(label_ids))

    def loss(log_sharpness: float) -> float:
        scaled = _shifted(log_probabilities * np.exp(log_sharpness))
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, label_ids]).mean())

    sharpness = float(np.exp(minimize_scalar(loss, bounds=(-8.0, 4.0), method="bounded").x))
    likelihoods = np.exp(_shifted(log_probabilities * sharpness))
    return likelihoods / likelihoods.sum(axis=1, keepdims=True), sharpness


def margins(probabilities: Floats, label_ids: Ids) -> tuple[Ids, Floats]:
    """The most probable other label of each row `[n]`, and by how much it is more probable than the given one `[n]`."""
    rows = np.arange(len(label_ids))
    others = probabilities.copy()
    others[rows, label_ids] = -1.0
    best = others.argmax(axis=1)
    return best, probabilities[rows, best] - probabilities[rows, label_ids]


def _shifted(logs: Floats) -> Floats:
    shifted: Floats = logs - logs.max(axis=1, keepdims=True)
    return shifted
