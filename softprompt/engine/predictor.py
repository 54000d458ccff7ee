"""Answers for rows: by ranking a closed set of answers under their trie, or by generation of an open one.

Rows of like length are computed together, of equal length where the strategy cannot read padding; the prompt's keys and values
are computed once for all rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Collator, Example, pad
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.sampling import next_token
from softprompt.engine.scoring import answer_log_probabilities, answer_nats, generate
from softprompt.engine.strategy import Prefix, Strategy, check_length, choose_strategy
from softprompt.engine.task import EncodedTask
from softprompt.recipe.evaluation import SamplingSpec


@dataclass(frozen=True)
class Prediction:
    """What came out for one row.

    Attributes:
        output: The label, or the generated text without surrounding white space.
        probabilities: One for each label in the task's order; empty for a generation.
    """

    output: str
    probabilities: tuple[float, ...] = ()

    @property
    def confidence(self) -> float:
        """Probability of the output among the labels; 0 for a generation."""
        return max(self.probabilities, default=0.0)


class Predictor:
    """Answers rows with one prompt, or with the bare base.

    Args:
        base: The base model.
        task: Template and answers.
        prompt: None: the bare base.
        batch_size: Rows computed at once.
        max_new_tokens: Longest generated answer.
        sampling: How texts are drawn; None: greedily.
        head: The base's output head where it was made before; None: it is made and compared with the model here.
        strategy: Runs the base; None: the fastest that is exact for this kind of prompt.

    Attributes:
        strategy: Runs the base.
        prefix: The prompt as the strategy prepared it.
    """

    def __init__(
        self,
        base: FrozenBase,
        task: EncodedTask,
        prompt: SoftPrompt | None,
        *,
        batch_size: int = 64,
        max_new_tokens: int = 64,
        sampling: SamplingSpec | None = None,
        head: Head | None = None,
        strategy: Strategy | None = None,
    ) -> None:
        self.base, self.task = base, task
        self._batch_size, self._max_new_tokens, self._sampling = batch_size, max_new_tokens, sampling or SamplingSpec()
        self.strategy: Strategy = strategy or choose_strategy(base, prompt.kind if prompt else None)
        self.head = head or Head(base)
        with torch.no_grad():
            self.prefix: Prefix = self.strategy.prefix(prompt)

    def predict(self, inputs: Sequence[dict[str, str]], progress: Callable[[int], None] | None = None) -> list[Prediction]:
        """Answer each row.

        Args:
            inputs: Values of the template's fields.
            progress: Called with the number of rows done.

        Raises:
            UnsupportedBaseModel: A row is longer than the context.
            NotANumber: The base gives NaN.
        """
        return self.predict_ids(self.task.encoder.all_input_ids(inputs), progress)

    def predict_ids(self, ids: Sequence[Sequence[int]], progress: Callable[[int], None] | None = None) -> list[Prediction]:
        """The same for rows that are token ids already."""
        found: dict[int, Prediction] = {}
        cut = of_like_length if self.strategy.pads else of_equal_length
        for rows in cut(ids, self._batch_size):
            check_length(self.base, self.prefix.num_tokens, len(ids[rows[-1]]) + 1)
            found |= zip(rows, self._answer([ids[row] for row in rows]), strict=True)
            if progress:
                progress(len(found))
        return [found[row] for row in range(len(ids))]

    def target_nats(self, ids: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[float]:
        """Negative log-likelihood of each row's right answer as a text, nats, each token behind the right ones before it.

        Args:
            ids: Token ids of the filled templates.
            targets: Token ids of the right answers, end token included.

        Raises:
            UnsupportedBaseModel: A row and its answer are longer than the context.
            NotANumber: The base gives NaN.
        """
        collate = Collator(None, decoder_start(self.base), self.base.model.device)
        examples = [Example(list(row), list(target), -1) for row, target in zip(ids, targets, strict=True)]
        found: dict[int, float] = {}
        for rows in of_like_length([[*row, *target] for row, target in zip(ids, targets, strict=True)], self._batch_size):
            check_length(self.base, self.prefix.num_tokens, examples[rows[-1]].num_tokens)
            batch = collate([examples[row] for row in rows])
            found |= zip(rows, answer_nats(self.strategy, self.head, self.prefix, batch).tolist(), strict=True)
        return [found[row] for row in range(len(examples))]

    def _answer(self, ids: Sequence[Sequence[int]]) -> list[Prediction]:
        input_ids, mask = pad(ids, self.base.model.device)
        lengths = None if bool(mask.all()) else mask.sum(dim=1)
        if self.task.trie is not None:
            log_scores = answer_log_probabilities(self.strategy, self.head, self.task.trie, self.prefix, input_ids, lengths)
            scores = log_scores.exp()
            best = scores.argmax(dim=1).tolist()
            return [Prediction(self.task.labels[i], tuple(row)) for i, row in zip(best, scores.tolist(), strict=True)]
        room = self.base.text.context_tokens - self.prefix.num_tokens - input_ids.shape[1]
        answers = generate(
            self.strategy,
            self.head,
            self.prefix,
            input_ids,
            lengths,
            max_new_tokens=max(1, min(self._max_new_tokens, room)),
            end_token=self.task.encoder.end_token,
            choose=next_token(self._sampling, ids),
        )
        return [
            Prediction(str(self.task.encoder.tokenizer.decode(answer, skip_special_tokens=True)).strip()) for answer in answers
        ]


def of_like_length(ids: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Indices of rows, at most `most` at a time, short rows first."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    return (order[start : start + most] for start in range(0, len(order), most))


def of_equal_length(ids: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Indices of rows of the same length, at most `most` at a time, short rows first."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, sequence in enumerate(ids):
        groups[len(sequence)].append(row)
    for _, rows in sorted(groups.items()):
        yield from (rows[start : start + most] for start in range(0, len(rows), most))
