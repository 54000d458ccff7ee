"""Accuracy, and what comes of the confusion matrix. Values equal scikit-learn's on the drawn rows, with `zero_division=0`."""

from collections.abc import Callable, Sequence

import numpy as np

from softprompt.evaluation.observations import Booleans, Floats

Ratio = Callable[[Floats, Floats, Floats], tuple[Floats, Floats, Booleans]]
"""From rows rightly given a label, rows that deserve it and rows that were given it, `[S, labels]` each, to numerator,
denominator, and which labels take part."""


def hits(targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    """`[n]`, 1 where the answer is right but for white space around it."""
    return np.array([target.strip() == output.strip() for target, output in zip(targets, outputs, strict=True)], dtype=float)


def balanced_accuracy(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """Mean recall over the labels that occur among the targets."""
    return _macro(targets, outputs, lambda hit, true, said: (hit, true, true > 0))


def macro_recall(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """Mean recall over the labels that occur among targets or outputs; 0 for one that no row deserves."""
    return _macro(targets, outputs, lambda hit, true, said: (hit, true, true + said > 0))


def macro_precision(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """Mean precision over the labels that occur among targets or outputs; 0 for one that was never given."""
    return _macro(targets, outputs, lambda hit, true, said: (hit, said, true + said > 0))


def macro_f1(targets: Sequence[str], outputs: Sequence[str]) -> Callable[[Floats], Floats]:
    """Mean F1 over the labels that occur among targets or outputs."""
    return _macro(targets, outputs, lambda hit, true, said: (2 * hit, true + said, true + said > 0))


def _macro(targets: Sequence[str], outputs: Sequence[str], ratio: Ratio) -> Callable[[Floats], Floats]:
    """The mean over labels of a ratio of counts.

    Args:
        targets: The right labels, `[n]`.
        outputs: The given ones.
        ratio: Which.
    """
    labels = sorted({*targets, *outputs})
    true, said = _one_hot(targets, labels), _one_hot(outputs, labels)

    def value(weights: Floats) -> Floats:
        above, below, counts = ratio(weights @ (true * said), weights @ true, weights @ said)
        scores = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        mean: Floats = (scores * counts).sum(axis=1) / counts.sum(axis=1)
        return mean

    return value


def _one_hot(values: Sequence[str], labels: Sequence[str]) -> Floats:
    """`[n, labels]`."""
    places = {label: place for place, label in enumerate(labels)}
    return np.eye(len(labels))[[places[value] for value in values]]
