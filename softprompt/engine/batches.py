"""Token ids to padded tensors that say which positions are scored, and how a seeded epoch is cut into batches."""

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt.engine.answers import AnswerTrie

BATCHES_SORTED_TOGETHER = 8
"""Rows of this many batches are sorted by length, so that a batch holds rows of like length; more would hurt the shuffle."""


@dataclass(frozen=True)
class Example:
    """One row in tokens.

    Attributes:
        input_ids: The filled template.
        answer_ids: The right answer, end token included.
        answer: Its index in the trie; -1 where answers are open.
        group: The subgroup that it belongs to, where fairness is trained; -1: none.
    """

    input_ids: list[int]
    answer_ids: list[int]
    answer: int
    group: int = -1

    @property
    def num_tokens(self) -> int:
        """Tokens of input and answer together."""
        return len(self.input_ids) + len(self.answer_ids)


@dataclass(frozen=True)
class Batch:
    """Right-padded rows, and the positions whose hidden state decides something.

    Attributes:
        input_ids: `[B, T]`; a causal model's rows include the answer tokens that have to be fed.
        input_mask: `[B, T]` bool, False on padding.
        decoder_ids: `[B, A]` for encoder-decoder models, None for causal ones.
        rows, positions: `[M]`, which hidden states are scored, in the sequence that produces answers.
        targets: `[M]`, vocabulary ids (likelihood) or columns of the trie (answers).
        nodes: `[M]`, nodes of the trie; None for the plain likelihood.
        num_rows: Rows `B`.
    """

    input_ids: Tensor
    input_mask: Tensor
    decoder_ids: Tensor | None
    rows: Tensor
    positions: Tensor
    targets: Tensor
    nodes: Tensor | None
    num_rows: int

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.input_mask.sum()) + (self.decoder_ids.numel() if self.decoder_ids is not None else 0)


class Collator:
    """Puts examples into a batch.

    Args:
        trie: Score the decisions under this trie; None: score every token of the answer.
        decoder_start: First decoder token of an encoder-decoder model; None for causal models.
        device: Where the tensors go.
    """

    def __init__(self, trie: AnswerTrie | None, decoder_start: int | None, device: torch.device | str = "cpu") -> None:
        self.trie, self.decoder_start, self.device = trie, decoder_start, device

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Pad on the right: every hidden state is then what it is for the row alone."""
        scored = [self._scored(example) for example in examples]
        fed = [
            example.answer_ids[: max((offset for offset, _, _ in places), default=0)]
            for example, places in zip(examples, scored, strict=True)
        ]
        causal = self.decoder_start is None
        inputs = [
            example.input_ids + answer if causal else example.input_ids for example, answer in zip(examples, fed, strict=True)
        ]
        input_ids, input_mask = pad(inputs, self.device)
        flat = [
            (row, offset + (len(example.input_ids) - 1 if causal else 0), target, node)
            for row, (example, places) in enumerate(zip(examples, scored, strict=True))
            for offset, target, node in places
        ]
        rows, positions, targets, nodes = torch.tensor(flat, dtype=torch.long, device=self.device).reshape(-1, 4).unbind(1)
        decoder_ids = (
            None if self.decoder_start is None else pad([[self.decoder_start, *answer] for answer in fed], self.device)[0]
        )
        return Batch(input_ids, input_mask, decoder_ids, rows, positions, targets, nodes if self.trie else None, len(examples))

    def num_scored(self, example: Example) -> int:
        """What this example adds to the loss's denominator: one row (answers), or its answer's tokens (likelihood)."""
        return 1 if self.trie else len(example.answer_ids)

    def _scored(self, example: Example) -> list[tuple[int, int, int]]:
        """(offset, target, node) of every scored position of a row."""
        if self.trie is None:
            return [(offset, token, -1) for offset, token in enumerate(example.answer_ids)]
        return [(step.offset, step.target, step.node) for step in self.trie.decisions[example.answer]]


def epochs(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Row indices of one batch after the other, for ever; each epoch sees every row once, in an order that the seed fixes.

    Args:
        lengths: Tokens of each row; rows of like length share a batch.
        batch_size: Rows a batch; the last one of an epoch may be smaller.
        seed: Fixes the order.
    """
    epoch = 0
    while True:
        shuffle = random.Random(f"{seed}/{epoch}")
        # Arrays, not lists: four bytes a row, so that a dataset of many millions of rows has an order, too.
        order, batches = (array("I", range(count)) for count in (len(lengths), -(-len(lengths) // batch_size)))
        shuffle.shuffle(order)
        shuffle.shuffle(batches)
        yield from (_batch(order, lengths, batch_size, number) for number in batches)
        epoch += 1


def _batch(order: Sequence[int], lengths: Sequence[int], batch_size: int, number: int) -> list[int]:
    """Rows of one batch of an epoch: a window of the order is sorted by length, and the batch is cut from it."""
    window, cut = divmod(number, BATCHES_SORTED_TOGETHER)
    start = window * batch_size * BATCHES_SORTED_TOGETHER
    rows = sorted(order[start : start + batch_size * BATCHES_SORTED_TOGETHER], key=lengths.__getitem__)
    return rows[cut * batch_size : (cut + 1) * batch_size]


def chunks(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    """Examples in pieces of at most `size`."""
    return (examples[start : start + size] for start in range(0, len(examples), max(1, size)))


def pad(sequences: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Token ids `[B, T]` padded with 0, and a mask that is False on padding; no position of the padding is ever read."""
    width = max(map(len, sequences))
    ids = torch.tensor([[*sequence, *[0] * (width - len(sequence))] for sequence in sequences], device=device)
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    return ids, torch.arange(width, device=device) < lengths[:, None]
