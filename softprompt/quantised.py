"""Linear layers whose weights are 8-bit integers, by torchao: quantised while the files are read, never stored.

A frozen weight needs no gradient, but what passes through it does. torchao's own product keeps, for the backward pass, each
weight as the floats it was computed with, so that training over a quantised base would hold more than over one that is not.
`FrozenLinear` keeps the integers and makes floats of them again, as QLoRA does (Dettmers et al. 2023): the same product, turned.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TorchAoConfig

from softprompt.errors import UnsupportedBaseModel

LEAST_QUANTISED_SHARE = 0.9
"""Of the numbers outside embeddings and head; the rest are norms and biases. Below that a base has layers of another kind, as
GPT-2's `Conv1D`, and `int8` would say what is not so."""


def int8_weights() -> TorchAoConfig:
    """What transformers is told to quantise every linear layer but the output head while it reads the weights."""
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig(set_inductor_config=False))  # it would change settings of the whole process


class FrozenLinear(nn.Linear):
    """A linear layer with a quantised weight that never changes."""

    def forward(self, inputs: Tensor) -> Tensor:
        """`[..., in]` to `[..., out]`."""
        if inputs.requires_grad:
            outputs: Tensor = _FrozenProduct.apply(inputs, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return outputs
        return nn.functional.linear(inputs, self.weight, self.bias)


class _FrozenProduct(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        return nn.functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,), (gradient,) = context.saved_tensors, gradients
        factors = weight.scale.flatten().to(gradient.dtype)
        return (gradient * factors) @ weight.qdata.to(gradient.dtype), None, None


def freeze_quantised(model: PreTrainedModel, directory: Path) -> None:
    """Let the quantised layers of a base keep their integers in training, and let its files go, in place.

    Raises:
        UnsupportedBaseModel: Most of its numbers are in layers that cannot be quantised.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and is_quantised(layer)]
    for layer in layers:
        layer.__class__ = FrozenLinear
    ends = [*(part for part in model.modules() if isinstance(part, nn.Embedding)), model.get_output_embeddings()]
    outside = {id(part.weight) for part in ends}
    inside = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in outside)
    quantised: int = sum(layer.weight.numel() for layer in layers)
    if quantised < LEAST_QUANTISED_SHARE * inside:
        raise UnsupportedBaseModel(
            f"A base of the type {model.config.model_type} cannot be quantised: its layers are not torch's linear layers.",
            where=str(directory),
            expected=f"at least {LEAST_QUANTISED_SHARE:.0%} of the numbers outside embeddings and head in linear layers",
            actual=f"{quantised / max(1, inside):.0%}",
            hint="Set base_model.dtype (or --dtype) to bfloat16.",
        )
    integers = {id(layer.weight) for layer in layers}
    for parameter in model.parameters():
        if id(parameter) not in integers:
            parameter.data = parameter.data.clone()  # one that lies in a mapped file keeps the whole file in memory


def is_quantised(layer: nn.Linear) -> bool:
    """Whether its weight is held as integers."""
    from torchao.quantization import Int8Tensor

    return isinstance(layer.weight, Int8Tensor)
