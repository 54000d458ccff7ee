"""The base that a training and an evaluation load is the one that the recipe was resolved to."""

import pytest
import torch

from softprompt.errors import FingerprintMismatch
from softprompt.tuning.initialisers import trained_numbers
from softprompt.tuning.job import Job, load_resolved_base


def test_it_comes_in_its_number_format_to_its_device(resolved):
    recipe = resolved.recipe.model_copy(
        update={"base_model": resolved.recipe.base_model.model_copy(update={"dtype": "bfloat16"})}
    )
    base = load_resolved_base(resolved.model_copy(update={"recipe": recipe}), "cpu")
    assert (base.model.dtype, base.model.device.type) == (torch.bfloat16, "cpu")
    assert base.fingerprint == resolved.base.fingerprint


def test_any_other_is_refused(resolved):
    other = resolved.base.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(FingerprintMismatch):
        load_resolved_base(resolved.model_copy(update={"base": other}), "cpu")


def test_a_keys_rate_is_relative_to_the_numbers_of_it_that_are_trained(resolved, dataset):
    job = Job.load(resolved, dataset)
    start = torch.randn(2, 2, 30, 2, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 5.0]).view(2, 1, 1, 1, 1)
    trained, scale = trained_numbers(job.base, job.train), job.scale_of(start)
    assert scale.shape == (2, 2, 1, 1, 8)
    for layer in range(2):
        kept = trained[layer, 0, 0, 0]
        expected = start[layer, 0][..., kept].square().mean().sqrt()
        torch.testing.assert_close(scale[layer, 0, 0, 0], expected * kept)
        torch.testing.assert_close(scale[layer, 1, 0, 0], 3 * start[layer, 1].square().mean().sqrt().expand(8))
