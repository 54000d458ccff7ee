"""Counting tokens without making them, and the promise by which most rows need no counting."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, processors

from softprompt.artifact import Answer
from softprompt.base_model import TextSide, load_text_side
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.task import EncodedTask
from tests.builders import tiny_tokenizer

TEMPLATE = "Thing: {text}\nColour:"
TEXTS = ["a", "Where is my parcel?", "Zwölf Boxkämpfer 🥊", "two\nlines", "日本語のテキスト", " "]


class Config:
    is_encoder_decoder = False


def with_end_token() -> TextSide:
    """A tokenizer that puts an end token behind every text, as some do."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    return TextSide(tokenizer, Config())


@pytest.mark.parametrize("kind", ["llama", "t5", "end token"])
def test_counts_are_those_of_the_tokens(kind, request):
    side = with_end_token() if kind == "end token" else load_text_side(request.getfixturevalue(f"{kind}_directory"))
    encoder = TextEncoder(side, TEMPLATE)
    rows = [{"text": text} for text in TEXTS]
    assert encoder.num_input_tokens(rows).tolist() == [len(ids) for ids in encoder.all_input_ids(rows)]
    assert encoder.num_input_tokens([]).tolist() == []


@pytest.mark.parametrize("labels", [("red", "deep blue"), ()])
def test_answer_lengths_are_those_of_the_examples(llama_directory, labels):
    answers = tuple(Answer(label=label, text=f" {label}") for label in labels)
    task = EncodedTask.create(load_text_side(llama_directory), TEMPLATE, answers)
    targets = [*labels] if labels else ["some words", " more of them "]
    examples = task.examples([({"text": "a"}, target) for target in targets])
    assert task.answer_lengths(targets).tolist() == [len(example.answer_ids) for example in examples]


@settings(max_examples=300)
@given(st.text(max_size=60), st.sampled_from([None, "NFC"]))
@example("\u0958" * 9, "NFC")  # becomes longer by composition
def test_no_text_has_more_tokens_than_is_promised(text, form):
    tokenizer = tiny_tokenizer()
    if form:
        tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    encoder = TextEncoder(TextSide(tokenizer, Config()), TEMPLATE)
    assert encoder.most_tokens_a_byte is not None
    (count,) = encoder.num_input_tokens([{"text": text}])
    assert count <= (encoder.template_bytes + len(text.encode())) * encoder.most_tokens_a_byte + 16


def test_a_normaliser_that_may_grow_texts_is_not_trusted():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    assert TextEncoder(TextSide(tokenizer, Config()), TEMPLATE).most_tokens_a_byte is None
