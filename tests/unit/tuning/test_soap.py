"""The optimiser of deep prompts: torch's Adam in each head's own basis, whatever basis the head is written in."""

import pytest
import torch

from softprompt.tuning.soap import REFRESH_EVERY_STEPS, Soap
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


def soap(parameter, weight_decay=0.0):
    return Soap([{"params": [parameter], "name": "offset"}], betas=BETAS, weight_decay=weight_decay)


def in_head_bases(gradient, bases):
    """Each head's vectors in another orthonormal basis, `[L, 2, N, D, D]`."""
    return torch.einsum("lkpnd,lknde->lkpne", gradient, bases)


def test_behind_a_basis_that_is_known_it_is_torchs_adam():
    """Before the first refresh the basis is that of the first gradient alone, which numpy finds as well."""
    given = gradients(REFRESH_EVERY_STEPS - 1)
    heads = given[0].transpose(2, 3).double()
    bases = torch.linalg.svd(heads, full_matrices=True).Vh.mT.float()  # right singular vectors = eigenvectors of G^T G
    ours = torch.nn.Parameter(torch.zeros(L, 2, P, N, D))
    turned = torch.nn.Parameter(torch.zeros(L, 2, P, N, D))
    adam = torch.optim.Adam([turned], betas=BETAS)
    expected = in_head_bases(descend(adam, turned, [in_head_bases(gradient, bases) for gradient in given]), bases.mT)
    end = descend(soap(ours), ours, given)
    assert (end - expected).norm() < 0.05 * expected.norm()  # what its larger epsilon leaves
    plain = torch.nn.Parameter(torch.zeros(L, 2, P, N, D))
    assert (descend(torch.optim.Adam([plain], betas=BETAS), plain, given) - expected).norm() > 0.2 * expected.norm()


def test_a_head_may_be_written_in_any_basis():
    """Adam itself depends on it, so the test can tell."""
    given = gradients(25)
    bases = torch.linalg.qr(torch.randn(L, 2, N, D, D, generator=torch.Generator().manual_seed(1))).Q
    ends = {}
    for name, build in (("soap", soap), ("adam", lambda parameter: torch.optim.Adam([parameter], betas=BETAS))):
        plain, turned = (torch.nn.Parameter(torch.zeros(L, 2, P, N, D)) for _ in range(2))
        end = descend(build(plain), plain, given)
        there_and_back = in_head_bases(descend(build(turned), turned, [in_head_bases(g, bases) for g in given]), bases.mT)
        ends[name] = (end - there_and_back).norm() / end.norm()
    assert ends["soap"] < 1e-3
    assert ends["adam"] > 0.1


def test_a_parameter_of_another_shape_is_trained_by_adam():
    given = gradients(12, (5, D))
    ours, stock = (torch.nn.Parameter(torch.ones(5, D)) for _ in range(2))
    expected = descend(torch.optim.AdamW([stock], betas=BETAS, weight_decay=0.1), stock, given)
    assert torch.allclose(descend(soap(ours, weight_decay=0.1), ours, given), expected, atol=1e-6)


def test_what_it_keeps_beside_adam_is_counted():
    parameter = torch.nn.Parameter(torch.zeros(L, 2, P, N, D))
    optimiser = soap(parameter)
    descend(optimiser, parameter, gradients(1))
    state = optimiser.state[parameter]
    assert state["covariance"].numel() + state["basis"].numel() == basis_numbers(parameter.shape)
    assert basis_numbers((P, D)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_badly_scaled_valley_is_crossed_sooner_than_by_adam(seed):
    """Keys of one head that matter through a product with skewed queries: a quadratic whose axes are not the coordinates'."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    bend = turn @ torch.diag(torch.logspace(0, 3, 8)) @ turn.mT
    goal = torch.randn(1, 2, 6, 1, 8, generator=generator)
    left = {}
    for name, build in (("soap", soap), ("adam", lambda parameter: torch.optim.Adam([parameter], betas=BETAS))):
        parameter = torch.nn.Parameter(torch.zeros_like(goal))
        optimiser = build(parameter)
        for step in range(200):
            optimiser.zero_grad()
            away = parameter - goal
            loss = (away @ bend * away).sum()
            loss.backward()
            for group in optimiser.param_groups:
                group["lr"] = 0.1 * (1 - step / 200)
            optimiser.step()
        left[name] = loss.item()
    assert left["soap"] < 0.5 * left["adam"]
