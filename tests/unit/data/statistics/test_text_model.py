"""The classical classifier against scikit-learn called directly, and on what has no words, no rows, or one label."""

import warnings

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from softprompt.data.statistics import text_model
from softprompt.data.statistics.sampling import number_labels
from softprompt.data.statistics.text_model import fit_classifier, fit_features


def test_probabilities_are_those_of_scikit_learn(tickets):
    texts, labels = tickets[0][:400], tickets[1][:400]
    _, ids = number_labels(labels)
    features = fit_features(texts, 14)
    weights = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+").fit_transform(texts)
    stock = LogisticRegression(C=10.0, tol=1e-8, max_iter=10_000).fit(weights, ids)
    ours = fit_classifier(features.of(texts), ids, 14).probabilities(features.of(texts))
    # Ours stops earlier: on the way to the same weights, with the same answers.
    np.testing.assert_allclose(ours, stock.predict_proba(weights), atol=0.06)
    assert (ours.argmax(axis=1) == stock.predict(weights)).mean() > 0.99


def test_fitting_is_done_by_one_thread(monkeypatch):
    """How many threads share a sum decides its last bits, so that two machines would disagree."""
    seen = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression,
        "fit",
        lambda model, *data: seen.extend(pool["num_threads"] for pool in threadpool_info()) or fit(model, *data),
    )
    features = fit_features(["red one", "blue one"], 2)
    with threadpool_limits(2):
        fit_classifier(features.of(["red one", "blue one"]), np.array([0, 1]), 2)
    assert seen
    assert set(seen) == {1}


def test_the_solver_converges_without_a_warning(tickets, flip_labels):
    labels, _ = flip_labels(tickets[1], 0.9, 0)
    _, ids = number_labels(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit_classifier(fit_features(tickets[0], 14).of(tickets[0]), ids, 14)
    assert model.regression.n_iter_.max() < 500


def test_characters_of_languages_without_spaces_are_words():
    vocabulary = fit_features(["退款在哪里 refund", "สวัสดี"], 2).vectoriser.vocabulary_
    assert {"退", "款", "退 款", "refund", "ส"} <= set(vocabulary)


def test_texts_without_a_word_have_features_of_zero():
    features = fit_features(["", " ", "!?"], 2)
    assert features.of(["word", ""]).nnz == 0
    assert fit_features(["a word"], 2).of([]).shape == (0, 3)


def test_many_labels_leave_room_for_fewer_features(monkeypatch):
    texts = [f"word{number}" for number in range(5_000)]
    monkeypatch.setattr(text_model, "MOST_WEIGHTS", 40_000)
    assert len(fit_features(texts, 10).vectoriser.vocabulary_) == 4_000
    assert len(fit_features(texts, 1_000).vectoriser.vocabulary_) == 1_000


def test_a_label_that_training_lacks_has_no_probability():
    features = fit_features(["red one", "blue one"], 3)
    found = fit_classifier(features.of(["red one", "blue one"]), np.array([0, 2]), 3).probabilities(features.of(["red"]))
    assert found[0, 1] == 0
    assert found.sum() == pytest.approx(1)
    assert fit_classifier(features.of(["red one"]), np.array([1]), 3).probabilities(features.of(["x"])).tolist() == [[0, 1, 0]]
