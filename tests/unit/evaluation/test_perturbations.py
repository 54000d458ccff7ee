"""Disturbed inputs: what changes, what must not, and always the same."""

import json
import re
import unicodedata
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.rows import Row
from softprompt.errors import InvalidRequest
from softprompt.evaluation.perturbations import perturb
from softprompt.evaluation.perturbations.length import MAX_CHARACTERS, NEUTRAL
from softprompt.evaluation.perturbations.letters import NEIGHBOURS, with_typos
from softprompt.evaluation.perturbations.marks import with_other_punctuation, with_other_white_space
from softprompt.evaluation.perturbations.paraphrases import read_paraphrases
from softprompt.evaluation.perturbations.surroundings import PREFIXES, SUFFIXES

TEXT = "My parcel 4711-AB has not arrived, although tracking says: delivered! Please refund 12.50 euros."
KINDS = ["typos", "upper_case", "lower_case", "whitespace", "punctuation", "prefix", "suffix", "long", "empty"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60) | st.lists(
    st.sampled_from(["parcel", "Straße", "über", "don't", "4711", "3.50", "a", "x-y", "…", "日本語", "queue"]), max_size=12
).map(" ".join)
SEEDS = st.integers(0, 10_000)


def rows(*texts, column="text"):
    return [Row(f"row-{number}", number, {column: text, "other": "as it was"}, "x") for number, text in enumerate(texts)]


def disturbed(kind, *texts, seed=1, **more):
    return perturb(kind, rows(*texts), columns=["text"], seed=seed, **more)


def texts_of(found):
    return [inputs["text"] for inputs in found.inputs]


# What holds for all


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_templates_columns_and_never_the_rows_themselves(kind):
    given_rows = rows(TEXT, TEXT)
    before = [dict(row.inputs) for row in given_rows]
    found = perturb(kind, given_rows, columns=["text"], seed=1)
    assert [row.inputs for row in given_rows] == before
    assert {tuple(inputs) for inputs in found.inputs} == {("text",)}
    assert found.rows.tolist() == ([0] if kind == "empty" else [0, 1])
    assert found.rows.dtype.kind == "i"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_a_text(kind):
    assert texts_of(disturbed(kind, TEXT)) != [TEXT]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "empty"])
def test_a_row_is_disturbed_alike_whatever_stands_around_it(kind):
    alone = perturb(kind, rows(TEXT, TEXT)[1:], columns=["text"], seed=1)
    assert texts_of(alone)[0] == texts_of(disturbed(kind, TEXT, TEXT))[1]


@pytest.mark.parametrize("kind", ["typos", "whitespace", "punctuation", "prefix", "suffix"])
def test_rows_and_seeds_are_disturbed_differently(kind):
    same = texts_of(disturbed(kind, *[TEXT] * 30))
    assert len(set(same)) > 5
    assert same != texts_of(disturbed(kind, *[TEXT] * 30, seed=2))


def test_disturbances_do_not_depend_on_the_python_process():
    """Written down: another draw would make figures of different runs incomparable."""
    assert texts_of(disturbed("typos", TEXT)) == [TEXT.replace("delivered", "deelivered")]
    assert texts_of(disturbed("punctuation", TEXT)) == [
        "My parcel 4711--AB has not arrived,, although tracking says delivered!! Please refund 12.50 euros."
    ]


def test_no_rows():
    for kind in KINDS:
        found = disturbed(kind)
        assert (found.rows.tolist(), found.inputs) == ([], ())


# Letters


def test_neighbours_lie_around_a_key():
    assert {letter: "".join(sorted(NEIGHBOURS[letter])) for letter in "gqpmaz"} == {
        "g": "bfhtvy",
        "q": "aw",
        "p": "lo",
        "m": "jkn",
        "a": "qswz",
        "z": "asx",
    }
    assert all(letter in NEIGHBOURS[other] for letter, others in NEIGHBOURS.items() for other in others)
    assert set(NEIGHBOURS) == set("abcdefghijklmnopqrstuvwxyz")


def one_error(clean: str, typed: str) -> bool:
    """Whether a word became the other by one wrong, lost, doubled or swapped letter (brute force)."""
    made = {clean[:i] + clean[i + 1 :] for i in range(1, len(clean))}
    made |= {clean[:i] + clean[i] + clean[i:] for i in range(1, len(clean))}
    made |= {clean[:i] + clean[i + 1] + clean[i] + clean[i + 2 :] for i in range(1, len(clean) - 1)}
    lower = {
        clean[:i] + key + clean[i + 1 :]
        for i in range(1, len(clean))
        for key in NEIGHBOURS.get(clean[i].lower(), "") + NEIGHBOURS.get(clean[i].lower(), "").upper()
        if key.isupper() == clean[i].isupper()
    }
    return typed in made | lower


@given(
    SEEDS,
    st.lists(st.sampled_from(["parcel", "Straße", "LOUD", "queue", "日本語文字", "9 to 5", "x1234", "it", "naïve"]), max_size=30),
)
def test_a_word_gets_at_most_one_error_and_numbers_none(seed, words):
    text = " ".join(words)
    typed = with_typos(text, Random(seed))
    changed = [(a, b) for a, b in zip(text.split(), typed.split(), strict=True) if a != b]
    assert all(one_error(a, b) for a, b in changed)
    assert all(len(a) >= 4 and a.isalpha() for a, b in changed)
    assert bool(changed) == any(len(word) >= 4 and word.isalpha() for word in text.split())


def test_about_every_tenth_word_is_mistyped_in_every_way():
    words = ["wonder"] * 20_000
    typed = with_typos(" ".join(words), Random(3)).split()
    share = sum(a != b for a, b in zip(words, typed, strict=True)) / len(words)
    assert share == pytest.approx(0.1, abs=0.01)
    assert {len(word) for word in typed} == {5, 6, 7}
    assert {"wodner", "womder", "wondder", "woner"} <= set(typed)
    assert {word[0] for word in typed} == {"w"}


def test_case():
    assert texts_of(disturbed("upper_case", "Straße, Ünal")) == ["STRASSE, ÜNAL"]
    assert texts_of(disturbed("lower_case", "Straße, ÜNAL")) == ["straße, ünal"]


# Marks


@given(TEXTS, SEEDS)
def test_white_space_leaves_the_words(text, seed):
    assert with_other_white_space(text, Random(seed)).split() == text.split()


@given(SEEDS)
def test_white_space_changes_a_gap_if_there_is_one(seed):
    assert re.sub(r"^\s+|\s+$", "", with_other_white_space("two words", Random(seed))) != "two words"


def test_white_space_of_every_kind_comes():
    found = {with_other_white_space(" two words ", Random(seed)) for seed in range(400)}
    assert {gap for text in found for gap in re.findall(r"two(\s+)words", text)} == {"  ", "\t", "\n", "   ", " \n "}
    assert {text[0] for text in found} == {"t", " ", "\n", "\t"}
    changed = sum(
        len(re.findall(r"\S( )(?=\S)", with_other_white_space("a b c d e f g h i j k", Random(seed)))) for seed in range(500)
    )
    assert changed / 5000 == pytest.approx(0.5, abs=0.03)


def is_mark(letter: str) -> bool:
    return unicodedata.category(letter).startswith("P")


@given(TEXTS, SEEDS)
def test_punctuation_leaves_everything_else(text, seed):
    def words(string):
        return [letter for letter in string if not is_mark(letter)]

    assert words(with_other_punctuation(text, Random(seed))) == words(text)


@given(SEEDS)
def test_punctuation_loses_or_doubles_a_mark_but_none_within_a_number(seed):
    found = with_other_punctuation("Pay 12.50, now!", Random(seed))
    assert "12.50" in found
    assert found != "Pay 12.50, now!"
    assert re.fullmatch(r"Pay 12\.50,{0,2} now!{0,2}", found)


def test_marks_are_lost_and_doubled():
    found = {with_other_punctuation("now!", Random(seed)) for seed in range(50)}
    assert found == {"now", "now!!"}
    marks = [with_other_punctuation("a. " * 100, Random(seed)).split() for seed in range(50)]
    assert sum(word == "a." for text in marks for word in text) / 5000 == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("text", ["", "nothing to change", "1.5"])
def test_a_text_without_marks_stays(text):
    assert with_other_punctuation(text, Random(1)) == text


# Surroundings


def test_words_in_front_of_the_first_column_and_behind_the_last():
    row = Row("a", 1, {"question": "Who?", "context": "Some text.", "other": ""}, "x")
    for seed in range(30):
        (front,) = perturb("prefix", [row], columns=["question", "context"], seed=seed).inputs
        (behind,) = perturb("suffix", [row], columns=["question", "context"], seed=seed).inputs
        assert front["question"].endswith("Who?")
        assert front["question"] != "Who?"
        assert front["context"] == "Some text."
        assert behind["context"].startswith("Some text.")
        assert behind["context"] != "Some text."
        assert behind["question"] == "Who?"


def test_every_phrase_comes_with_its_reference_filled_in():
    fronts = {text.removesuffix("Hi") for text in texts_of(disturbed("prefix", *["Hi"] * 400))}
    behinds = {text.removeprefix("Hi") for text in texts_of(disturbed("suffix", *["Hi"] * 400))}
    for phrases, found in ((PREFIXES, fronts), (SUFFIXES, behinds)):
        patterns = [re.escape(phrase).replace(r"\{reference\}", r"[A-H]-\d{5}") for phrase in phrases]
        assert all(any(re.fullmatch(pattern, text) for text in found) for pattern in patterns)
        assert all(any(re.fullmatch(pattern, text) for pattern in patterns) for text in found)


# Length


@settings(max_examples=50)
@given(st.integers(0, 3000), SEEDS, st.text("ab ", min_size=1, max_size=50))
def test_long_is_as_long_as_fits(room, seed, text):
    found = disturbed("long", text, seed=seed, fits=lambda inputs: len(inputs["text"]) <= room)
    for long in texts_of(found):
        filler = NEUTRAL if long[len(text) :].startswith(NEUTRAL) else "\n" + text
        times, rest = divmod(len(long) - len(text), len(filler))
        assert (long, rest) == (text + filler * times, 0)
        assert times
        assert len(long) <= room < len(long) + len(filler)
    if not found.inputs:
        assert room < len(text) + len(NEUTRAL)


def test_long_repeats_and_pads_the_longest_column_only():
    pair = [Row(f"{n}", n, {"question": "Who?", "context": "A longer text."}, "x") for n in range(20)]
    found = perturb("long", pair, columns=["question", "context"], seed=1).inputs
    assert {inputs["question"] for inputs in found} == {"Who?"}
    assert {inputs["context"][:25] for inputs in found} == {("A longer text." + NEUTRAL)[:25], "A longer text.\nA longer t"}
    assert all(MAX_CHARACTERS - 100 < len(inputs["context"]) <= MAX_CHARACTERS for inputs in found)


def test_rows_without_room_are_left_out():
    found = disturbed("long", "short", "x" * 2000, "short too", fits=lambda inputs: len(inputs["text"]) < 1000)
    assert found.rows.tolist() == [0, 2]
    assert disturbed("long", "x" * MAX_CHARACTERS).rows.tolist() == []


def test_empty_is_one_row():
    pair = [Row(name, 1, {"question": "Who?", "context": "Text."}, "x") for name in "ab"]
    found = perturb("empty", pair, columns=["question", "context"], seed=1)
    assert (found.rows.tolist(), found.inputs) == ([0], ({"question": "", "context": ""},))


# Paraphrases


def written(tmp_path, *lines):
    path = tmp_path / "paraphrases.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_rows_that_have_a_paraphrase_get_it(tmp_path):
    path = written(tmp_path, {"id": "row-2", "text": "in other words", "note": "by Ann"}, {"id": "train-1", "text": "elsewhere"})
    found = read_paraphrases(path, columns=["text"], ids=["row-0", "row-1", "row-2", "train-1"])
    assert found == {"row-2": {"text": "in other words"}, "train-1": {"text": "elsewhere"}}
    result = disturbed("paraphrases", "a", "b", "c", paraphrases=found)
    assert (result.rows.tolist(), result.inputs) == ([2], ({"text": "in other words"},))
    assert disturbed("paraphrases", "a", "b").inputs == ()


@pytest.mark.parametrize(
    ("lines", "line", "what", "actual"),
    [
        ([{"id": "a", "text": "one"}, {"id": "q", "text": "two"}], 2, "belongs to no row", "q"),
        ([{"text": "one"}], 1, "belongs to no row", "nothing"),
        ([{"id": 7, "text": "one"}], 1, "belongs to no row", "7"),
        ([{"id": "a", "text": "one"}, {"id": "a", "text": "two"}], 2, "two paraphrases", "a"),
        ([{"id": "a", "words": "one"}], 1, "lacks a column", "nothing"),
        ([{"id": "a", "text": " \n"}], 1, "lacks a column", " \n"),
        ([{"id": "a", "text": 3}], 1, "lacks a column", "3"),
        ([{"id": "a", "text": "one"}, "{"], 2, "cannot be read", "not JSON"),
        ([{"id": "a" * 300, "text": "one"}], 1, "belongs to no row", "a" * 100),
    ],
)
def test_what_is_wrong_in_the_file_is_told_by_line(tmp_path, lines, line, what, actual):
    path = written(tmp_path, *lines)
    with pytest.raises(InvalidRequest, match=what) as caught:
        read_paraphrases(path, columns=["text"], ids=["a", "b"])
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.actual.startswith(actual)
    assert len(caught.value.actual) <= 100
    assert caught.value.expected


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidRequest, match="no file of paraphrases") as caught:
        read_paraphrases(tmp_path / "none.jsonl", columns=["text"], ids=[])
    assert caught.value.where.endswith("none.jsonl")
