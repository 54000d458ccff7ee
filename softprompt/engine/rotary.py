"""How far a base turns queries and keys from one place to the next (rotary embeddings, Su et al. 2021, arXiv 2104.09864).

A deep prompt's keys stand still while a text's queries turn with their places, each pair of numbers at a speed of its own. Along
numbers that turn far within a text, what a key makes of a word is a matter of where the word stands, and no longer of the word.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.head import inner_model

FURTHEST_TURN = 1.0
"""Radians over a text; numbers of a key that turn further say more about places than about words (docs/tuning-log.md)."""


def turns(base: FrozenBase) -> Tensor | None:
    """Radians by which each number of a head turns from one place to the next, `[L, D]`, on the CPU.

    Numbers that a base does not turn are 0 (partial rotary embeddings).

    Returns:
        None where a base has no rotary embeddings, or none that are known here.
    """
    embedding = None if base.is_encoder_decoder else getattr(inner_model(base), "rotary_emb", None)
    if embedding is None:
        return None
    config = base.model.config.get_text_config(decoder=True)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # Gemma 3 turns slower where a layer sees further.
    by_kind = "layer_type" in inspect.signature(embedding.forward).parameters
    kinds = [(kind,) for kind in config.layer_types] if by_kind else [()] * config.num_hidden_layers
    return torch.stack([_turns(embedding, kind, size) for kind in kinds])


def holds_still(base: FrozenBase, num_tokens: float) -> Tensor | None:
    """Which numbers of a key mean much the same all along a text, `[L, D]` bool; None: all of them.

    At least half of a head's numbers, however long a text is: fewer say too little.

    Args:
        base: The base model.
        num_tokens: How long a text is.
    """
    found = turns(base)
    if found is None:
        return None
    slower_half = found.sort(dim=1).values[:, found.shape[1] // 2 - 1, None]
    return found <= slower_half.clamp_min(FURTHEST_TURN / num_tokens)


def _turns(embedding: torch.nn.Module, kind: Sequence[str], size: int) -> Tensor:
    """Of one layer, from the cosines and sines of place 1."""
    device = next(iter(embedding.buffers())).device
    first = torch.ones(1, 1, dtype=torch.long, device=device)
    cosines, sines = embedding(torch.zeros(1, device=device), first, *kind)
    turned = torch.atan2(sines, cosines).abs().flatten().cpu()
    return torch.nn.functional.pad(turned, (0, size - len(turned)))
