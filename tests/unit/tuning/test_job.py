"""The base that a training and an evaluation load is the one that the recipe was resolved to."""

import pytest
import torch

from softprompt.errors import FingerprintMismatch
from softprompt.tuning.job import load_resolved_base


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
