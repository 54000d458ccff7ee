"""Prompt, text and answer must fit into the base model's context, counted with its own tokenizer.

Counting takes longer than all other looks at a row together. Where the tokenizer cannot make more tokens of a text than it has
bytes, rows with fewer bytes than the context has room for need no counting; a sample shows how long rows are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softprompt.base_model import TextSide
from softprompt.data.examined import Examined, Found, Rows, rows_that
from softprompt.engine.encoding import answers_for
from softprompt.engine.task import EncodedTask

ROWS_AT_ONCE = 4096
SPECIAL_TOKENS = 16
"""More than any tokenizer puts around a text, with the answer's end."""


@dataclass(frozen=True)
class Lengths:
    """How long rows are, in tokens of the base, input and answer together.

    Attributes:
        context_tokens: The base's context.
        room: What the prompt leaves of it.
        rows: Places in the table of the rows of the sample.
        tokens: `[rows]` their tokens.
    """

    context_tokens: int
    room: int
    rows: Rows
    tokens: NDArray[np.int32]


class TokenCounter:
    """Counts the tokens of rows of one dataset.

    Args:
        data: The dataset.
        text_side: The base's tokenizer.

    Raises:
        InvalidRecipe: Two labels are said with the same tokens.
    """

    def __init__(self, data: Examined, text_side: TextSide) -> None:
        recipe = data.recipe
        labels = data.label_names if recipe.task.type == "classification" else ()
        self._data = data
        self._task = EncodedTask.create(text_side, recipe.task.template, answers_for(labels, recipe.task.verbalisers))
        self.num_prompt_tokens = max(recipe.num_tokens(len(labels), candidate) for candidate in recipe.training.variations)
        self.room = max(text_side.context_tokens - self.num_prompt_tokens, 0)

    def count(self, rows: Rows) -> NDArray[np.int32]:
        """`[rows]` tokens of input and answer."""
        counts = [np.zeros(0, np.int32)]
        for some in np.array_split(rows, len(rows) // ROWS_AT_ONCE + 1):
            found = self._data.table.take(some)
            answers = self._task.answer_lengths([row.target for row in found])
            counts.append(self._task.encoder.num_input_tokens([row.inputs for row in found]) + answers)
        return np.concatenate(counts)

    def may_not_fit(self, rows: Rows) -> Rows:
        """Those of the rows that have to be counted to know whether they fit."""
        tokens_a_byte = self._task.encoder.most_tokens_a_byte
        if tokens_a_byte is None:
            return rows
        fixed = self._task.encoder.template_bytes + max((len(answer.text.encode()) for answer in self._task.answers), default=0)
        most = (self._data.measures.num_bytes[rows] + fixed) * tokens_a_byte + SPECIAL_TOKENS
        return rows[most > self.room]


def measure_lengths(data: Examined, text_side: TextSide) -> tuple[Lengths, list[Found]]:
    """Count the tokens of a sample and of every row that might not fit."""
    counter = TokenCounter(data, text_side)
    sample = data.sample(data.rows_of(), data.recipe.dataset.limits.sample_rows)
    lengths = Lengths(text_side.context_tokens, counter.room, sample, counter.count(sample))
    return lengths, list(_too_long(data, counter, lengths))


def _too_long(data: Examined, counter: TokenCounter, lengths: Lengths) -> Iterator[Found]:
    rows = counter.may_not_fit(data.rows_of())
    tokens = counter.count(rows)
    too_long, tokens = rows[tokens > counter.room], tokens[tokens > counter.room]
    if not len(too_long):
        return
    lost = 1 - counter.room * len(too_long) / tokens.sum()
    message = (
        f"{rows_that(len(too_long), 'does', 'do')} not fit: the base model's context of {lengths.context_tokens:,} tokens less "
        f"{counter.num_prompt_tokens} prompt tokens leaves {counter.room:,} for text and answer. Cut to fit, "
        f"{lost:.0%} of these tokens would be lost. Shorten them or lower prompt.num_tokens."
    )
    told = dict(zip(too_long.tolist(), tokens.tolist(), strict=True))
    yield Found("too_long", message, too_long, lambda place, _: f"{told[place]:,} tokens")
