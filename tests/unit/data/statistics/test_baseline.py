"""The baseline: as good as was measured, the same every time, and undisturbed by odd rows."""

import numpy as np
import pytest

from softprompt.data.statistics import baseline as baseline_module
from softprompt.data.statistics.baseline import fit_baseline


def accuracy(baseline, texts, labels) -> float:
    chosen, _ = baseline.predict(texts)
    return float(np.mean([one == other for one, other in zip(chosen, labels, strict=True)]))


def test_it_learns_the_tickets(tickets):
    texts, labels = tickets
    baseline = fit_baseline(texts[:1200], labels[:1200], seed=0)
    assert accuracy(baseline, texts[1200:], labels[1200:]) >= 0.96
    assert baseline.sentence().endswith("fitted on 1,200 training rows.")


@pytest.mark.slow
def test_it_learns_banking77(messages, test_messages):
    assert accuracy(fit_baseline(*messages, seed=0), *test_messages) == pytest.approx(0.895, abs=0.01)


def test_the_same_rows_give_the_same_bits(tickets):
    texts, labels = tickets
    first, again = (fit_baseline(texts, labels, seed=3, most_rows=500).predict(texts) for _ in range(2))
    assert first[0] == again[0]
    assert first[1].tobytes() == again[1].tobytes()


def test_the_probability_is_that_of_the_chosen_label(tickets):
    baseline = fit_baseline(*tickets, seed=0)
    chosen, probabilities = baseline.predict(tickets[0][:50])
    every = baseline.classifier.probabilities(baseline.features.of(tickets[0][:50]))
    assert probabilities.tolist() == [row[baseline.labels.index(label)] for row, label in zip(every, chosen, strict=True)]
    assert probabilities.tolist() == every.max(axis=1).tolist()


def test_a_sample_is_told_and_still_has_every_label(tickets):
    baseline = fit_baseline(*tickets, seed=0, most_rows=300)
    assert (baseline.num_rows, baseline.num_rows_given, len(baseline.labels)) == (300, 1500, 14)
    assert "a sample of 300 of 1,500 training rows" in baseline.sentence()
    assert accuracy(baseline, *tickets) > 0.8


def test_predictions_in_pieces_are_those_at_once(tickets, monkeypatch):
    baseline = fit_baseline(*tickets, seed=0, most_rows=300)
    at_once = baseline.predict(tickets[0])
    monkeypatch.setattr(baseline_module, "ROWS_AT_ONCE", 400)
    in_pieces = baseline.predict(tickets[0])
    assert at_once[0] == in_pieces[0]
    np.testing.assert_array_equal(at_once[1], in_pieces[1])


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["", " ", "..."], ["a", "b", "b"]),
        (["one", "two", "three"], ["b", "b", "b"]),
        (["one", "", "", "two"], ["b", "a", "b", "b"]),
        (["one"], ["b"]),
    ],
)
def test_odd_rows_get_the_usual_label(texts, labels):
    chosen, probabilities = fit_baseline(texts, labels, seed=0).predict(["", "unheard of"])
    assert chosen == ["b", "b"]
    assert ((probabilities >= 0.5) & (probabilities <= 1)).all()


def test_nothing_asked_is_nothing_answered():
    chosen, probabilities = fit_baseline(["one", "two"], ["a", "b"], seed=0).predict([])
    assert chosen == []
    assert len(probabilities) == 0


def test_no_rows_or_a_missing_label_is_refused():
    with pytest.raises(ValueError, match="0 texts and 0 labels"):
        fit_baseline([], [], seed=0)
    with pytest.raises(ValueError, match="2 texts and 1 labels"):
        fit_baseline(["a", "b"], ["x"], seed=0)
