"""Metrics as functions of how often each row counts, so that one definition serves estimate, bootstrap and paired difference.

A weight matrix `[S, n]` says for each of `S` resamples how often each of `n` rows was drawn; ones give the plain estimate.

classification.py  accuracy and what comes of the confusion matrix
calibration.py     probabilities against what came true
text.py            texts against texts, a score a row
corpus.py          BLEU, chrF, perplexity, length: sums over all rows first, then one score
formats.py         rules that a text must keep, whatever the right answer is
"""

from collections.abc import Callable, Sequence

import numpy as np

from softprompt.errors import InvalidRequest
from softprompt.evaluation.metrics.calibration import brier_scores, calibration_error
from softprompt.evaluation.metrics.classification import balanced_accuracy, hits, macro_f1, macro_precision, macro_recall
from softprompt.evaluation.metrics.corpus import bleu, bleu_scores, chrf, chrf_scores, length_ratio, perplexity
from softprompt.evaluation.metrics.formats import format_valid, phrases_kept
from softprompt.evaluation.metrics.text import exact_match, rouge, token_f1
from softprompt.evaluation.observations import Answers, Floats
from softprompt.recipe.evaluation import EvaluationSpec
from softprompt.recipe.gates import OF_PROBABILITIES, Metric

Statistic = Callable[[Floats], Floats]
"""Weights `[S, n]` to values `[S]`."""

PROPORTIONS: tuple[Metric, ...] = ("accuracy", "exact_match", "format_valid", "phrases_kept")
"""Metrics that count successes among rows, for which exact intervals exist."""

_OF_LABELS: dict[Metric, Callable[[Sequence[str], Sequence[str]], Statistic]] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
    "macro_f1": macro_f1,
}
_OF_TEXTS: dict[Metric, Callable[[Sequence[str], Sequence[str]], Statistic]] = {
    "bleu": bleu,
    "chrf": chrf,
    "length_ratio": length_ratio,
}
_ROWS: dict[Metric, Callable[[Sequence[str], Sequence[str]], Floats]] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "rouge_1": lambda targets, outputs: rouge("rouge1", targets, outputs),
    "rouge_2": lambda targets, outputs: rouge("rouge2", targets, outputs),
    "rouge_l": lambda targets, outputs: rouge("rougeL", targets, outputs),
    "bleu": bleu_scores,
    "chrf": chrf_scores,
}


def available(metric: Metric, answers: Answers) -> bool:
    """Whether what a system gave is enough for a metric: some need probabilities."""
    if metric not in OF_PROBABILITIES:
        return True
    return (answers.target_nats if metric == "perplexity" else answers.probabilities) is not None


def statistic(
    metric: Metric, targets: Sequence[str], answers: Answers, labels: Sequence[str] = (), spec: EvaluationSpec | None = None
) -> Statistic:
    """The metric of a system's answers against their targets.

    Args:
        metric: Which one; `available` must say that it can be had.
        targets: The right answers, `[n]`.
        answers: What the system said; a label that is none of `labels`, as an old champion may have, is a wrong answer.
        labels: All labels, in the order of the probabilities; empty for a generation.
        spec: Rules of format and phrases.

    Raises:
        InvalidRequest: There are no rows, or what was answered cannot be measured.
    """
    _check(metric, targets, answers)
    if metric in _OF_LABELS:
        return _OF_LABELS[metric](targets, answers.outputs)
    if metric in _OF_TEXTS:
        return _OF_TEXTS[metric](targets, answers.outputs)
    if metric == "perplexity":
        return perplexity(answers)
    if metric == "ece":
        return calibration_error(targets, answers)
    return mean(row_scores(metric, targets, answers, labels, spec))


def row_scores(
    metric: Metric, targets: Sequence[str], answers: Answers, labels: Sequence[str] = (), spec: EvaluationSpec | None = None
) -> Floats:
    """A score for each row, `[n]`; a metric without rows of its own (macro-F1, calibration) counts hits, like accuracy."""
    _check(metric, targets, answers)
    if metric == "brier":
        return brier_scores(targets, answers, labels)
    if metric == "format_valid":
        return format_valid(answers.outputs, (spec or EvaluationSpec()).format)
    if metric == "phrases_kept":
        return phrases_kept(answers.outputs, spec or EvaluationSpec())
    return _ROWS.get(metric, hits)(targets, answers.outputs)


def mean(scores: Floats) -> Statistic:
    """The mean of a score a row, `[n]`."""
    return lambda weights: np.asarray(weights @ scores / weights.sum(axis=1))


def _check(metric: Metric, targets: Sequence[str], answers: Answers) -> None:
    assert len(targets) == len(answers.outputs), "one answer for each target"
    if not targets:
        raise InvalidRequest(
            f"There are no rows to measure {metric} on.",
            expected="at least one test row",
            actual="0",
            hint="Give the dataset more rows, or take the slice out of the gates.",
        )
