"""Disturbed inputs: what people, phones and other programs make of a text without changing what it asks.

Every kind is ours: the libraries for it were not kept for years (nlpaug since 2022, typo since 2021) or bring a machine-learning
stack of their own (TextAttack). What is disturbed depends on the seed and the row's id only, so that every prompt meets the same
disturbed rows, however many there are and in whatever order.

letters.py      typing errors, upper and lower case
marks.py        white space, punctuation
surroundings.py words in front and behind
length.py       very long and empty input
paraphrases.py  the recipe's own list
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from softprompt.data.rows import Row
from softprompt.evaluation.perturbations.length import lengthened
from softprompt.evaluation.perturbations.letters import with_typos
from softprompt.evaluation.perturbations.marks import with_other_punctuation, with_other_white_space
from softprompt.evaluation.perturbations.surroundings import with_prefix, with_suffix
from softprompt.recipe.gates import Perturbation

Inputs = dict[str, str]
"""Column -> text."""
Disturb = Callable[[Inputs, Random], Inputs]


@dataclass(frozen=True)
class DisturbedInputs:
    """What to answer instead of the clean inputs.

    Attributes:
        rows: `[m]`, which rows were disturbed, ascending. All, but for `long` those that have room, for `paraphrases` those that
            have one, for `empty` the first alone: nothing is the same for all.
        inputs: Theirs, in that order.
    """

    rows: NDArray[np.intp]
    inputs: tuple[Inputs, ...]


def perturb(
    kind: Perturbation,
    rows: Sequence[Row],
    *,
    columns: Sequence[str],
    seed: int,
    paraphrases: Mapping[str, Inputs] | None = None,
    fits: Callable[[Inputs], bool] | None = None,
) -> DisturbedInputs:
    """Disturb rows.

    Args:
        kind: How.
        rows: The clean rows, `[n]`; they stay as they are.
        columns: The template's columns; the others are none of the model's business.
        seed: Of the draws, together with a row's id.
        paraphrases: Row id -> its paraphrase (`paraphrases.read_paraphrases`), for `paraphrases`.
        fits: Whether inputs fit into the context, for `long`. None: whatever `length.MAX_CHARACTERS` lets through.
    """
    clean = [{column: row.inputs[column] for column in columns} for row in rows]
    found: dict[int, Inputs] = {}
    for number, (row, inputs) in enumerate(zip(rows, clean, strict=True)):
        random = Random(f"{seed}\0{kind}\0{row.id}")
        if kind == "paraphrases":
            disturbed = (paraphrases or {}).get(row.id)
        elif kind == "empty":
            disturbed = dict.fromkeys(columns, "") if number == 0 else None
        elif kind == "long":
            disturbed = lengthened(inputs, random, fits or (lambda _: True))
        else:
            disturbed = _DISTURB[kind](inputs, random)
        if disturbed is not None:
            found[number] = disturbed
    return DisturbedInputs(np.array(list(found), dtype=np.intp), tuple(found.values()))


def _each_column(disturb: Callable[[str, Random], str]) -> Disturb:
    return lambda inputs, random: {column: disturb(text, random) for column, text in inputs.items()}


_DISTURB: dict[Perturbation, Disturb] = {
    "typos": _each_column(with_typos),
    "upper_case": _each_column(lambda text, _: text.upper()),
    "lower_case": _each_column(lambda text, _: text.lower()),
    "whitespace": _each_column(with_other_white_space),
    "punctuation": _each_column(with_other_punctuation),
    "prefix": with_prefix,
    "suffix": with_suffix,
}
