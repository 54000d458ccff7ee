"""Drift: told where there is one, by name, and not told of halves of one dataset."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.statistics.drift import drift
from softprompt.data.statistics.profile import profile_of


def rows_at(rows, places):
    return profile_of([rows[0][place] for place in places], [rows[1][place] for place in places])


def kinds(old, new) -> set[str]:
    return {found.what for found in drift(old, new)}


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from("abc")), max_size=60))
def test_a_dataset_has_not_drifted_from_itself(rows):
    profile = profile_of([text for text, _ in rows], [label for _, label in rows])
    assert drift(profile, profile) == []


@pytest.mark.parametrize("size", [5_000, 1_000])
def test_parts_of_banking77_have_not_drifted(messages, size):
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(messages[0]))
        found = kinds(rows_at(messages, order[:size]), rows_at(messages, order[-size:]))
        # A label of 35 rows may miss a tenth of the rows; that is a fact, and told.
        assert found <= (set() if size == 5_000 else {"new_labels", "vanished_labels"}), seed


@pytest.mark.parametrize("sizes", [(750, 750), (100, 100), (100, 1_400), (1_400, 100)])
def test_parts_of_the_tickets_have_not_drifted(tickets, sizes):
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(1500)
        found = kinds(rows_at(tickets, order[: sizes[0]]), rows_at(tickets, order[-sizes[1] :]))
        assert found <= {"new_labels", "vanished_labels"}, seed


def test_training_and_test_rows_of_banking77_are_alike(messages, test_messages):
    assert drift(profile_of(*messages), profile_of(*test_messages)) == []


def test_another_dataset_is_another_in_every_way(messages, tickets):
    expected = {"new_labels", "vanished_labels", "labels", "characters", "words", "unknown_words"}
    assert kinds(profile_of(*messages), profile_of(*tickets)) == expected
    assert kinds(profile_of(*tickets), profile_of(*messages)) == expected


def test_shifted_labels_are_named(tickets):
    places = [place for place, label in enumerate(tickets[1]) if label not in ("road", "till") or place % 4 == 0]
    (found,) = [one for one in drift(profile_of(*tickets), rows_at(tickets, places)) if one.what == "labels"]
    assert "road" in found.sentence
    assert "till" in found.sentence
    assert found.statistic >= found.threshold


def test_shifted_languages_are_named():
    old, new = (
        profile_of(["text"] * 200, ["x"] * 200, languages=counts) for counts in ({"en": 199, "de": 1}, {"en": 99, "de": 101})
    )
    (found,) = drift(old, new)
    assert found.what == "languages"
    assert "de 0.5% -> 50.5%" in found.sentence


def test_a_shift_that_chance_could_make_is_not_told():
    old, new = (profile_of(["text"] * 20, ["a"] * share + ["b"] * (20 - share)) for share in (10, 6))
    assert drift(old, new) == []
    larger = (profile_of(["text"] * 2_000, ["a"] * share + ["b"] * (2_000 - share)) for share in (1_000, 600))
    assert kinds(*larger) == {"labels"}


def test_new_and_vanished_labels_are_named():
    old, new = profile_of(["text"] * 40, ["a"] * 39 + ["b"]), profile_of(["text"] * 40, ["a"] * 39 + ["c"])
    assert {(one.what, one.sentence.split(": ")[1]) for one in drift(old, new)} == {
        ("new_labels", "c."),
        ("vanished_labels", "b."),
    }


def test_longer_texts_are_told_and_a_few_tokens_are_not(tickets):
    texts, labels = tickets
    tokens = [len(text.split()) for text in texts]
    old = profile_of(texts, labels, num_tokens=tokens)
    assert kinds(old, profile_of(texts, labels, num_tokens=[2 * count for count in tokens])) == {"tokens"}
    assert (
        drift(old, profile_of(texts, labels, num_tokens=[count + (place % 20 == 0) for place, count in enumerate(tokens)])) == []
    )


def test_words_that_come_in_are_told():
    old = profile_of(["the old words of before"] * 50, ["a"] * 50)
    new = profile_of(["the old words of before with unheard additions"] * 50, ["a"] * 50)
    found = {one.what: one for one in drift(old, new)}
    assert "unknown_words" in found
    assert found["unknown_words"].statistic == pytest.approx(3 / 8)
    assert "additions, unheard, with" in found["unknown_words"].sentence


def test_an_empty_dataset_says_nothing(tickets):
    assert drift(profile_of([], []), profile_of(*tickets)) == []
