"""A prompt's vectors among real tokens in two dimensions: the tokens' first two principal components.

The plane is the tokens' own, so it shows where the prompt lies *along the directions in which tokens differ most*. What of the
prompt's vectors lies outside that plane is stated as a number, because a picture cannot show it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_SAMPLED_TOKENS = 600
"""Tokens that the plane is laid through and that a picture shows."""


@dataclass(frozen=True)
class Plane:
    """The best-fitting plane through tokens.

    Attributes:
        centre: `[W]`, their mean.
        axes: `[2, W]`, orthonormal; the first one is the direction of largest variance.
        explained: The share of the tokens' variance along each axis.
    """

    centre: Tensor
    axes: Tensor
    explained: tuple[float, float]

    @classmethod
    def through(cls, rows: Tensor) -> "Plane":
        """The plane of the first two principal components of `[R, W]` (at least 2 of each), signs fixed by the axes' largest."""
        centre = rows.mean(dim=0)
        _, scales, axes = torch.linalg.svd(rows - centre, full_matrices=False)
        variances = scales.square()
        axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(dim=1, keepdim=True)).sign()
        first, second = (variances[:2] / variances.sum().clamp_min(1e-30)).tolist()
        return cls(centre, axes, (first, second))

    def project(self, vectors: Tensor) -> Tensor:
        """`[R, W]` to coordinates `[R, 2]`."""
        return (vectors - self.centre) @ self.axes.T

    def share_inside(self, vectors: Tensor) -> float:
        """The share of the vectors' squared distance from the tokens' centre that lies in the plane."""
        outside = (vectors - self.centre).square().sum().clamp_min(1e-30)
        return float(self.project(vectors).square().sum() / outside)


def sampled_tokens(vocabulary_size: int) -> Tensor:
    """Ids of the tokens that a picture shows: the same for every prompt of a base, sorted."""
    order = torch.randperm(vocabulary_size, generator=torch.Generator().manual_seed(0))
    return order[:NUM_SAMPLED_TOKENS].sort().values
