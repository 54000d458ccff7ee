"""Rows to token ids: the one place where input text and answers are tokenised, for training, evaluation and serving alike."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from softprompt.artifact import Answer, TemplateExample
from softprompt.base_model import TextSide
from softprompt.template import fill_template, template_fields

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONVERSATION_TEMPLATE = "{messages}"
"""A template that is nothing but a conversation, rendered with the base's own chat template."""
EXAMPLE_VALUES = ("Hello, world!", "Zwölf Boxkämpfer jagen Viktor, 3.14 €.", "two\nlines {braces}")
"""Rendered into every manifest with their token ids. Fixed texts, so that no row of anybody's data is published."""


class TextEncoder:
    """Turns rows into token ids with one template.

    Args:
        text_side: The base's tokenizer and its ways.
        template: Input template, for example `"Message: {text}\\nAnswer:"`.
    """

    def __init__(self, text_side: TextSide, template: str) -> None:
        self.tokenizer: PreTrainedTokenizerFast = text_side.tokenizer
        self.template = template
        self.end_token = text_side.end_token
        self._keeps_end_token = text_side.is_encoder_decoder

    def input_ids(self, values: Mapping[str, str]) -> list[int]:
        """Token ids of the filled template, special tokens as the base's tokenizer adds them.

        A causal model's input never ends with the end token, which some tokenizers add: the answer goes on from there.
        """
        return self.all_input_ids([values])[0]

    def all_input_ids(self, rows: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """`input_ids` of many rows, in one call of the tokenizer."""
        if not rows:
            return []
        sequences = self.tokenizer([fill_template(self.template, dict(row)) for row in rows])["input_ids"]
        ends = not self._keeps_end_token
        return [list(ids[:-1] if ends and ids and ids[-1] == self.end_token else ids) for ids in sequences]

    def num_input_tokens(self, rows: Sequence[Mapping[str, str]]) -> NDArray[np.int32]:
        """How many tokens `input_ids` of each row has, counted without making them."""
        texts = [fill_template(self.template, dict(row)) for row in rows]
        encoded = self.tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=True)
        counts = np.fromiter(map(len, encoded), np.int32, len(texts))
        return counts - 1 if self._adds_end_token and not self._keeps_end_token else counts

    @property
    def template_bytes(self) -> int:
        """UTF-8 bytes of the template, fields included."""
        return len(self.template.encode())

    @cached_property
    def most_tokens_a_byte(self) -> float | None:
        """How many tokens a byte of UTF-8 text can become at most; None where the tokenizer promises nothing.

        A byte-level tokenizer starts from single bytes and only ever joins them. A normaliser could make a text longer first:
        Unicode's composed form does so at most threefold (UAX 15), others are not trusted.
        """
        pipeline = json.loads(self.tokenizer.backend_tokenizer.to_str())
        normalizer, splitter = pipeline["normalizer"], json.dumps(pipeline["pre_tokenizer"])
        if pipeline["model"]["type"] != "BPE" or '"ByteLevel"' not in splitter or '"add_prefix_space": true' in splitter:
            return None
        if normalizer is None:
            return 1.0
        return 3.0 if normalizer["type"] == "NFC" else None

    @cached_property
    def _adds_end_token(self) -> bool:
        ids = self.tokenizer("a")["input_ids"]
        return bool(ids) and ids[-1] == self.end_token

    def answer_ids(self, text: str) -> list[int]:
        """Token ids of an answer as it continues this template, without an end token.

        Tokenised behind the template's own ending where that splits cleanly: some tokenizers (Llama 2) put a marker before
        a text that starts a sequence, which never stands there in running text.
        """
        tail = self.template.rsplit("}", 1)[-1] or " "
        together, alone = self._plain(tail + text), self._plain(tail)
        return together[len(alone) :] if together[: len(alone)] == alone else self._plain(text)

    def free_answer(self, text: str) -> str:
        """An open answer as it continues this template: after a space, but for a chat template, which has said all before it."""
        return text.strip() if self.template == CONVERSATION_TEMPLATE else " " + text.strip()

    def examples(self) -> tuple[TemplateExample, ...]:
        """Fixed texts in this template with their token ids, for the manifest."""
        fields = template_fields(self.template)
        rows = [dict.fromkeys(fields, value) for value in EXAMPLE_VALUES]
        return tuple(TemplateExample(values=row, token_ids=tuple(self.input_ids(row))) for row in rows)

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def default_verbaliser(label: str) -> str:
    """The answer text for a label that has none of its own: a space, then the label with underscores as spaces."""
    return " " + label.replace("_", " ")


def answers_for(labels: tuple[str, ...], verbalisers: Mapping[str, str]) -> tuple[Answer, ...]:
    """Labels with the texts by which the model says them."""
    return tuple(Answer(label=label, text=verbalisers.get(label, default_verbaliser(label))) for label in labels)
