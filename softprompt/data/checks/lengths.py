"""Prompt, text and answer must fit into the base model's context, counted with its own tokenizer."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from softprompt.base_model import TextSide
from softprompt.data.examined import Examined, Found, Rows, rows_that
from softprompt.engine.encoding import answers_for
from softprompt.engine.task import EncodedTask

DOUBT_TOKENS = 8
"""A free answer by itself has at most so many tokens fewer than where it continues a text; closer rows are counted exactly."""


def room_for_text(data: Examined, text_side: TextSide) -> int:
    """Tokens that the context leaves for text and answer beside the prompt."""
    return max(text_side.context_tokens - data.recipe.prompt.num_tokens, 0)


def num_tokens(data: Examined, text_side: TextSide) -> NDArray[np.int32]:
    """`[R]` tokens of input and answer of each row; of free answers close to the limit, exactly.

    Raises:
        InvalidRecipe: Two labels are said with the same tokens.
    """
    recipe, measures = data.recipe, data.measures
    labels = data.label_names if recipe.task.type == "classification" else ()
    task = EncodedTask.create(text_side, recipe.task.template, answers_for(labels, recipe.task.verbalisers))
    if labels:
        answer = np.array([len(task.encoder.answer_ids(answer.text)) + 1 for answer in task.answers], np.int32)
        return measures.tokens + answer[data.label]
    total = measures.tokens + measures.target_tokens + 1
    doubtful = np.nonzero(total > room_for_text(data, text_side) - DOUBT_TOKENS)[0]
    for some in np.array_split(doubtful, len(doubtful) // 1024 + 1):
        rows = data.table.take(some)
        total[some] = [example.num_tokens for example in task.examples([(row.inputs, row.target) for row in rows])]
    return total


def check_lengths(data: Examined, text_side: TextSide, tokens: NDArray[np.int32]) -> Iterator[Found]:
    """Rows that do not fit, and what cutting them would cost."""
    room = room_for_text(data, text_side)
    rows = data.rows_of()
    too_long: Rows = rows[tokens[rows] > room]
    if not len(too_long):
        return
    lost = 1 - room * len(too_long) / tokens[too_long].sum()
    message = (
        f"{rows_that(len(too_long), 'does', 'do')} not fit: the base model's context of {text_side.context_tokens:,} tokens less "
        f"{data.recipe.prompt.num_tokens} prompt tokens leaves {room:,} for text and answer. Cut to fit, "
        f"{lost:.0%} of these tokens would be lost. Shorten them or lower prompt.num_tokens."
    )
    yield Found("too_long", message, too_long, lambda place, _: f"{tokens[place]:,} tokens")
