"""What a classical classifier makes of the same rows: what a tuned prompt has to beat, and which rows are easy or odd."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softprompt.data.statistics.sampling import number_labels, stratified_sample
from softprompt.data.statistics.text_model import ROWS_AT_ONCE, Classifier, Features, Floats, fit_classifier, fit_features

MOST_ROWS = 20_000
"""Rows to learn from: more of them change the accuracy little and the time much."""


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes:
        labels: Labels of the training rows, sorted.
        num_rows: Rows it learned from.
        num_rows_given: Rows there were; more than `num_rows` where a sample was drawn.
        features: Words and pairs.
        classifier: Over them.
    """

    labels: tuple[str, ...]
    num_rows: int
    num_rows_given: int
    features: Features
    classifier: Classifier

    def predict(self, texts: Sequence[str]) -> tuple[list[str], Floats]:
        """The most probable label of each text, and its probability `[n]`.

        A text without a known word gets the label that is likely without reading it.
        """
        chosen, probabilities = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for start in range(0, len(texts), ROWS_AT_ONCE):
            found = self.classifier.probabilities(self.features.of(texts[start : start + ROWS_AT_ONCE]))
            chosen.append(found.argmax(axis=1))
            probabilities.append(found.max(axis=1))
        return [self.labels[label] for label in np.concatenate(chosen)], np.concatenate(probabilities)

    def sentence(self) -> str:
        """How it was made, for a report."""
        rows = f"{self.num_rows:,} training rows"
        if self.num_rows < self.num_rows_given:
            rows = f"a sample of {self.num_rows:,} of {self.num_rows_given:,} training rows"
        return f"TF-IDF of words and word pairs with logistic regression, fitted on {rows}."


def fit_baseline(texts: Sequence[str], labels: Sequence[str], *, seed: int, most_rows: int = MOST_ROWS) -> Baseline:
    """Fit TF-IDF and logistic regression on training rows.

    Args:
        texts: Training texts `[n]`, n >= 1.
        labels: Their labels `[n]`.
        seed: Decides the sample where there are more than `most_rows`.
        most_rows: Rows to learn from.

    Raises:
        ValueError: No rows, or not one label a text.
    """
    if not len(texts) or len(texts) != len(labels):
        raise ValueError(f"a baseline needs rows, and a label for each: got {len(texts)} texts and {len(labels)} labels")
    names, label_ids = number_labels(labels)
    rows = stratified_sample(label_ids, most_rows, seed)
    sample = [texts[row] for row in rows]
    features = fit_features(sample, len(names))
    classifier = fit_classifier(features.of(sample), label_ids[rows], len(names))
    return Baseline(names, len(rows), len(texts), features, classifier)
