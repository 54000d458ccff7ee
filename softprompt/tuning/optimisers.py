"""The optimisers a recipe can name, and their state as plain tensors for a checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn

from softprompt.recipe.training import TrainingSpec
from softprompt.tuning.parameterisation import NETWORK
from softprompt.tuning.soap import Soap

NETWORK_LEARNING_RATE = 0.01
"""Of a network's weights, as a share of the vectors' rate."""
ADAM_BETAS = (0.5, 0.95)
"""Of gradient and squared gradient. With the usual 0.9 a deep prompt swings at rates that 0.5 bears (docs/tuning-log.md)."""
WHITENED_BETAS = (0.9, 0.95)
"""The same where keys are whitened; steps are even enough to bear it."""


def build_optimiser(training: TrainingSpec, module: nn.Module) -> torch.optim.Optimizer:
    """An optimiser over a parameterisation, one group a parameter.

    Args:
        training: Names the optimiser and its weight decay.
        module: Whose parameters are trained.
    """
    groups = named_groups(module)
    if training.optimiser == "soap":
        return Soap(groups, betas=ADAM_BETAS, weight_decay=training.weight_decay)
    if training.optimiser == "soap_whitened":
        return Soap(groups, betas=WHITENED_BETAS, weight_decay=training.weight_decay, whiten_keys=True)
    if training.optimiser == "adamw":
        return torch.optim.AdamW(groups, betas=ADAM_BETAS, weight_decay=training.weight_decay)
    from transformers.optimization import Adafactor

    # As in Lester et al. 2021: a given rate, no scaling by the parameter.
    return Adafactor(
        groups, lr=1.0, scale_parameter=False, relative_step=False, warmup_init=False, weight_decay=training.weight_decay
    )


def named_groups(module: nn.Module) -> list[dict[str, Any]]:
    """One group a parameter, under its name, by which its state is saved."""
    return [{"params": [parameter], "name": name} for name, parameter in module.named_parameters()]


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's rate for one step; a network's own is smaller (`NETWORK_LEARNING_RATE`)."""
    for group in optimiser.param_groups:
        group["lr"] = rate * NETWORK_LEARNING_RATE if group["name"] in NETWORK else rate


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as `{parameter}.{slot}` -> a copy on the CPU; numbers become scalar tensors."""
    found: dict[str, Tensor] = {}
    for group in optimiser.param_groups:
        for slot, value in optimiser.state[group["params"][0]].items():
            if isinstance(value, int | float | Tensor):
                found[f"{group['name']}.{slot}"] = torch.as_tensor(value).detach().cpu().clone()
    return found


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put saved state back; a fresh optimiser has none."""
    for name, value in tensors.items():
        parameter_name, slot = name.rsplit(".", 1)
        group = next(group for group in optimiser.param_groups if group["name"] == parameter_name)
        parameter = group["params"][0]
        # AdamW keeps its step on the CPU as a tensor, the others as a number.
        plain = slot in ("step", "RMS") and not isinstance(optimiser, torch.optim.AdamW)
        optimiser.state[parameter][slot] = (
            value.item() if plain else value.to("cpu" if slot == "step" else parameter.device).clone()
        )
