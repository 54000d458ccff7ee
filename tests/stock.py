"""The independent truth: stock PEFT over a copy of a base, with full logits and nothing of ours."""

import copy

import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

from softprompt.base_model import FrozenBase


class Stock:
    """A base behind a prompt of either kind, or the bare base.

    Args:
        base: Its model is copied.
        values: `[P, H]`, `[L, 2, P, N, D]`, or None.
        as_it_is: In the base's own number format; else in float64.
    """

    def __init__(self, base: FrozenBase, values: torch.Tensor | None, *, as_it_is: bool = False) -> None:
        self.start = [base.model.config.decoder_start_token_id] if base.is_encoder_decoder else []
        self.model = copy.deepcopy(base.model) if as_it_is else copy.deepcopy(base.model).double()
        self.weight, self.shape = None, None if values is None else values.shape
        if values is not None:
            task = "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM"
            self.model = get_peft_model(self.model, peft_config(values, task)).eval()
            self.weight = self.model.prompt_encoder["default"].embedding.weight
            self.weight.data = fold(values).to(self.model.dtype)

    def answer_logits(self, input_ids: list[int], answer: list[int]) -> torch.Tensor:
        """`[answer + 1, V]`: what the model says after the input and 0, 1, ... tokens of the answer."""
        text = torch.tensor([input_ids if self.start else input_ids + answer])
        inputs = {"input_ids": text, "attention_mask": torch.ones_like(text)}
        if self.start:
            inputs["decoder_input_ids"] = torch.tensor([self.start + answer])
        return self.model(**inputs).logits[0, -len(answer) - 1 :]

    @property
    def gradient(self) -> torch.Tensor:
        """The prompt's, in the shape it was given."""
        grad = self.weight.grad
        if len(self.shape) == 2:
            return grad
        layers, two, tokens, heads, size = self.shape
        return grad.reshape(tokens, layers, two, heads, size).permute(1, 2, 0, 3, 4)


def peft_config(values: torch.Tensor, task: str) -> PromptTuningConfig | PrefixTuningConfig:
    """What PEFT has to know of a prompt."""
    if values.ndim == 2:
        return PromptTuningConfig(task_type=task, num_virtual_tokens=len(values), num_transformer_submodules=1)
    layers, _, tokens, heads, size = values.shape
    return PrefixTuningConfig(
        task_type=task,
        num_virtual_tokens=tokens,
        num_layers=layers,
        num_attention_heads=heads,
        token_dim=heads * size,
        num_transformer_submodules=2 if task == "SEQ_2_SEQ_LM" else 1,
    )


def fold(values: torch.Tensor) -> torch.Tensor:
    """PEFT's matrix of a prompt's values."""
    return values.clone() if values.ndim == 2 else values.permute(2, 0, 1, 3, 4).flatten(1)


def random_prompt(base: FrozenBase, kind: str, num_tokens: int = 5, seed: int = 1) -> torch.Tensor:
    """Values of a random prompt that changes answers."""
    from softprompt.engine.real_tokens import token_values

    shape = list(token_values(base, [0], kind).shape)
    shape[0 if kind == "shallow" else 2] = num_tokens
    scale = 0.5 if kind == "shallow" else 1.0
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
