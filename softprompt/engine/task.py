"""A task in tokens: its template and its answers, built the same way from a recipe (training) and from a manifest (serving)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softprompt.artifact import Answer, Manifest
from softprompt.base_model import TextSide
from softprompt.engine.answers import AnswerTrie, UnusableAnswers
from softprompt.engine.batches import Example
from softprompt.engine.encoding import TextEncoder
from softprompt.errors import InvalidRecipe


@dataclass(frozen=True)
class EncodedTask:
    """Template and answers of one task for one base model.

    Attributes:
        encoder: Fills and tokenises the template.
        answers: Labels with their texts, sorted by label; empty for a generation.
        trie: The answers' trie; None for a generation.
    """

    encoder: TextEncoder
    answers: tuple[Answer, ...]
    trie: AnswerTrie | None

    @classmethod
    def create(cls, text_side: TextSide, template: str, answers: Sequence[Answer]) -> "EncodedTask":
        """Tokenise the answers as they continue this template.

        Raises:
            InvalidRecipe: Two labels are said with the same tokens, or a label with none.
        """
        encoder = TextEncoder(text_side, template)
        if not answers:
            return cls(encoder, (), None)
        try:
            trie = AnswerTrie([encoder.answer_ids(answer.text) for answer in answers], encoder.end_token)
        except UnusableAnswers as error:
            raise InvalidRecipe(
                "The labels cannot be told apart by their texts.",
                where="task.verbalisers",
                actual=f"{error}: {', '.join(repr(answer.text) for answer in answers)}",
                hint="Give such labels different verbalisers.",
            ) from None
        return cls(encoder, tuple(answers), trie)

    @classmethod
    def of_manifest(cls, text_side: TextSide, manifest: Manifest) -> "EncodedTask":
        """The task that a prompt file states."""
        return cls.create(text_side, manifest.template, manifest.answers)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the trie's answers."""
        return tuple(answer.label for answer in self.answers)

    def examples(self, rows: Sequence[tuple[Mapping[str, str], str]]) -> list[Example]:
        """Rows in tokens.

        Args:
            rows: (values of the template's fields, target) pairs; a target is a label or a text.
        """
        inputs = self.encoder.all_input_ids([values for values, _ in rows])
        index = {label: number for number, label in enumerate(self.labels)}
        texts, ids = self._answers([target for _, target in rows])
        return [
            Example(input_ids, ids[text], index.get(target, -1))
            for input_ids, text, (_, target) in zip(inputs, texts, rows, strict=True)
        ]

    def answer_lengths(self, targets: Sequence[str]) -> NDArray[np.int32]:
        """How many tokens each answer has, its end included."""
        texts, ids = self._answers(targets)
        return np.array([len(ids[text]) for text in texts], np.int32)

    def _answers(self, targets: Sequence[str]) -> tuple[list[str], dict[str, list[int]]]:
        """The text by which each target is said, and the token ids of each text."""
        text_of = {answer.label: answer.text for answer in self.answers}
        texts = [text_of.get(target) or self.encoder.free_answer(target) for target in targets]
        return texts, {text: [*self.encoder.answer_ids(text), self.encoder.end_token] for text in set(texts)}
