"""Tiny bases with quantised weights, and the same models with the floats that torchao says these are."""

import copy
from pathlib import Path

import torch
from torch import nn
from torchao import quantize_

from softprompt.base_model import FrozenBase
from softprompt.quantised import FrozenLinear, freeze_quantised, int8_weights
from tests.families import tiny_base


def quantised(base: FrozenBase) -> FrozenBase:
    """The base with every linear layer but the head in 8 bits, as loading does it; it is changed in place."""
    head = base.model.get_output_embeddings()
    quantize_(
        base.model,
        int8_weights().quant_type,
        filter_fn=lambda layer, _: isinstance(layer, nn.Linear) and layer is not head,
    )
    freeze_quantised(base.model, Path("tiny"))
    return base


def int8_base(family: str, dtype: torch.dtype = torch.float32, **options: int) -> FrozenBase:
    """A tiny base of a family, quantised; it computes in `dtype`."""
    return quantised(tiny_base(family, dtype, **options))


def dequantised(base: FrozenBase) -> FrozenBase:
    """A copy with plain layers, whose weights are torchao's own floats for the integers."""
    model = copy.deepcopy(base.model)
    for layer in model.modules():
        if isinstance(layer, FrozenLinear):
            layer.__class__ = nn.Linear
            layer.weight = nn.Parameter(layer.weight.dequantize(), requires_grad=False)
    assert not any(isinstance(layer, FrozenLinear) for layer in model.modules())
    return FrozenBase(model, base.text, base.fingerprint)
