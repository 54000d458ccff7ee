"""Which token comes next: the most likely one, or a draw that depends on the row alone, not on the rows beside it."""

from collections.abc import Sequence
from random import Random
from typing import Protocol

import torch
from torch import Tensor

from softprompt.recipe.evaluation import SamplingSpec

MOST_RANKED = 2048
"""Tokens that are ranked first; where they hold too little, the whole vocabulary is, which takes three times as long."""


class NextToken(Protocol):
    """Chooses the next token of some rows of a batch."""

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Logits `[b, V]` of rows with these indices to token ids `[b]`."""


def most_likely(logits: Tensor, rows: Sequence[int]) -> Tensor:
    """Greedy decoding."""
    return logits.argmax(dim=-1)


class Draw:
    """Draws from the nucleus: the most likely tokens that together hold `top_p` of the probability (Holtzman et al. 2020).

    A row's stream of random numbers follows from the seed and its own tokens, so neither the batch it stands in nor the order
    of the rows changes what is drawn, beyond rounding of the logits.

    Args:
        spec: Temperature (above 0), nucleus and seed.
        rows: Token ids of each row's input.
    """

    def __init__(self, spec: SamplingSpec, rows: Sequence[Sequence[int]]) -> None:
        self._spec = spec
        self._streams = [row_stream(spec.seed, row) for row in rows]

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Draw each row's token; that moves the row's stream on by one number."""
        return draw(nucleus(logits, self._spec.temperature, self._spec.top_p), [self._streams[row] for row in rows])


def row_stream(seed: int, input_ids: Sequence[int]) -> Random:
    """A row's stream of random numbers: the same for the same seed and input, in evaluation and in serving."""
    return Random(f"{seed}/{list(input_ids)}")


def draw(kept: Tensor, streams: Sequence[Random]) -> Tensor:
    """Token ids `[b]` drawn from unnormalised probabilities `[b, V]`, each with one number of its row's stream."""
    marks = torch.tensor([stream.random() for stream in streams], dtype=kept.dtype, device=kept.device)
    reached = kept.cumsum(dim=-1)
    return torch.searchsorted(reached, marks[:, None] * reached[:, -1:], right=True)[:, 0].clamp_max(kept.shape[-1] - 1)


def nucleus(logits: Tensor, temperature: float | Tensor, top_p: float | Tensor) -> Tensor:
    """Probabilities `[B, V]` float64 of the tokens that may be drawn, 0 for all others; rows sum to `top_p` or a little more.

    Args:
        logits: `[B, V]`.
        temperature: Above 0; one for all rows, or `[B, 1]`.
        top_p: One for all rows, or `[B, 1]`.
    """
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    needed = torch.as_tensor(top_p, dtype=probabilities.dtype, device=probabilities.device).expand(len(probabilities), 1)
    is_cut = needed < 1.0
    if not bool(is_cut.any()):
        return probabilities
    ranked, order = probabilities.topk(min(MOST_RANKED, probabilities.shape[1]), dim=-1)
    if bool((is_cut & (ranked.sum(dim=-1, keepdim=True) < needed)).any()):
        ranked, order = probabilities.sort(dim=-1, descending=True)
    before = ranked.cumsum(dim=-1) - ranked
    kept = torch.zeros_like(probabilities).scatter(-1, order, ranked.masked_fill(before >= needed, 0.0))
    return torch.where(is_cut, kept, probabilities)


def next_token(spec: SamplingSpec, rows: Sequence[Sequence[int]]) -> NextToken:
    """How the rows of a batch are decoded: greedily at temperature 0."""
    return Draw(spec, rows) if spec.temperature else most_likely
