"""The tokens nearest to each vector, by cosine.

The vectors of a trained prompt lie away from all tokens as a rule (Lester et al. 2021, section 7), and in many dimensions even a
direction drawn at random is near to *some* token. So the nearest tokens come with what chance alone would reach.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

NUM_RANDOM_DIRECTIONS = 32


class NearestTokens:
    """Follows the nearest tokens while the vocabulary is read.

    Args:
        vectors: `[P, W]`.
        num_nearest: How many to keep for each vector.
    """

    def __init__(self, vectors: Tensor, num_nearest: int) -> None:
        self._num_nearest = num_nearest
        self._directions = normalize(vectors, dim=1)
        self._ids = torch.empty(len(vectors), 0, dtype=torch.long)
        self._cosines = torch.empty(len(vectors), 0)

    def add(self, token_ids: Tensor, rows: Tensor) -> None:
        """Take some tokens.

        Args:
            token_ids: `[C]`.
            rows: `[C, W]`, their vectors.
        """
        cosines = torch.cat([self._cosines, self._directions @ normalize(rows, dim=1).T], dim=1)
        ids = torch.cat([self._ids, token_ids.expand(len(self._ids), -1)], dim=1)
        self._cosines, order = cosines.topk(min(self._num_nearest, cosines.shape[1]), dim=1)
        self._ids = ids.gather(1, order)

    @property
    def ids(self) -> Tensor:
        """Token ids `[P, num_nearest]`, nearest first."""
        return self._ids

    @property
    def cosines(self) -> Tensor:
        """Their cosines, `[P, num_nearest]`."""
        return self._cosines


class ChanceLevel:
    """The cosine to its nearest token that a direction drawn at random reaches, on average.

    Args:
        width: Numbers of a vector, `W`.
    """

    def __init__(self, width: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._nearest = NearestTokens(torch.randn(NUM_RANDOM_DIRECTIONS, width, generator=generator), 1)

    def add(self, token_ids: Tensor, rows: Tensor) -> None:
        """Take some tokens `[C]` with their vectors `[C, W]`."""
        self._nearest.add(token_ids, rows)

    @property
    def cosine(self) -> float:
        """The level."""
        return float(self._nearest.cosines.mean())


@dataclass(frozen=True)
class Neighbour:
    """A token near to a vector.

    Attributes:
        token_id: Row of the vocabulary.
        cosine: Of the token's vector with the prompt's.
        key_cosine: The same for the keys that belong to these values; None where there are none.
    """

    token_id: int
    cosine: float
    key_cosine: float | None = None


def cosines_with(vector: Tensor, rows: Tensor) -> Tensor:
    """Cosines `[C]` of one vector `[W]` with rows `[C, W]`."""
    return normalize(rows, dim=1) @ normalize(vector, dim=0)
