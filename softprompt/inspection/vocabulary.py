"""A prompt beside the whole vocabulary: nearest tokens, norms and projection in every space, in one reading of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.prompts import SoftPrompt
from softprompt.errors import UnsupportedBaseModel
from softprompt.inspection.nearest import ChanceLevel, NearestTokens, Neighbour, cosines_with
from softprompt.inspection.norms import NormComparison, compare_norms
from softprompt.inspection.projection import Plane, sampled_tokens
from softprompt.inspection.spaces import Space, spaces_of, token_vectors, vocabulary

NUM_NEAREST = 5
NUM_SHORTLISTED = 32
"""A deep prompt's vectors stand at different places, and the vocabulary is read at one of them: in models with learned positions
the order can change a little, so this many tokens are looked at again at the vector's own place."""


@dataclass(frozen=True)
class Comparison:
    """One space.

    Attributes:
        space: Which, with the prompt's vectors.
        norms: The vectors' norms among the tokens'.
        nearest: For each vector its nearest tokens, nearest first; empty for keys (a token's key comes with its value).
        chance_cosine: What a random direction reaches with its nearest token.
        plane: Two dimensions of the space.
        sampled: `[R, W]`, vectors of `sampled_tokens`.
    """

    space: Space
    norms: NormComparison
    nearest: tuple[tuple[Neighbour, ...], ...]
    chance_cosine: float
    plane: Plane
    sampled: Tensor


class _Reading:
    """What is followed in one space while the vocabulary is read."""

    def __init__(self, space: Space, vocabulary_size: int) -> None:
        self.space = space
        self.nearest = NearestTokens(space.vectors, NUM_SHORTLISTED)
        self.chance = ChanceLevel(space.vectors.shape[1])
        self.norms: list[Tensor] = []
        self.sampled: list[Tensor] = []
        self._is_sampled = torch.zeros(vocabulary_size, dtype=torch.bool)
        self._is_sampled[sampled_tokens(vocabulary_size)] = True

    def add(self, token_ids: Tensor, rows: Tensor) -> None:
        if self.space.part != "keys":
            self.nearest.add(token_ids, rows)
            self.chance.add(token_ids, rows)
        self.norms.append(rows.norm(dim=1))
        self.sampled.append(rows[self._is_sampled[token_ids]])


def compare_with_vocabulary(
    base: FrozenBase, prompt: SoftPrompt, progress: Callable[[int, int], None] | None = None
) -> list[Comparison]:
    """Compare a prompt with every token of its base's vocabulary.

    Args:
        base: The base model.
        prompt: The prompt.
        progress: Called with (tokens done, tokens).

    Returns:
        One comparison a space: the input embeddings, or keys and values layer by layer.

    Raises:
        UnsupportedBaseModel: A deep prompt of an encoder-decoder model: no token alone has such keys and values.
    """
    if prompt.kind == "deep" and base.is_encoder_decoder:
        raise UnsupportedBaseModel(
            "A deep prompt of an encoder-decoder model cannot be compared with real tokens.",
            where=str(base.model.config.model_type),
            expected="a causal model, where a token alone has keys and values of the prompt's shape",
        )
    spaces = spaces_of(prompt.values.detach().cpu())
    readings = [_Reading(space, base.vocabulary_size) for space in spaces]
    for token_ids, rows in vocabulary(base, prompt.kind, prompt.num_tokens // 2):
        for reading, vectors in zip(readings, rows, strict=True):
            reading.add(token_ids, vectors)
        if progress:
            progress(int(token_ids[-1]) + 1, base.vocabulary_size)
    return _compared(base, prompt, readings)


def _compared(base: FrozenBase, prompt: SoftPrompt, readings: list[_Reading]) -> list[Comparison]:
    nearest = _of_embeddings(readings[0]) if prompt.kind == "shallow" else _of_values(base, readings)
    found = []
    for reading in readings:
        is_keys, sampled = reading.space.part == "keys", torch.cat(reading.sampled)
        found.append(
            Comparison(
                space=reading.space,
                norms=compare_norms(reading.space.vectors, torch.cat(reading.norms)),
                nearest=() if is_keys else tuple(nearest[reading.space.layer]),
                chance_cosine=0.0 if is_keys else reading.chance.cosine,
                plane=Plane.through(sampled),
                sampled=sampled,
            )
        )
    return found


def _of_embeddings(reading: _Reading) -> dict[int, list[tuple[Neighbour, ...]]]:
    """Nearest tokens of each vector of a shallow prompt, as they were found."""
    pairs = zip(reading.nearest.ids.tolist(), reading.nearest.cosines.tolist(), strict=True)
    return {0: [tuple(map(Neighbour, ids[:NUM_NEAREST], cosines[:NUM_NEAREST])) for ids, cosines in pairs]}


def _of_values(base: FrozenBase, readings: list[_Reading]) -> dict[int, list[tuple[Neighbour, ...]]]:
    """Layer -> nearest tokens of each vector of a deep prompt: the shortlisted ones, at the vector's own place."""
    found: dict[int, list[tuple[Neighbour, ...]]] = {keys.space.layer: [] for keys in readings[::2]}
    for place in range(len(readings[0].space.vectors)):
        shortlist = torch.cat([values.nearest.ids[place] for values in readings[1::2]]).unique()
        rows = token_vectors(base, "deep", shortlist, place)
        for (keys, values), token_keys, token_values in zip(
            zip(readings[::2], readings[1::2], strict=True), rows[::2], rows[1::2], strict=True
        ):
            cosines = cosines_with(values.space.vectors[place], token_values)
            of_keys = cosines_with(keys.space.vectors[place], token_keys)
            best = cosines.topk(min(NUM_NEAREST, len(shortlist))).indices
            chosen = zip(shortlist[best].tolist(), cosines[best].tolist(), of_keys[best].tolist(), strict=True)
            found[values.space.layer].append(tuple(Neighbour(*each) for each in chosen))
    return found
