"""The counted training state is what torch's own Adam holds."""

import pytest
import torch

from softprompt.engine.prompts import SoftPrompt
from softprompt.recipe.prompt import PromptSpec
from softprompt.tuning.parameterisation import num_trained, parameterise
from softprompt.tuning.training_memory import share_of_full_fine_tuning, training_state_bytes
from tests.families import tiny_base


def held_bytes(parameters: list[torch.nn.Parameter]) -> int:
    """Gradients and moments after one real step."""
    optimiser = torch.optim.Adam(parameters)
    torch.stack([part.square().sum() for part in parameters]).sum().backward()
    optimiser.step()
    moments = [optimiser.state[part][name] for part in parameters for name in ("exp_avg", "exp_avg_sq")]
    return sum(part.grad.nbytes for part in parameters) + sum(moment.nbytes for moment in moments)


@pytest.mark.parametrize("family", ["llama", "llama-tied"])
def test_the_share_is_that_of_real_optimisers(family):
    base = tiny_base(family)
    prompt = SoftPrompt(torch.ones(4, base.hidden_size))
    held = held_bytes([prompt.values])
    assert held == training_state_bytes(prompt.values.numel())
    full = held_bytes(list(base.model.requires_grad_(True).parameters()))
    assert share_of_full_fine_tuning(prompt.values.numel(), base.num_parameters) == pytest.approx(held / full)


def test_a_network_counts_too():
    module = parameterise(PromptSpec(reparameterisation="mlp", bottleneck=8), torch.zeros(4, 16), torch.ones(()), 0)
    everything = [*module.parameters()]
    held = sum(12 * parameter.numel() for parameter in everything)
    assert training_state_bytes(num_trained(module.state_dict())) == held > training_state_bytes(4 * 16)


def test_half_the_bytes_of_a_gradient_raise_the_share():
    assert share_of_full_fine_tuning(100, 100_000, base_bytes=2) == pytest.approx(0.001 * 12 / 10)


def test_a_base_without_parameters_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        share_of_full_fine_tuning(100, 0)
