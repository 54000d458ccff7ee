"""Lengths of a prompt's vectors beside those of real tokens: a vector much longer than any token is one the base never saw."""

import torch
from torch import Tensor

from softprompt.documents import Document

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of the vocabulary's quantiles."""


class NormComparison(Document):
    """Norms in one space."""

    vocabulary: tuple[float, ...]
    """The vocabulary's norms at `LEVELS`."""
    prompt: tuple[float, ...]
    """The norm of each vector."""
    ranks: tuple[float, ...]
    """For each vector, the share of the vocabulary's tokens with a smaller norm."""


def compare_norms(vectors: Tensor, vocabulary_norms: Tensor) -> NormComparison:
    """Put the norms of a prompt's vectors among the vocabulary's.

    Args:
        vectors: `[P, W]`.
        vocabulary_norms: `[V]`.
    """
    sorted_norms = vocabulary_norms.sort().values
    norms = vectors.norm(dim=1)
    # Picked by place: torch.quantile refuses more than 16 million numbers, and a quantile of that many needs no interpolation.
    places = [round(level * (len(sorted_norms) - 1)) for level in LEVELS]
    below = torch.searchsorted(sorted_norms, norms)
    return NormComparison(
        vocabulary=tuple(sorted_norms[places].tolist()),
        prompt=tuple(norms.tolist()),
        ranks=tuple((below / len(sorted_norms)).tolist()),
    )
