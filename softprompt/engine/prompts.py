"""A prompt as a torch module: the only parameters that training changes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softprompt.names import PromptKind
from softprompt.tensor_file import Float32Array


class SoftPrompt(nn.Module):
    """The learned vectors, float32 whatever the base's number format.

    Args:
        values: `[P, H]` for a shallow prompt (Lester et al. 2021), `[L, 2, P, N, D]` for a deep one (Li & Liang 2021).
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        if values.ndim not in (2, 5):
            raise ValueError(f"a prompt is [P, H] or [L, 2, P, N, D], got {list(values.shape)}")
        self.values = nn.Parameter(values.detach().float().clone())

    @classmethod
    def of(cls, values: Tensor) -> "SoftPrompt":
        """A prompt over these very values, whatever they were computed from; gradients flow on."""
        prompt = cls.__new__(cls)
        nn.Module.__init__(prompt)
        prompt.values = values  # type: ignore[assignment]  # a result, not a parameter
        return prompt

    @property
    def kind(self) -> PromptKind:
        """`shallow` or `deep`, as the number of dimensions says."""
        return "shallow" if self.values.ndim == 2 else "deep"

    @property
    def num_tokens(self) -> int:
        """Prompt tokens `P`."""
        return int(self.values.shape[self.token_axis])

    @property
    def token_axis(self) -> int:
        """The dimension of the values that counts prompt tokens."""
        return 0 if self.kind == "shallow" else 2

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """A deep prompt as one (keys, values) pair a layer, each `[1, N, P, D]`."""
        return [(layer[0].transpose(0, 1)[None], layer[1].transpose(0, 1)[None]) for layer in self.values]

    def to_array(self) -> Float32Array:
        """A copy of the vectors for a prompt file."""
        array: Float32Array = self.values.detach().cpu().numpy().copy()
        return array


def join_prompts(prompts: Sequence[SoftPrompt]) -> SoftPrompt:
    """The tokens of prompts of one kind, one prompt behind the other."""
    return SoftPrompt(torch.cat([prompt.values for prompt in prompts], dim=prompts[0].token_axis))
