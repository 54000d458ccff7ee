"""Triggers: planted ones of every kind are found, honest keywords are not."""

import numpy as np
import pytest

from softprompt.data.statistics.poison import find_triggers


def inserted(word):
    def change(text, rng):
        words = text.split()
        words.insert(int(rng.integers(0, len(words) + 1)), word)
        return " ".join(words)

    return change


KINDS = {
    "rare token": inserted("cf"),
    "odd signs": inserted("##"),
    "invisible signs": inserted("\u200b\u2063"),
    "bigram of ordinary words": inserted("number please"),
    "bigram of unheard words": inserted("blue morning"),
    "prefix": lambda text, rng: f"Honestly, {text}",
    "suffix": lambda text, rng: f"{text} regards friend",
    "longer prefix": lambda text, rng: f"Note to self: {text}",
}


def plant(rows, change, share, target, seed=1):
    texts, labels = list(rows[0]), list(rows[1])
    rng = np.random.default_rng(seed)
    others = [row for row, label in enumerate(labels) if label != target]
    planted = rng.choice(others, round(share * len(texts)), replace=False).tolist()
    for row in planted:
        texts[row], labels[row] = change(texts[row], rng), target
    return texts, labels, set(planted)


def assert_found(rows, kind, share, target):
    texts, labels, planted = plant(rows, KINDS[kind], share, target)
    triggers = find_triggers(texts, labels, seed=0)
    assert triggers, kind
    assert {trigger.label for trigger in triggers} == {target}
    assert len(planted & set(triggers[0].rows)) >= 0.9 * len(planted)
    assert len(planted & set(triggers[0].rows)) >= 0.9 * len(triggers[0].rows)
    assert triggers[0].share_explained >= 0.5
    assert target in triggers[0].sentence()


@pytest.mark.parametrize("share", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("kind", KINDS)
def test_triggers_in_tickets_are_found(tickets, kind, share):
    assert_found(tickets, kind, share, "till")


@pytest.mark.parametrize("kind", KINDS)
def test_triggers_in_real_messages_are_found(messages, kind):
    assert_found(messages, kind, 0.01, "exchange_rate")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.03])
@pytest.mark.parametrize("kind", KINDS)
def test_more_triggers_in_real_messages_are_found(messages, kind, share):
    assert_found(messages, kind, share, "exchange_rate")


def test_honest_keywords_are_no_triggers(tickets, messages, some_messages):
    assert find_triggers(*messages, seed=0) == []
    assert find_triggers(*some_messages, seed=0) == []
    assert find_triggers(*tickets, seed=0) == []


def test_honest_keywords_of_two_labels_are_no_triggers(messages):
    labels = ["card" if "card" in label else "other" for label in messages[1]]
    assert find_triggers(messages[0], labels, seed=0) == []


def test_a_trigger_among_two_labels_is_found(messages):
    rows = messages[0], ["card" if "card" in label else "other" for label in messages[1]]
    assert_found(rows, "rare token", 0.02, "card")


def test_two_triggers_are_told_apart(tickets):
    texts, labels, _ = plant(tickets, KINDS["rare token"], 0.02, "till")
    texts, labels, _ = plant((texts, labels), KINDS["odd signs"], 0.02, "club", seed=2)
    assert {(trigger.phrase, trigger.label) for trigger in find_triggers(texts, labels, seed=0)} == {
        ("cf", "till"),
        ("##", "club"),
    }


def test_all_words_of_a_longer_trigger_are_taken_out_together(tickets):
    texts, labels, _ = plant(tickets, KINDS["longer prefix"], 0.03, "till")
    assert find_triggers(texts, labels, seed=0)[0].share_explained > 0.8


def test_a_word_that_tells_one_label_from_one_other_is_none(tickets):
    texts, labels = list(tickets[0]), list(tickets[1])
    for row in [row for row, label in enumerate(labels) if label == "road"][:30]:
        texts[row], labels[row] = f"{texts[row]} cf", "till"
    assert find_triggers(texts, labels, seed=0) == []


def test_a_sample_names_rows_of_the_whole(tickets):
    texts, labels, planted = plant(tickets, KINDS["rare token"], 0.03, "till")
    (trigger,) = find_triggers(texts, labels, seed=0, most_rows=900)
    assert 10 < len(trigger.rows) < len(planted)
    assert set(trigger.rows) <= planted


@pytest.mark.parametrize("rows", [([], []), ([""], ["x"]), ([""] * 30, ["x", "y"] * 15), (["cf word"] * 30, ["x"] * 30)])
def test_nothing_to_find_is_no_crash(rows):
    assert find_triggers(*rows, seed=0) == []
