"""Noise on what training rows say: some of their tokens become others at each reading, so that a row is hard to learn by heart.

Xie et al. 2017, https://arxiv.org/abs/1703.02573, draw by frequency from all of the training text. Here a batch's own tokens are
drawn from: as frequent on the mean, and nothing has to be counted beforehand. What every row shares stays: the beginning and the
end that its template gives it, and special tokens.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from softprompt.engine.batches import Example
from softprompt.engine.encoding import TextEncoder


@dataclass(frozen=True)
class InputNoise:
    """Replaces tokens of inputs.

    Attributes:
        share: Of tokens that are replaced, on the mean.
        seed: Fixes which, and by what, together with the step.
        begin, end: Tokens of the template in front of its first field, and behind its last.
        special: Token ids that are neither replaced nor drawn.
    """

    share: float
    seed: int
    begin: int
    end: int
    special: frozenset[int]

    @classmethod
    def of(cls, encoder: TextEncoder, share: float, seed: int) -> "InputNoise | None":
        """Noise on what an encoder reads; None where its share is 0."""
        if not share:
            return None
        filled = [example.token_ids for example in encoder.examples()]
        begin, end = (_num_shared(rows) for rows in (filled, [ids[::-1] for ids in filled]))
        return cls(share, seed, begin, end, frozenset(encoder.tokenizer.all_special_ids))

    def __call__(self, rows: Sequence[Example], step: int) -> list[Example]:
        """A batch as it is read in this step; answers, lengths and groups are as they were."""
        draw = random.Random(f"{self.seed}/noise/{step}")
        drawn = [token for row in rows for token in self._body(row) if token not in self.special]
        return [replace(row, input_ids=self._noisy(row, drawn, draw)) for row in rows]

    def _body(self, row: Example) -> list[int]:
        """The tokens between the template's ends; none where a row is shorter than these."""
        return row.input_ids[self.begin : max(self.begin, len(row.input_ids) - self.end)]

    def _noisy(self, row: Example, drawn: Sequence[int], draw: random.Random) -> list[int]:
        body = [
            draw.choice(drawn) if token not in self.special and draw.random() < self.share else token for token in self._body(row)
        ]
        return [*row.input_ids[: self.begin], *body, *row.input_ids[self.begin + len(body) :]]


def _num_shared(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with alike."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*rows, strict=False)))
