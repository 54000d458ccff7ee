"""Text that comes token by token is the text of all tokens, cut only between characters, ended by stop strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.serving.text import REPLACEMENT, AnswerText, Detokeniser, StopStrings
from tests.builders import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
IDS = st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40)


def pieces_of(ids):
    detokeniser = Detokeniser(TOKENIZER)
    return [*(detokeniser.push(token) for token in ids), detokeniser.finish()]


@given(IDS)
def test_the_pieces_of_any_tokens_are_their_text(ids):
    assert "".join(pieces_of(ids)) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(st.text(max_size=40))
def test_no_piece_of_a_text_has_half_a_character(text):
    text = text.replace(REPLACEMENT, "")
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    pieces = pieces_of(ids)
    assert not any(REPLACEMENT in piece for piece in pieces)
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_a_character_of_four_tokens_comes_whole_with_its_last():
    ids = TOKENIZER("a😀b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6, "this tokenizer splits it into bytes"
    assert pieces_of(ids) == ["a", "", "", "", "😀", "b", ""]


def test_bytes_that_never_become_a_character_are_said_at_the_end_like_the_decoder_does():
    ids = TOKENIZER("😀", add_special_tokens=False)["input_ids"][:2]
    assert pieces_of(ids) == ["", "", REPLACEMENT]


@given(st.text("abX\n", max_size=30), st.lists(st.text("abX\n", min_size=1, max_size=4), max_size=3), st.data())
def test_a_text_ends_before_the_first_stop_string_however_it_is_cut(text, stop, data):
    stops, said, rest = StopStrings(stop), "", text
    while rest and not stops.found:
        size = data.draw(st.integers(1, len(rest)))
        said, rest = said + stops.push(rest[:size]), rest[size:]
        assert not any(string in said for string in stop)
    said += "" if stops.found else stops.finish()
    places = [text.find(string) for string in stop if string in text]
    found_later = stops.found and places and len(said) != min(places)
    # With strings inside one another the one that is complete first ends the text, as it would have been sent already.
    assert said == text[: min(places)] if places and not found_later else text.startswith(said)
    assert stops.found == bool(places)


def test_what_may_become_a_stop_string_is_held_back_and_nothing_more():
    stops = StopStrings(["END"])
    assert [stops.push(piece) for piece in ("abE", "N", "xE", "ND", "more")][:4] == ["ab", "", "ENx", ""]
    assert stops.found


@pytest.mark.parametrize("tokens", [[" Red", " wine", " "], ["\n", " ", "Red"], [" ", "\n"], ["Red", "  ", "wine"]])
def test_an_answer_has_no_white_space_around_it_and_keeps_it_inside(tokens):
    ids = [token for text in tokens for token in TOKENIZER(text, add_special_tokens=False)["input_ids"]]
    answer = AnswerText(TOKENIZER)
    said = [*(answer.push(token) for token in ids), answer.finish()]
    assert "".join(said) == "".join(tokens).strip()
    raw = AnswerText(TOKENIZER, strip=False)
    assert "".join([*(raw.push(token) for token in ids), raw.finish()]) == "".join(tokens)


def test_a_stop_string_that_spans_tokens_ends_an_answer():
    ids = TOKENIZER("Where is my parcel? It", add_special_tokens=False)["input_ids"]
    answer = AnswerText(TOKENIZER, ["is my p"])
    said = ""
    for token in ids:
        said += answer.push(token)
        if answer.stopped:
            break
    assert answer.stopped
    assert said == "Where"
    assert answer.finish() == ""
