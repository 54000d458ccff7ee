"""What the optimiser changes: how far the prompt has moved from its start, counted in the size of the vectors around it.

A learning rate then means the same for every base model, for every layer and for keys and values alike: a rate of 0.1 moves each
number by about a tenth of what is usual there, a step. Measured on Banking77: see docs/tuning-log.md.
"""

import torch
from torch import Tensor, nn

from softprompt.engine.prompts import SoftPrompt
from softprompt.recipe.prompt import PromptSpec

NETWORK = ("down", "up", "embedding", "hidden")
"""Parameters of a network; all others count moves of vectors."""


class Direct(nn.Module):
    """A start and a move away from it: `start + scale * offset` (Lester et al. 2021 train the sum itself).

    Args:
        start: `[P, H]` or `[L, 2, P, N, D]`; training begins at exactly this prompt.
        scale: Of the vectors' numbers; broadcasts to the start's shape. Where it is 0 the start stays.
    """

    start: Tensor
    scale: Tensor

    def __init__(self, start: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().float().clone())
        self.register_buffer("scale", scale.detach().float().clone())
        self.offset = nn.Parameter(torch.zeros_like(self.start))

    def prompt(self) -> SoftPrompt:
        """The prompt as it is now, gradients attached."""
        return SoftPrompt.of(self.start + self.scale * self.offset)


class Residual(Direct):
    """Vectors plus a bottleneck network of them (Razdaibiedina et al. 2023), the same network for every prompt token.

    Without the paper's layer normalisation, and with its last layer at zero, so that training begins at the start here too.
    Only the sum is ever written: the network is folded away.

    Args:
        start: `[P, H]` or `[L, 2, P, N, D]`.
        scale: Of the vectors' numbers; broadcasts to the start's shape.
        bottleneck: Width of the network's middle.
        seed: Fixes its first layer.
    """

    def __init__(self, start: Tensor, scale: Tensor, bottleneck: int, seed: int) -> None:
        super().__init__(start, scale)
        width = _by_token(self.start).shape[1]
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(torch.randn(width, bottleneck, generator=generator) / width**0.5)
        self.up = nn.Parameter(torch.zeros(bottleneck, width))

    def prompt(self) -> SoftPrompt:
        """The prompt as it is now, network included."""
        # In units of the scale, which is 0 for numbers that are not trained.
        units = torch.where(self.scale > 0, self.start / self.scale, 0.0)
        tokens = _by_token(units + self.offset)
        network = torch.relu(tokens @ self.down) @ self.up
        return SoftPrompt.of(self.start + self.scale * (self.offset + _from_tokens(network, self.start.shape)))


class Network(Direct):
    """Vectors plus a network of learned embeddings, one a prompt token, the network the same for all (Li & Liang 2021).

    Its last layer starts at zero, so that training begins at the start here too. Only the sum is ever written.

    Args:
        start: `[P, H]` or `[L, 2, P, N, D]`.
        scale: Of the vectors' numbers; broadcasts to the start's shape.
        width: Of embeddings and middle.
        seed: Fixes embeddings and first layer.
    """

    def __init__(self, start: Tensor, scale: Tensor, width: int, seed: int) -> None:
        super().__init__(start, scale)
        num_tokens, outputs = _by_token(self.start).shape
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(num_tokens, width, generator=generator))
        self.hidden = nn.Parameter(torch.randn(width, width, generator=generator) / width**0.5)
        self.up = nn.Parameter(torch.zeros(width, outputs))

    def prompt(self) -> SoftPrompt:
        """The prompt as it is now, network included."""
        network = torch.tanh(self.embedding @ self.hidden) @ self.up
        return SoftPrompt.of(self.start + self.scale * (self.offset + _from_tokens(network, self.start.shape)))


def parameterise(spec: PromptSpec, start: Tensor, scale: Tensor, seed: int) -> Direct:
    """The parameterisation that a recipe asks for."""
    if spec.reparameterisation == "none":
        return Direct(start, scale)
    kind = Residual if spec.reparameterisation == "residual" else Network
    return kind(start, scale, spec.bottleneck, seed)


def num_trained(state: dict[str, Tensor]) -> int:
    """Numbers that the optimiser changes, a network's own among them, of a parameterisation's `state_dict()`."""
    return sum(values.numel() for name, values in state.items() if name in ("offset", *NETWORK))


def num_movable(state: dict[str, Tensor]) -> int:
    """Numbers of the prompt that training can move, of a parameterisation's `state_dict()`; the others have no scale."""
    return int((state["scale"].expand_as(state["start"]) > 0).sum())


def _by_token(values: Tensor) -> Tensor:
    """`[P, H]` as it is, `[L, 2, P, N, D]` as `[P, L * 2 * N * D]`."""
    return values if values.ndim == 2 else values.permute(2, 0, 1, 3, 4).flatten(1)


def _from_tokens(tokens: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) == 2:
        return tokens
    layers, two, num_tokens, heads, size = shape
    return tokens.reshape(num_tokens, layers, two, heads, size).permute(1, 2, 0, 3, 4)
