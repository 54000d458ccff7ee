"""Few-shot examples: training rows with their answers in front of every row (Brown et al. 2020).

The examples are the same for all rows, so they stand before them as a prompt of real tokens, which the base reads once.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path

import torch

from softprompt.artifact import Answer
from softprompt.base_model import FrozenBase
from softprompt.data.dataset import iter_part
from softprompt.data.rows import Row
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.template import fill_template

BETWEEN = "\n\n"


def few_shot(
    base: FrozenBase, template: str, answers: Sequence[Answer], dataset: Path, tests: Sequence[Row], wanted: int, answer_room: int
) -> tuple[BaseSystem | None, str]:
    """The base behind as many of the wanted examples as its context takes beside the longest row and its answer.

    Args:
        base: The base model.
        template: Of examples and rows alike.
        answers: The labels' texts; empty for a generation.
        dataset: Dataset artifact; examples come from its training part.
        tests: Rows that will be asked.
        wanted: How many examples.
        answer_room: Tokens that an answer may take.

    Returns:
        The system, None where not one example fits; and a sentence that says how many do.
    """
    task = EncodedTask.create(base.text, template, answers)
    bare = BaseSystem(base, task)
    longest = max(map(len, bare.input_ids(tests)))
    room = base.text.context_tokens - longest - answer_room
    chosen = chosen_rows(iter_part(dataset, "train"), wanted, by_label=bool(answers))
    ids, fitted = _fill(task, chosen, room)
    note = f"{fitted} of {wanted} examples" + ("." if fitted == wanted else f": {_why(fitted, len(chosen), base)}.")
    if not fitted:
        return None, f"Not compared: {note}"
    vectors = base.embedding(torch.tensor(ids, device=base.model.device)).detach().float()
    return BaseSystem(base, task, SoftPrompt(vectors), num_leading(task.encoder)), note


def chosen_rows(rows: Iterable[Row], wanted: int, *, by_label: bool) -> list[Row]:
    """Rows in the order of their digests, of each label in turn: neither file nor row order matters."""
    groups: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for row in rows:
        group, digest = groups[row.target if by_label else ""], row.input_digest
        if len(group) < wanted or digest < group[-1][0]:
            insort(group, (digest, row), key=itemgetter(0))
            del group[wanted:]
    turns = zip_longest(*(group for _, group in sorted(groups.items())))
    return [entry[1] for turn in turns for entry in turn if entry][:wanted]


def num_leading(encoder: TextEncoder) -> int:
    """How many special tokens the tokenizer puts before a text."""
    whole, plain = (list(encoder.tokenizer("a", add_special_tokens=special)["input_ids"]) for special in (True, False))
    return next(place for place in range(len(whole)) if whole[place : place + len(plain)] == plain)


def _fill(task: EncodedTask, rows: Sequence[Row], room: int) -> tuple[list[int], int]:
    """(token ids of the first examples that fit, how many they are); a long one is passed over for a shorter one."""
    text_of = {answer.label: answer.text for answer in task.answers}
    text, ids, fitted = "", list[int](), 0
    for row in rows:
        answer = text_of.get(row.target) or task.encoder.free_answer(row.target)
        longer = text + fill_template(task.encoder.template, row.inputs) + answer + BETWEEN
        found = _ids(task.encoder, longer)
        if len(found) <= room:
            text, ids, fitted = longer, found, fitted + 1
    return ids, fitted


def _ids(encoder: TextEncoder, text: str) -> list[int]:
    """Token ids of a text that goes on: what begins a sequence, but nothing that ends it."""
    plain = list(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])
    whole = list(encoder.tokenizer(text)["input_ids"])
    return [*whole[: num_leading(encoder)], *plain]


def _why(fitted: int, there: int, base: FrozenBase) -> str:
    if fitted == there:
        return "the training part has no more"
    return f"the context of {base.text.context_tokens} tokens takes no more beside the longest test row"
