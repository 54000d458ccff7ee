"""The whole inspection, as a document, as a page, and in a terminal of 80 columns."""

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.real_tokens import token_values
from softprompt.errors import FingerprintMismatch
from softprompt.inspection.inspection import Inspection, Projection, inspect_prompt, token_text
from softprompt.inspection.report import spread_evenly, write_inspection_report
from softprompt.inspection.terminal import print_inspection, token_map
from tests.builders import prompt_file

TEMPLATE = "Thing: {text}\nColour:"
WORDS = [70, 80, 270, 90]


@pytest.fixture(scope="module")
def base(llama_directory):
    return load_base_model(llama_directory)


def of_words(base, kind):
    """A prompt file whose vectors are those of known tokens."""
    return PromptFile.build(
        token_values(base, WORDS, kind).numpy(),
        **{key: getattr(prompt_file().manifest, key) for key in ("task", "template_examples", "answers", "max_new_tokens")},
        template=TEMPLATE,
        base_fingerprint=base.fingerprint,
    )


def inspected(base, file, rows=None):
    rows = TextEncoder(base.text, TEMPLATE).all_input_ids([{"text": "ruby 1"}, {"text": "sky"}]) if rows is None else rows
    return inspect_prompt(file, base, rows, name="colours", rows_from="two rows", base_uri="file:///llama")


@pytest.fixture(params=["shallow", "deep"])
def found(request, base):
    return inspected(base, of_words(base, request.param))


def printed(found, width=80):
    console = Console(file=io.StringIO(), width=width, emoji=False, color_system=None, _environ={})
    print_inspection(found, console)
    return console.file.getvalue()


def page_of(found, folder):
    write_inspection_report(folder / "inspect.html", found)
    return (folder / "inspect.html").read_text()


def test_a_document_says_what_the_prompt_is_and_can_be_read_again(found):
    assert Inspection.from_bytes(found.to_bytes(), source="test") == found
    assert (found.num_tokens, found.num_rows, found.rows, found.left_out) == (4, 2, "two rows", {})
    assert found.num_numbers == (4 * 32 if found.kind == "shallow" else 2 * 2 * 4 * 2 * 8)
    assert [[tokens[0].token_id for tokens in space.nearest] for space in found.compared[:1]] == [WORDS]
    reading = found.attention["at the answer"]
    assert reading.mean_share == pytest.approx(np.mean(np.sum(reading.shares, axis=2)))
    assert np.allclose(reading.by_head, np.sum(reading.shares, axis=2))
    assert np.allclose(reading.by_vector, np.mean(reading.shares, axis=(0, 1)))
    assert np.allclose(reading.by_layer_and_vector, np.mean(reading.shares, axis=1))


def test_a_base_that_it_was_not_tuned_for_is_refused(base):
    with pytest.raises(FingerprintMismatch) as caught:
        inspected(base, prompt_file(fingerprint="1" * 64, width=32))
    assert (caught.value.expected, caught.value.actual) == ("1" * 64, base.fingerprint)
    assert "--base" in caught.value.hint


def test_what_does_not_exist_for_a_base_is_left_out_by_name(t5_directory, tmp_path):
    base = load_base_model(t5_directory)
    file = of_words(base, "deep")
    found = inspected(base, file)
    assert set(found.left_out) == {"nearest tokens, norms, projection"}
    assert "encoder-decoder" in found.left_out["nearest tokens, norms, projection"]
    assert list(found.attention) == ["at the answer"]
    shown = printed(found)
    assert "left out: nearest tokens" in shown
    assert "at the answer" in shown
    page = page_of(found, tmp_path)
    assert "Left out: nearest tokens" in page
    assert "At the answer" in page


def test_a_shallow_prompt_of_an_encoder_decoder_model_has_every_part(t5_directory, tmp_path):
    base = load_base_model(t5_directory)
    found = inspected(base, of_words(base, "shallow"))
    assert found.left_out == {}
    assert [tokens[0].token_id for tokens in found.compared[0].nearest] == WORDS
    assert "by vector, mean over heads" in page_of(found, tmp_path).lower()


def test_rows_that_do_not_fit_into_the_context_are_passed_over(base):
    fits, too_long = [5] * (64 - 4), [5] * (64 - 4 + 1)
    assert inspected(base, of_words(base, "shallow"), [fits, too_long]).num_rows == 1
    found = inspected(base, of_words(base, "shallow"), [too_long])
    assert (found.num_rows, found.attention) == (0, {})
    assert "64 tokens" in found.left_out["attention"]


@pytest.mark.parametrize(("token", "text"), [(" red", "␣red"), ("\n", "⏎"), ("a", "a")])
def test_a_token_is_shown_so_that_spaces_and_line_ends_are_seen(token, text):
    class Tokenizer:
        def decode(self, ids):
            return token

    class Side:
        tokenizer = Tokenizer()

    class Base:
        text = Side()

    assert token_text(Base(), 0) == text


def test_half_a_character_keeps_the_tokenizers_own_name(base):
    (half,) = [found for found in range(256) if base.text.tokenizer.convert_ids_to_tokens(found) == "Ã"]
    assert token_text(base, half) == "Ã"


def test_some_layers_stand_for_many_with_the_first_and_the_last_among_them():
    assert spread_evenly(2, 3) == [0, 1]
    assert spread_evenly(3, 3) == [0, 1, 2]
    assert spread_evenly(32, 3) == [0, 16, 31]


class TestTerminal:
    """The view in a terminal."""

    def test_fits_80_columns_and_names_every_vector_with_its_token(self, found, base):
        lines = printed(found).splitlines()
        assert max(map(len, lines)) <= 80
        for number, token in enumerate(WORDS, start=1):
            assert any(re.match(rf" *{number}  {re.escape(token_text(base, token))} 1\.00 ", line) for line in lines)

    def test_says_norms_attention_and_what_chance_gives(self, found):
        shown = printed(found)
        assert f"no nearer than chance ({found.compared[0].chance_cosine:.2f}" in shown
        for space in found.spaces:
            low, high = min(space.norms.prompt), max(space.norms.prompt)
            assert re.search(rf"{space.title} +{low:.2f} to {high:.2f} ", shown)
        for name, reading in found.attention.items():
            assert name in shown
            assert f"{100 * reading.mean_share:.0f} % (even: {100 * reading.even_share:.0f} %)" in shown

    def test_counts_the_vectors_beyond_nearly_all_tokens(self, found):
        space = found.compared[0]
        levels = space.norms.vocabulary
        norms = space.norms.model_copy(
            update={"prompt": (levels[3], (levels[4] + levels[5]) / 2, 1.01 * levels[5], 2 * levels[6])}
        )
        shown = printed(found.model_copy(update={"spaces": (space.model_copy(update={"norms": norms}),)}))
        assert re.search(rf"{space.title} .* {levels[1]:.2f} to {levels[5]:.2f} +2 of 4", shown)

    def test_shows_each_head_of_each_layer_in_percent(self, found):
        lines = printed(found).splitlines()
        start = next(number for number, line in enumerate(lines) if "attention paid to the prompt" in line) + 2
        for layer, line in enumerate(lines[start : start + 2]):
            shares = [share for reading in found.attention.values() for share in reading.by_head[layer]]
            assert line.startswith(f"layer {layer + 1}")
            assert [int(word) for word in line.split()[2:] if word.isdigit()] == [round(100 * share) for share in shares]

    def test_many_layers_are_cut_and_said_to_be(self, found):
        reading = found.attention["at the answer"]
        many = reading.model_copy(update={"shares": reading.shares * 20})
        shown = printed(found.model_copy(update={"attention": {"at the answer": many}}))
        assert "layer 16" in shown
        assert "layer 17" not in shown
        assert "and 24 layers more" in shown

    def test_a_map_puts_every_point_where_it_is(self):
        corners = ((0.0, 0.0), (10.0, 0.0), (0.0, 5.0), (10.0, 5.0))
        lines = [
            line.plain
            for line in token_map(Projection(explained=(1, 0), prompt_inside=1, vocabulary=corners[:3], prompt=corners[3:]))
        ]
        assert (lines[0][0], lines[0][-1], lines[-1][0], lines[-1][-1]) == ("·", "●", "·", "·")
        assert sum(character != " " for line in lines for character in line) == 4


class _Loads(HTMLParser):
    """What a page would load, and whether its tags close."""

    def __init__(self):
        super().__init__()
        self.loads, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "xlink:href") and not value.startswith("#")]
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_loads_nothing_and_is_well_formed(found, tmp_path):
    text = page_of(found, tmp_path)
    page = _Loads()
    page.feed(text.replace("<!doctype html>", ""))
    assert (page.loads, page.open) == ([], [])
    assert text.count("<svg") == 2
    assert set(re.findall(r"#0[1-5]0[1-5]0[1-5]\b", text)) == set(), "every colour of a picture is the page's"


def test_the_page_escapes_what_a_tokenizer_may_say(base, tmp_path):
    found = inspected(base, of_words(base, "shallow"))
    space = found.spaces[0]
    wild = space.nearest[0][0].model_copy(update={"text": "<script>"})
    space = space.model_copy(update={"nearest": ((wild,), *space.nearest[1:])})
    text = page_of(found.model_copy(update={"spaces": (space,)}), tmp_path)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
