"""Where a prompt's vectors and real tokens can be compared: the spaces that both of them have a vector in.

A shallow prompt lives in one space, the input embeddings, and there a token is what the embedding *module* gives for it (some
models scale inside it). A deep prompt has two spaces a layer, keys and values, heads side by side. There a token is the key and
value that the base computes for it *alone*, with nothing before it, at the place of the prompt's own vector. In layer 1 that is
all a token can be; further up a real token's key and value depend on its context, which a token alone does not have, so likeness
there is a hint and no more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from softprompt.base_model import FrozenBase
from softprompt.engine.head import inner_model
from softprompt.names import PromptKind

Part = Literal["embeddings", "keys", "values"]
TOKENS_AT_ONCE = 1024
"""Vocabulary tokens computed together; bounds memory."""


@dataclass(frozen=True)
class Space:
    """One space with the prompt's vectors in it.

    Attributes:
        part: What the vectors are.
        layer: Counted from 1; 0 for the input embeddings.
        vectors: `[P, W]` float32; `W` is `H`, or `N*D` for keys and values.
    """

    part: Part
    layer: int
    vectors: Tensor

    @property
    def title(self) -> str:
        """For people."""
        return "input embeddings" if self.part == "embeddings" else f"{self.part} of layer {self.layer}"


def spaces_of(values: Tensor) -> list[Space]:
    """A prompt's spaces, in the order in which `token_vectors` gives them.

    Args:
        values: `[P, H]` (shallow) or `[L, 2, P, N, D]` (deep), float32.
    """
    if values.ndim == 2:
        return [Space("embeddings", 0, values)]
    flat = values.flatten(3)  # [L, 2, P, N*D]
    parts: tuple[Part, Part] = ("keys", "values")
    return [Space(part, layer, flat[layer - 1, side]) for layer in range(1, len(flat) + 1) for side, part in enumerate(parts)]


@torch.no_grad()
def token_vectors(base: FrozenBase, kind: PromptKind, token_ids: Tensor, place: int) -> list[Tensor]:
    """What tokens are in each space of a kind of prompt, each token alone.

    Args:
        base: The base model; causal for deep prompts.
        kind: `shallow` or `deep`.
        token_ids: `[C]`.
        place: Position that each token stands at; the input embeddings do not depend on it.

    Returns:
        One `[C, W]` float32 a space, on the CPU.
    """
    ids = token_ids.to(base.model.device)
    if kind == "shallow":
        return [base.embedding(ids).float().cpu()]
    cache: Any = DynamicCache()
    positions = torch.full((1, 1), place, device=ids.device)
    inner_model(base)(input_ids=ids[:, None], position_ids=positions, past_key_values=cache, use_cache=True)
    # [C, N, 1, D] -> [C, N*D]
    return [side.squeeze(2).flatten(1).float().cpu() for layer in cache.layers for side in (layer.keys, layer.values)]


def vocabulary(base: FrozenBase, kind: PromptKind, place: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Every token of the vocabulary: (token ids `[C]`, their vectors in each space), a piece at a time."""
    for ids in torch.arange(base.vocabulary_size).split(TOKENS_AT_ONCE):
        yield ids, token_vectors(base, kind, ids, place)
