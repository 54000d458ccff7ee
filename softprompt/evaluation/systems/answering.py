"""Rows to answers: cut into batches of like length, which are answered here or by Ray's workers with the same numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from softprompt.data.rows import Row
from softprompt.engine.predictor import Predictor, of_like_length
from softprompt.evaluation.observations import Answers
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.recipe.evaluation import EvaluationSpec
from softprompt.resolve import ResolvedRecipe


@dataclass(frozen=True)
class Asked:
    """A batch on its way to a predictor.

    Attributes:
        places: Which rows these are.
        input_ids: Theirs.
        target_ids: Of the right answers, where their likelihood is wanted; else empty.
    """

    places: Sequence[int]
    input_ids: Sequence[Sequence[int]]
    target_ids: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Answered:
    """A batch on its way back; fields as in `Asked` and `Answers`."""

    places: Sequence[int]
    outputs: Sequence[str]
    probabilities: Sequence[Sequence[float]]
    target_nats: Sequence[float]


@dataclass(frozen=True)
class Answering:
    """How rows are answered.

    Attributes:
        resolved: The recipe; workers elsewhere load its base.
        max_new_tokens: Longest generated answer.
    """

    resolved: ResolvedRecipe
    max_new_tokens: int

    @property
    def spec(self) -> EvaluationSpec:
        """The recipe's evaluation."""
        return self.resolved.recipe.evaluation

    def __call__(self, system: BaseSystem, rows: Sequence[Row], *, here: bool = False) -> Answers:
        """Answer rows.

        Args:
            system: Who answers.
            rows: The rows.
            here: In this process whatever the recipe says: the system's base is not the recipe's.

        Raises:
            UnsupportedBaseModel: A row is longer than the context.
            NotANumber: The base gives NaN.
        """
        batches = cut(system, rows, self.spec.batch_size)
        if self.spec.engine == "ray" and not here:
            from softprompt.evaluation.systems.ray_rows import answer_on_ray

            return _joined(answer_on_ray(self, system, batches), system, rows)
        predictor = system.predictor(self.spec, self.max_new_tokens)
        return _joined((answer_batch(predictor, batch) for batch in batches), system, rows)


def cut(system: BaseSystem, rows: Sequence[Row], batch_size: int) -> list[Asked]:
    """Rows of like length together, short ones first; a generation's with their right answers."""
    ids = system.input_ids(rows)
    targets = system.target_ids(rows) if system.task.trie is None else []
    return [
        Asked(
            places=places,
            input_ids=[ids[place] for place in places],
            target_ids=[targets[place] for place in places] if targets else [],
        )
        for places in of_like_length(ids, batch_size)
    ]


def answer_batch(predictor: Predictor, asked: Asked) -> Answered:
    """What a predictor says to a batch."""
    predictions = predictor.predict_ids(asked.input_ids)
    nats = predictor.target_nats(asked.input_ids, asked.target_ids) if asked.target_ids else []
    return Answered(
        places=asked.places,
        outputs=[prediction.output for prediction in predictions],
        probabilities=[prediction.probabilities for prediction in predictions],
        target_nats=nats,
    )


def _joined(answered: Iterable[Answered], system: BaseSystem, rows: Sequence[Row]) -> Answers:
    """Batches, in any order, as the answers to the rows in theirs."""
    labels = len(system.task.labels)
    outputs, probabilities, nats = [""] * len(rows), np.zeros((len(rows), labels)), np.zeros(len(rows))
    for batch in answered:
        places = list(batch.places)
        for place, output in zip(places, batch.outputs, strict=True):
            outputs[place] = output
        if labels:
            probabilities[places] = batch.probabilities
        else:
            nats[places] = batch.target_nats
    if labels:
        return Answers(tuple(outputs), probabilities)
    tokens = np.array([len(ids) for ids in system.target_ids(rows)], dtype=float)
    return Answers(tuple(outputs), None, nats, tokens)
