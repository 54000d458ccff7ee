"""Whether a prompt can belong to a base: its fingerprint, its shape, and numbers that a base could have met.

Bytes that verify can still be nonsense: numbers read in the wrong order of bytes, a number that overflowed on its way through
another tool, a scale of millions. Such a prompt answers, and wrongly. So wherever a prompt meets a base, the norm of each of its
vectors is held against what real tokens have in the same place: the rows that the embedding module gives (shallow), the keys and
values that the base computes for tokens (deep).
"""

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.real_tokens import base_shape, token_values
from softprompt.errors import FingerprintMismatch, VerificationFailed
from softprompt.peft_checkpoint import BaseShape

MOST_NORM = 1000.0
"""Largest norm of a prompt's vector, 1 for the largest of a real token in the same place. How it was chosen: docs/formats.md."""
NUM_REAL_TOKENS = 64
"""Tokens whose keys and values are computed, spread evenly over the vocabulary and read as one text."""

_deep: "WeakKeyDictionary[nn.Module, tuple[BaseShape, Tensor]]" = WeakKeyDictionary()
"""Base model -> what `of_deep_prompts` found."""


def fitting_prompt(base: FrozenBase, file: PromptFile) -> SoftPrompt:
    """The prompt of a file where its base is, once it is known to belong there.

    Args:
        base: The base model that it is to stand in front of.
        file: A verified prompt file.

    Raises:
        FingerprintMismatch: It was trained on another base.
        VerificationFailed: Its shape or its numbers cannot come from this base.
    """
    where = f"prompt {file.digest[:12]}"
    if file.manifest.base_fingerprint != base.fingerprint:
        raise FingerprintMismatch(
            "The prompt was trained on another base model.",
            where=where,
            expected=file.manifest.base_fingerprint,
            actual=base.fingerprint,
            hint="Use it with its own base, or tune it again for this one.",
        )
    values = torch.from_numpy(file.values)
    check_fit(base, values, where=where)
    return SoftPrompt(values).to(base.model.device)


def check_fit(base: FrozenBase, values: Tensor, *, where: str) -> None:
    """Refuse a prompt whose shape or numbers cannot come from a base.

    Args:
        base: The base model.
        values: `[P, H]` or `[L, 2, P, N, D]`, finite, float32 on the CPU.
        where: Which prompt, for messages.

    Raises:
        VerificationFailed: Naming what does not fit.
    """
    _check_shape(base, values, where)
    for what, norms, largest in _norms(base, values):
        _check_norms(norms, largest, what, where)


def largest_relative_norm(base: FrozenBase, values: Tensor) -> float:
    """Largest norm of a prompt's vector, 1 for the largest of a real token in the same place.

    Args:
        base: The base model.
        values: `[P, H]` or `[L, 2, P, N, D]` of its shape, float32 on the CPU.
    """
    return max(float(norms.max()) / largest for _, norms, largest in _norms(base, values))


def _norms(base: FrozenBase, values: Tensor) -> Iterator[tuple[str, Tensor, float]]:
    """Of each space that a prompt has vectors in: its name, their norms `[P]`, the largest norm of a real token."""
    if values.ndim == 2:
        yield "the input embeddings", values.norm(dim=-1), base.largest_embedding_norm
        return
    norms, (_, largest) = values.flatten(3).norm(dim=-1), of_deep_prompts(base)
    if base.is_encoder_decoder:  # whose layers PEFT deals out anew, and of which there may be more than the decoder has
        largest = largest.amax(dim=0, keepdim=True).expand(len(norms), 2)
    for layer, sides in enumerate(norms):
        for side, part in enumerate(("keys", "values")):
            yield f"the {part} of layer {layer + 1}", sides[side], float(largest[layer, side])


def _check_shape(base: FrozenBase, values: Tensor, where: str) -> None:
    if values.ndim == 2:
        expected, actual = {"hidden size": base.hidden_size}, {"hidden size": values.shape[1]}
    else:
        (shape, _), (layers, _, _, heads, size) = of_deep_prompts(base), values.shape
        enough = base.is_encoder_decoder and 0 < shape.num_layers <= layers
        expected = {"layers": shape.num_layers, "heads": shape.num_kv_heads, "head size": shape.head_size}
        actual = {"layers": shape.num_layers if enough else layers, "heads": heads, "head size": size}
    if expected != actual:
        raise VerificationFailed(
            "A prompt does not have the shape of its base model.",
            where=where,
            expected=_shown(expected),
            actual=_shown(actual),
            hint="Do not use it; tune it again for this base.",
        )


def _shown(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def _check_norms(norms: Tensor, largest: float, what: str, where: str) -> None:
    bound, place = MOST_NORM * largest, int(norms.argmax())
    if not float(norms[place]) <= bound:
        raise VerificationFailed(
            "A prompt's numbers are none that its base model could have met.",
            where=f"{where}, vector {place + 1} among {what}",
            expected=f"a norm of at most {bound:.4g}, {MOST_NORM:g} times the largest of a real token",
            actual=f"{float(norms[place]):.4g}",
            hint="Do not use it: look at how it was trained, converted or read.",
        )


def of_deep_prompts(base: FrozenBase) -> tuple[BaseShape, Tensor]:
    """What a deep prompt of a base is like: its shape, and `[L, 2]`, the largest norm of a real token's key and value a layer.

    Found out once a base, by two short forwards.
    """
    if base.model not in _deep:
        shape, count = base_shape(base), min(NUM_REAL_TOKENS, base.vocabulary_size, base.text.context_tokens)
        ids = torch.linspace(0, base.vocabulary_size - 1, count).long().tolist()
        real = token_values(base, ids, "deep").flatten(3).norm(dim=-1).amax(dim=2) if shape.num_layers else torch.zeros(0, 2)
        _deep[base.model] = shape, real
    return _deep[base.model]
