"""Labels: alike, untidy, imbalanced, rare, missing; and real ones that are none of this."""

from collections import Counter

import pytest

from softprompt.data.statistics.balance import imbalance, missing_labels, names_alike, rare_labels, untidy_names


@pytest.mark.parametrize(
    "names",
    [
        ("Refund", "refund"),
        ("card arrival", "card_arrival"),
        ("card-arrival", "cardarrival"),
        ("caf\u00e9", "cafe\u0301"),
        ("\uff32efund", "refund"),
        ("refund", "refund "),
        ("re\u200bfund", "refund"),
        ("STRASSE", "straße"),
    ],
)
def test_names_that_look_alike_are_told(names):
    (problem,) = names_alike([*names, "another", *names])
    assert set(problem.labels) == set(names)
    assert repr(names[0]) in problem.message


def test_names_that_differ_are_left_alone(messages):
    assert names_alike(messages[1]) == []
    assert names_alike(["+", "-", "_", "a", "b"]) == []
    assert untidy_names(messages[1]) == []


def test_untidy_names_are_told():
    (problem,) = untidy_names(["a", " b", "c\n", "d\u200b", "e f"])
    assert set(problem.labels) == {" b", "c\n", "d\u200b"}


def test_imbalance_is_told_by_ratio_and_by_evenness():
    (problem,) = imbalance({"a": 200, "b": 150, "c": 10})
    assert problem.labels == ("a", "c")
    assert "(20:1)" in problem.message
    (crowded,) = imbalance({"a": 150, **{f"rare {number}": 10 for number in range(4)}, "none": 0})
    assert "5 labels are as diverse as 2.2" in crowded.message


def test_real_labels_are_balanced(messages, tickets):
    assert imbalance(Counter(messages[1])) == imbalance(Counter(tickets[1])) == []
    assert imbalance({"a": 190, "b": 150, "c": 10}) == imbalance({"a": 5}) == imbalance({}) == []


def test_rare_labels_are_told_with_their_rows():
    (problem,) = rare_labels({"a": 5, "b": 4, "c": 0})
    assert problem.labels == ("b",)
    assert "b (4)" in problem.message
    assert rare_labels({"a": 5}) == []


def test_labels_missing_in_a_part_are_told():
    found = missing_labels({"train": {"a": 3, "b": 2}, "validation": {"a": 1, "b": 1}, "test": {"a": 1, "b": 0}})
    assert [(problem.labels, "The test part" in problem.message) for problem in found] == [(("b",), True)]
    assert missing_labels({"train": {"a": 3}, "test": {}}) == []
