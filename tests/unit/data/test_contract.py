"""The contract: what a record must have, and how a fault is told."""

import pytest

from softprompt.data.contract import Contract, RowFault
from softprompt.data.reading.records import Record
from softprompt.recipe.dataset import DatasetSpec

SPEC = DatasetSpec(uri="x", target_column="label")


def row(cells, **wishes):
    (found,) = Contract(SPEC.model_copy(update=wishes), ("text",)).rows(Record("a.jsonl", 7, cells, ""))
    return found


GOOD = {"text": "a", "label": "x"}


def test_a_row_keeps_its_place():
    found = row(GOOD)
    assert (found.id, found.file, found.line, found.place) == ("a.jsonl:7", "a.jsonl", 7, "a.jsonl:7")
    named = row(GOOD | {"key": "t-1"}, id_column="key")
    assert (named.id, named.place) == ("t-1", "a.jsonl:7 (t-1)")


def test_columns_that_are_not_asked_for_fill_nothing():
    found = row(GOOD | {"id": "7", "part": "test", "group": "g", "must_pass": True, "target": "z", "input0": "b"})
    assert (found.part, found.group, found.must_pass, found.target, found.inputs) == ("train", "", False, "x", {"text": "a"})


@pytest.mark.parametrize(("said", "part"), [("train", "train"), ("DEV", "validation"), (" Test ", "test"), ("val", "validation")])
def test_a_split_column_says_the_part(said, part):
    assert row(GOOD | {"split": said}, split_column="split").part == part


@pytest.mark.parametrize(
    ("cells", "wishes", "why"),
    [
        ({"label": "x"}, {}, "no column 'text'; there are 'label'"),
        ({}, {}, "no column 'text'; there are none"),
        (GOOD | {"text": 1.5}, {}, "column 'text' is float, not text"),
        (GOOD | {"text": None}, {}, "column 'text' is null, not text"),
        (GOOD | {"text": " \t"}, {}, "column 'text' is empty"),
        (GOOD | {"text": ["a"]}, {}, "column 'text' is list, not text"),
        (GOOD | {"split": "third"}, {"split_column": "split"}, "column 'split' says 'third', not train, validation or test"),
        (GOOD | {"must": "perhaps"}, {"must_pass_column": "must"}, "column 'must' says 'perhaps', not true or false"),
    ],
)
def test_a_fault_is_told_in_words(cells, wishes, why):
    with pytest.raises(RowFault) as caught:
        row(cells, **wishes)
    assert str(caught.value) == why


def test_a_reader_s_fault_is_passed_on():
    with pytest.raises(RowFault, match="duplicate key 'text'"):
        list(Contract(SPEC, ("text",)).rows(Record("a.jsonl", 1, None, "duplicate key 'text'")))


@pytest.mark.parametrize(("said", "flag"), [(True, True), ("false", False), (1, True), ("", False), (None, False)])
def test_must_pass_is_true_or_false(said, flag):
    assert row(GOOD | {"must": said}, must_pass_column="must").must_pass is flag


def chat(cells):
    spec = DatasetSpec(uri="x", messages_column="talk", id_column="key")
    contract = Contract(
        spec, ("messages",), lambda messages: "|".join(f"{m['role']}:{m['content']}" for m in messages) + "|assistant:"
    )
    return list(contract.rows(Record("a.jsonl", 1, cells, "")))


def turn(role, content):
    return {"role": role, "content": content}


def test_every_answer_of_the_assistant_is_a_row_after_all_that_was_said_before():
    talk = [
        turn("system", "be kind"),
        turn("user", "hi"),
        turn("assistant", "hello"),
        turn("user", "bye"),
        turn("assistant", "ciao"),
    ]
    found = chat({"talk": talk, "key": "c1"})
    assert [row.inputs["messages"] for row in found] == [
        "system:be kind|user:hi|assistant:",
        "system:be kind|user:hi|assistant:hello|user:bye|assistant:",
    ]
    assert [row.target for row in found] == ["hello", "ciao"]
    assert [row.id for row in found] == ["c1#3", "c1#5"]
    assert {row.group for row in found} == {"c1"}, "one conversation stays in one part"


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        ([turn("user", "hi")], "no answer of an assistant"),
        ([], "no answer of an assistant"),
        ([turn("user", "hi"), turn("assistant", " ")], "message 2 of the conversation is empty"),
        ([{"role": "user"}], "column 'talk', item 1, 'content'"),
        ("hi", "column 'talk'"),
    ],
)
def test_a_conversation_s_fault_is_told(talk, why):
    with pytest.raises(RowFault, match=why):
        chat({"talk": talk, "key": "c1"})
