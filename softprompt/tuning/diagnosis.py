"""What goes wrong in training without an error, noticed and said in a sentence."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.tuning.training_log import Measurement

LEAST_MOVE = 0.01
"""A prompt whose numbers moved by less than this share of their scale has not been trained."""
LARGEST_GROWTH = 30.0
"""A vector so many times longer than those it started among is far from anything that the base has seen."""
CONSTANT_SHARE = 0.95
"""Predictions of which so large a share is one label, where the label is not as frequent, are constant."""

RISE = 1.1
"""A validation loss that ends so many times above its lowest, while the training loss halves, belongs to rows known by heart."""


def constant_predictions(predicted: Sequence[str], expected: Sequence[str]) -> str | None:
    """Whether a classifier says the same whatever it reads."""
    label, count = Counter(predicted).most_common(1)[0]
    share, true_share = count / len(predicted), list(expected).count(label) / len(expected)
    if len(set(expected)) < 2 or share < CONSTANT_SHARE or true_share > 0.9 * share:
        return None
    return (
        f"It answers {label!r} to {share:.0%} of the validation rows, where {true_share:.0%} would be right: it has learned"
        " next to nothing. Raise training.steps or training.learning_rate, or use prompt.kind: deep."
    )


def unmoved(start: Tensor, end: Tensor, scale: Tensor) -> str | None:
    """Whether training left a prompt where it began."""
    scale = scale.expand_as(start)
    moved = float(((end - start) / scale)[scale > 0].square().mean().sqrt())
    if moved >= LEAST_MOVE:
        return None
    return (
        f"The prompt hardly moved: by {moved:.1e} of the size of the vectors around it. Raise training.learning_rate or"
        " training.steps."
    )


def moved(start: Tensor, end: Tensor) -> float:
    """Distance of a prompt to its start, relative to the start's norm."""
    return float((end - start).norm() / start.norm().clamp_min(1e-12))


def exploded(start: Tensor, end: Tensor) -> str | None:
    """Whether a vector of a prompt has become far longer than what it started among."""
    usual = float(start.norm(dim=-1).mean().clamp_min(1e-12))
    longest = float(end.norm(dim=-1).max())
    if longest <= LARGEST_GROWTH * usual:
        return None
    return (
        f"A vector is {longest / usual:.0f} times as long as those it started among: the prompt exploded. Lower"
        " training.learning_rate, or set training.max_gradient_norm."
    )


def by_heart(looks: Sequence[Measurement]) -> str | None:
    """Whether one training went on to learn its rows and nothing else (overfitting).

    Args:
        looks: All of its looks at validation.
    """
    lowest, last = min(looks, key=lambda look: look.validation_loss), looks[-1]
    if last.validation_loss <= RISE * lowest.validation_loss or last.training_loss > 0.5 * lowest.training_loss:
        return None
    return (
        f"It learned rows by heart: since step {lowest.step} the training loss fell from {lowest.training_loss:.3g} to"
        f" {last.training_loss:.3g}, the validation loss rose from {lowest.validation_loss:.3g} to {last.validation_loss:.3g}."
        " Raise training.input_noise (by 0.1, unless answers are copied from the input), or lower training.steps."
    )


def indistinguishable(best: Sequence[Measurement], num_rows: int) -> str | None:
    """Whether the validation rows are too few to say which candidate is better.

    Args:
        best: The look by which each candidate was judged.
        num_rows: Validation rows.
    """
    scores = [look.validation_accuracy for look in best if look.validation_accuracy is not None]
    if len(scores) < 2:
        return None
    first, second = sorted(scores, reverse=True)[:2]
    # Two candidates judged on the same rows; without their agreement the variance is at most the sum of both.
    noise = 1.96 * ((first * (1 - first) + second * (1 - second)) / num_rows) ** 0.5
    if first - second >= noise:
        return None
    needed = round(1.96**2 * (first * (1 - first) + second * (1 - second)) / max(first - second, 0.01) ** 2)
    return (
        f"{num_rows} validation rows cannot tell the best two candidates apart ({first:.3f} and {second:.3f}, noise {noise:.3f});"
        f" about {max(needed, num_rows + 1):,} rows could. The choice between them is a guess."
    )


def few_rows(accuracy: float, num_rows: int) -> str | None:
    """Whether a validation accuracy is known to within less than ten points only."""
    half_width = 1.96 * float(torch.tensor(max(accuracy * (1 - accuracy), 1 / (num_rows + 4)) / num_rows).sqrt())
    if half_width <= 0.1:
        return None
    return f"{num_rows} validation rows give the accuracy to within {half_width:.0%} only; the best step is picked by chance."
