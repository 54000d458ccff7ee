"""Metrics as functions of how often each row counts, so that one definition serves estimate, bootstrap and paired difference.

A weight matrix `[S, n]` says for each of `S` resamples how often each of `n` rows was drawn; ones give the plain estimate.
"""

from collections.abc import Callable, Sequence

import numpy as np

from softprompt.evaluation.observations import Answers, Floats
from softprompt.gate_specs import Metric
from softprompt.recipe import EvaluationSpec

Statistic = Callable[[Floats], Floats]
"""Weights `[S, n]` to values `[S]`."""

PROPORTIONS: tuple[Metric, ...] = ("accuracy", "exact_match", "format_valid", "phrases_kept")
"""Metrics that count successes among rows, for which exact intervals exist."""


def available(metric: Metric, answers: Answers) -> bool:
    """Whether what a system gave is enough for a metric."""
    return metric in ("accuracy", "macro_f1", "exact_match", "rouge_l")


def statistic(
    metric: Metric, targets: Sequence[str], answers: Answers, labels: Sequence[str] = (), spec: EvaluationSpec | None = None
) -> Statistic:
    """The metric of a system's answers against their targets.

    Args:
        metric: Which one; `available` must say that it can be had.
        targets: The right answers, `[n]`.
        answers: What the system said.
        labels: All labels, in the order of the probabilities; empty for a generation.
        spec: Rules of format and phrases.
    """
    if metric == "macro_f1":
        return _macro_f1(targets, answers.outputs)
    return _mean(row_scores(metric, targets, answers, labels, spec))


def row_scores(
    metric: Metric, targets: Sequence[str], answers: Answers, labels: Sequence[str] = (), spec: EvaluationSpec | None = None
) -> Floats:
    """A score for each row, `[n]`; a metric without rows of its own (macro-F1) counts hits, like accuracy."""
    if metric == "rouge_l":
        return _rouge_l(targets, answers.outputs)
    pairs = zip(targets, answers.outputs, strict=True)
    return np.array([target.strip() == output.strip() for target, output in pairs], dtype=float)


def _mean(scores: Floats) -> Statistic:
    return lambda weights: weights @ scores / weights.sum(axis=1)


def _macro_f1(targets: Sequence[str], outputs: Sequence[str]) -> Statistic:
    """Mean F1 over the labels that occur among targets or outputs, as scikit-learn's `f1_score(average="macro")`."""
    labels = sorted({*targets, *outputs})
    true = np.array([[target == label for label in labels] for target in targets], dtype=float)
    said = np.array([[output == label for label in labels] for output in outputs], dtype=float)

    def f1(weights: Floats) -> Floats:
        hits, support, claims = weights @ (true * said), weights @ true, weights @ said
        occurs = support + claims > 0
        scores = np.divide(2 * hits, support + claims, out=np.zeros_like(hits), where=occurs)
        mean: Floats = scores.sum(axis=1) / occurs.sum(axis=1)
        return mean

    return f1


def _rouge_l(targets: Sequence[str], outputs: Sequence[str]) -> Floats:
    """ROUGE-L F1 a row (Lin 2004), by the rouge-score package."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    scores = [scorer.score(target, output)["rougeL"].fmeasure for target, output in zip(targets, outputs, strict=True)]
    return np.array(scores, dtype=float)
