"""Adam in the basis in which the gradients of one attention head vary independently, for deep prompts.

SOAP (Vyas et al. 2024, https://arxiv.org/abs/2409.11321) runs Adam in the eigenbasis of Shampoo's preconditioner. Here only its
right side is used, for each layer's keys, and values, of each head: what a query makes of a key depends on its direction, and
the numbers of a key are an arbitrary basis for that. All prompt tokens share a head's basis, so it is known after a few steps.

Adam moves as far along every direction. A key's gradient is a sum of the queries that meet it, and queries of a trained base
vary up to a hundred times more along one direction than along another: where they vary little a key has to move far to change
where a head looks. With `whiten_keys` a key's step along each direction is divided by the size that gradients have there: Adam in
whitened coordinates, in which every direction of a query counts alike. Steps are then cautious, too (Liang et al. 2024,
https://arxiv.org/abs/2411.16085): what the batch at hand would turn around stays where it is, and the rest moves further by as
much. What this is worth, and where it is not: docs/tuning-log.md.
"""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

REFRESH_EVERY_STEPS = 10
"""A basis costs an eigendecomposition of `[D, D]` a head, and turns slowly."""
TOKENS_A_DIMENSION = 4
"""Gradients of so many prompt tokens for each dimension of a head are seen before it is turned: of fewer the basis is chance, and
rounding would decide about it."""
REMEMBERED_A_DIMENSION = 20
"""Where keys are whitened the covariance is a mean over so many; of fewer its small eigenvalues would be far too small."""
KEYS_SHARE = 0.4
"""Of the rate, for a whitened key along a direction of mean variance."""
LEAST_VARIANCE = 0.01
"""Directions of less than this share of the mean variance count as if they had it: what is known of them is noise."""
EPS = 1e-8
"""Adam's own."""
LEAST_AGREEMENT = 1e-3
"""Share of a parameter's numbers that is taken to agree with the batch at hand where fewer do."""


class Soap(torch.optim.Optimizer):
    """Over deep prompts `[L, 2, P, N, D]`; a parameter of another shape is trained by plain Adam.

    Args:
        groups: Parameters, as torch's optimisers take them.
        betas: Decay of the mean gradient, and of both its square and its covariance.
        weight_decay: Decoupled, times the rate.
        whiten_keys: Move keys in whitened coordinates, and everything cautiously.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, betas: tuple[float, float], weight_decay: float, whiten_keys: bool = False
    ) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas, "weight_decay": weight_decay})
        self.whiten_keys = whiten_keys

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step along the gradients that are there."""
        assert closure is None, "the loss is computed once a step"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._direction(_by_head(parameter.grad).contiguous(), self.state[parameter], group["betas"])
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(_by_head(direction), alpha=group["lr"])  # the same exchange, back
        return None

    def _direction(self, gradient: Tensor, state: dict[str, Any], betas: tuple[float, float]) -> Tensor:
        """Where Adam would go in the turned basis, turned back; gradient and result `[L, 2, N, P, D]` for a deep prompt."""
        first, second = betas
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
            if gradient.ndim == 5:
                state["covariance"] = torch.zeros_like(gradient.mT @ gradient)
                state["basis"] = torch.diag_embed(torch.ones_like(state["covariance"][..., 0]))
                if self.whiten_keys:
                    state["gain"] = torch.ones_like(state["covariance"][..., 0])
        state["step"] += 1
        if gradient.ndim == 5:
            self._turn(gradient, state, second)
        basis: Tensor | None = state.get("basis")
        state["mean"].lerp_(gradient, 1 - first)
        seen = gradient if basis is None else gradient @ basis
        state["square"].lerp_(seen.square(), 1 - second)
        mean: Tensor = state["mean"] / (1 - first ** state["step"])
        root: Tensor = (state["square"] / (1 - second ** state["step"])).sqrt()
        if basis is None:
            return mean / (root + EPS)
        turned: Tensor = mean @ basis / (root + EPS)
        if self.whiten_keys:
            turned = _cautious(turned * state["gain"][..., None, :], seen)
        return turned @ basis.mT

    def _turn(self, gradient: Tensor, state: dict[str, Any], decay: float) -> None:
        """Follow the covariance of a head's gradients; every so often take basis and gains from it."""
        num_tokens, size = gradient.shape[-2:]
        share = min(1 - decay, num_tokens / (REMEMBERED_A_DIMENSION * size)) if self.whiten_keys else 1 - decay
        state["covariance"].lerp_(gradient.mT @ gradient, share)
        if state["step"] % REFRESH_EVERY_STEPS == 0 and state["step"] * num_tokens >= TOKENS_A_DIMENSION * size:
            variances, vectors = torch.linalg.eigh(state["covariance"].double())
            state["basis"] = vectors.to(gradient.dtype).contiguous()
            if self.whiten_keys:
                of_mean = variances[:, 0].clamp_min(0) / variances[:, 0].mean(dim=-1, keepdim=True)
                state["gain"][:, 0] = KEYS_SHARE * (of_mean + LEAST_VARIANCE).rsqrt()


def _cautious(direction: Tensor, gradient: Tensor) -> Tensor:
    """Only what the batch's own gradient agrees with, stretched by how little that is; what has no gradient does not agree."""
    agrees = (direction * gradient > 0).to(direction.dtype)
    return direction * agrees / agrees.mean().clamp_min(LEAST_AGREEMENT)


def _by_head(values: Tensor) -> Tensor:
    """`[L, 2, P, N, D]` as one matrix a head, `[L, 2, N, P, D]`; anything else as it is."""
    return values.transpose(2, 3) if values.ndim == 5 else values
