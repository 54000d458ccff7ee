"""The optimiser of deep prompts: torch's Adam in each head's own basis, whatever basis the head is written in."""

from typing import get_args

import pytest
import torch

from softprompt.recipe.training import Optimiser, TrainingSpec
from softprompt.tuning.optimisers import build_optimiser
from softprompt.tuning.soap import (
    KEYS_SHARE,
    LEAST_VARIANCE,
    REFRESH_EVERY_STEPS,
    REMEMBERED_A_DIMENSION,
    TOKENS_A_DIMENSION,
    Soap,
)
from softprompt.tuning.training_memory import basis_numbers

L, P, N, D = 2, 5, 2, 4
BETAS = (0.5, 0.95)


def gradients(steps, shape=(L, 2, P, N, D), seed=0):
    generator = torch.Generator().manual_seed(seed)
    stretch = torch.logspace(0, 0.7, shape[-1])
    return [torch.randn(shape, generator=generator) * stretch for _ in range(steps)]


def descend(optimiser, parameter, given, rate=0.1):
    for gradient in given:
        parameter.grad = gradient.clone()
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    return parameter.detach()


def soap(parameter, weight_decay=0.0, *, whiten_keys=False):
    groups = [{"params": [parameter], "name": "offset"}]
    return Soap(groups, betas=BETAS, weight_decay=weight_decay, whiten_keys=whiten_keys)


def whitened(parameter):
    return soap(parameter, whiten_keys=True)


def in_head_bases(gradient, bases):
    """Each head's vectors in another orthonormal basis, `[L, 2, N, D, D]`."""
    return torch.einsum("lkpnd,lknde->lkpne", gradient, bases)


def test_it_is_torchs_adam_until_a_heads_basis_is_known():
    given = gradients(REFRESH_EVERY_STEPS)
    ours, stock = (torch.nn.Parameter(torch.zeros(L, 2, P, N, D)) for _ in range(2))
    optimiser, adam = soap(ours), torch.optim.Adam([stock], betas=BETAS)
    assert torch.allclose(descend(optimiser, ours, given[:-1]), descend(adam, stock, given[:-1]), atol=1e-5)
    assert not torch.allclose(descend(optimiser, ours, given[-1:]), descend(adam, stock, given[-1:]), atol=1e-2)


def test_a_basis_of_too_few_tokens_is_not_taken():
    parameter = torch.nn.Parameter(torch.zeros(L, 2, 1, N, D))
    optimiser = soap(parameter)
    given = gradients(2 * REFRESH_EVERY_STEPS, (L, 2, 1, N, D))
    descend(optimiser, parameter, given[: TOKENS_A_DIMENSION * D - 1])
    assert torch.equal(optimiser.state[parameter]["basis"], torch.eye(D).expand(L, 2, N, D, D))
    descend(optimiser, parameter, given[TOKENS_A_DIMENSION * D - 1 :])
    assert not torch.equal(optimiser.state[parameter]["basis"], torch.eye(D).expand(L, 2, N, D, D))


def test_a_head_may_be_written_in_any_basis():
    """Once the moments are those of the turned basis; Adam itself depends on it, so the test can tell."""
    before, given = gradients(200), gradients(25, seed=1)
    bases = torch.linalg.qr(torch.randn(L, 2, N, D, D, generator=torch.Generator().manual_seed(1))).Q
    ends = {}
    for name, build in (("soap", soap), ("adam", lambda parameter: torch.optim.Adam([parameter], betas=BETAS))):
        plain, turned = (torch.nn.Parameter(torch.zeros(L, 2, P, N, D)) for _ in range(2))
        one, other = build(plain), build(turned)
        descend(one, plain, before, rate=0.0)
        descend(other, turned, [in_head_bases(gradient, bases) for gradient in before], rate=0.0)
        end = descend(one, plain, given)
        there_and_back = in_head_bases(descend(other, turned, [in_head_bases(g, bases) for g in given]), bases.mT)
        ends[name] = (end - there_and_back).norm() / end.norm()
    assert ends["soap"] < 0.02
    assert ends["adam"] > 0.1


def test_a_key_moves_less_along_a_direction_the_more_gradients_vary_there_and_a_value_alike_along_all():
    """In axes that gradients vary along independently, the steps that the covariance itself, known here, asks for."""
    parameter = torch.nn.Parameter(torch.zeros(L, 2, 64, N, D))
    optimiser, given = whitened(parameter), gradients(120, (L, 2, 64, N, D))
    moved = []
    for gradient in given:
        before = parameter.detach().clone()
        moved.append(descend(optimiser, parameter, [gradient], rate=1.0) - before)
    keys, values = (torch.stack(moved[40:])[:, :, kind].square().mean(dim=(0, 1, 2, 3)).sqrt() for kind in (0, 1))
    variance = torch.logspace(0, 1.4, D)
    expected = KEYS_SHARE / (variance / variance.mean() + LEAST_VARIANCE).sqrt()
    assert torch.allclose(keys / values, expected, rtol=0.1), (keys / values, expected)
    assert torch.allclose(values / values.mean(), torch.ones(D), atol=0.1), values


def test_directions_of_which_nothing_is_known_get_no_boundless_step():
    parameter = torch.nn.Parameter(torch.zeros(L, 2, 64, N, D))
    flat = [gradient * torch.tensor([1.0, 1.0, 1.0, 0.0]) for gradient in gradients(30, (L, 2, 64, N, D))]
    optimiser = whitened(parameter)
    descend(optimiser, parameter, flat)
    most = KEYS_SHARE / LEAST_VARIANCE**0.5
    assert optimiser.state[parameter]["gain"][:, 0].amax() == pytest.approx(most)
    assert (optimiser.state[parameter]["gain"][:, 1] == 1).all()


def test_what_a_batch_disagrees_with_stays_and_the_rest_moves_further_by_as_much():
    """As in Liang et al. 2024, before a basis is known: a quarter of the numbers is about to turn."""
    before = [torch.ones(L, 2, 8, N, D)] * 5
    turning = torch.ones(L, 2, 8, N, D)
    turning[:, :, :2] = -0.01
    steps = {}
    for name, build in (("cautious", whitened), ("plain", soap)):
        parameter = torch.nn.Parameter(torch.zeros(L, 2, 8, N, D))
        optimiser = build(parameter)
        there = descend(optimiser, parameter, before).clone()
        steps[name] = descend(optimiser, parameter, [turning]) - there
    assert (steps["plain"] < 0).all(), "the mean gradient has not turned yet"
    assert (steps["cautious"][:, :, :2] == 0).all()
    assert torch.allclose(steps["cautious"][:, :, 2:], steps["plain"][:, :, 2:] / 0.75)


def test_where_nothing_agrees_nothing_moves():
    parameter = torch.nn.Parameter(torch.zeros(L, 2, P, N, D))
    optimiser = whitened(parameter)
    there = descend(optimiser, parameter, [torch.ones(L, 2, P, N, D)] * 5).clone()
    assert torch.equal(descend(optimiser, parameter, [-0.01 * torch.ones(L, 2, P, N, D)]), there)


@pytest.mark.parametrize(("num_tokens", "share"), [(1, 1 / (REMEMBERED_A_DIMENSION * D)), (64, 1 - BETAS[1])])
def test_of_few_prompt_tokens_more_steps_are_remembered(num_tokens, share):
    parameter = torch.nn.Parameter(torch.zeros(L, 2, num_tokens, N, D))
    (gradient,) = given = gradients(1, (L, 2, num_tokens, N, D))
    optimiser = whitened(parameter)
    descend(optimiser, parameter, given)
    assert torch.allclose(
        optimiser.state[parameter]["covariance"], share * torch.einsum("lkpnd,lkpne->lknde", gradient, gradient)
    )


def test_a_parameter_of_another_shape_is_trained_by_adam():
    given = gradients(12, (5, D))
    ours, stock = (torch.nn.Parameter(torch.ones(5, D)) for _ in range(2))
    expected = descend(torch.optim.AdamW([stock], betas=BETAS, weight_decay=0.1), stock, given)
    assert torch.allclose(descend(soap(ours, weight_decay=0.1), ours, given), expected, atol=1e-6)


@pytest.mark.parametrize("name", get_args(Optimiser))
def test_what_it_keeps_beside_adam_is_counted(name):
    parameter = torch.nn.Parameter(torch.zeros(L, 2, P, N, D))
    optimiser = build_optimiser(TrainingSpec(optimiser=name), torch.nn.ParameterDict({"offset": parameter}))
    descend(optimiser, parameter, gradients(1))
    state = optimiser.state[parameter]
    kept = [state[slot] for slot in ("covariance", "basis", "gain") if slot in state]
    assert sum(numbers.numel() for numbers in kept) == basis_numbers(parameter.shape, name)
    assert len(kept) == {"soap": 2, "soap_whitened": 3}.get(name, 0)
    assert basis_numbers((P, D), name) == 0
