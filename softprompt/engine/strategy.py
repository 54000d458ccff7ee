"""What a forward strategy is, and which one a base model gets.

All strategies give the same hidden states and gradients; they differ in what they compute twice.
"""

from typing import Any, Protocol

from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.batches import Batch
from softprompt.engine.prompts import SoftPrompt
from softprompt.errors import UnsupportedBaseModel
from softprompt.names import PromptKind


class Prefix(Protocol):
    """What a strategy makes of a prompt before it sees any text; a training step makes it once for all its rows."""

    @property
    def num_tokens(self) -> int:
        """Prompt tokens `P`; 0 for the bare base."""

    @property
    def num_bytes(self) -> int:
        """Memory it holds."""

    @property
    def tensors(self) -> list[Tensor]:
        """What gradients flow back through, in a fixed order."""

    def with_tensors(self, tensors: list[Tensor]) -> "Prefix":
        """The same with other tensors in their places."""


class State(Protocol):
    """Rows in the middle of an answer: everything that determines what comes next."""

    def extend(self, token_ids: Tensor) -> Tensor:
        """Feed answer tokens `[B, A]`; returns their hidden states `[B, A, H]` and moves on."""

    def repeat(self, times: int) -> "State":
        """Each row `times` times, side by side; this state stays as it is."""

    def keep(self, rows: Tensor) -> "State":
        """The rows of these indices `[b]`; this state stays as it is."""


class Strategy(Protocol):
    """One way to run a frozen base behind a prompt."""

    base: FrozenBase
    name: str

    @property
    def pads(self) -> bool:
        """Whether rows of different lengths can be read together, padded on the right, each as if it were alone."""

    def prefix(self, prompt: SoftPrompt | None) -> Prefix:
        """Prepare a prompt, gradients attached; None: the bare base."""

    # A prefix can be read by the strategy that made it and by nobody else, so these take Any.
    def hidden(self, prefix: Any, batch: Batch) -> Tensor:
        """Hidden states of the scored positions of a batch, `[M, H]`, gradients attached."""

    def start(self, prefix: Any, input_ids: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Read input texts: the hidden state `[B, H]` that predicts the first answer token, and the rows' state.

        Args:
            prefix: A prompt as this strategy prepared it.
            input_ids: `[B, T]`.
            lengths: `[B]`, tokens of each row, whose rest is padding; None: rows are of equal length. Only where it `pads`.
        """


def choose_strategy(base: FrozenBase, kind: PromptKind | None, *, activation_checkpointing: bool = False) -> Strategy:
    """The fastest strategy that is exact for this base and kind of prompt.

    Args:
        base: The base model.
        kind: Kind of prompt; None: the bare base.
        activation_checkpointing: Training computes activations twice instead of keeping them.

    Raises:
        UnsupportedBaseModel: None is, or not with activation checkpointing.
    """
    from softprompt.engine.concatenate import Concatenate
    from softprompt.engine.decoder_prefix import DecoderPrefix
    from softprompt.engine.packed import Packed, can_compile
    from softprompt.engine.shared_prefix import SharedPrefix

    if base.model.device.type == "cuda" and Packed.refusal(base) is None and can_compile():
        return Packed(base, activation_checkpointing=activation_checkpointing)
    refusal = DecoderPrefix.refusal(base) if base.is_encoder_decoder else SharedPrefix.refusal(base)
    if not base.is_encoder_decoder and refusal is None:
        return SharedPrefix(base, activation_checkpointing=activation_checkpointing)
    if activation_checkpointing:
        raise UnsupportedBaseModel(
            f"Activation checkpointing is not supported on {base.model.config.model_type}.",
            expected="a causal model with a key-value cache",
            actual="an encoder-decoder model" if base.is_encoder_decoder else refusal or "",
            hint="Set training.activation_checkpointing: false.",
        )
    if base.is_encoder_decoder and refusal is None and kind != "shallow":
        return DecoderPrefix(base)
    if kind == "deep":
        raise UnsupportedBaseModel(
            f"A deep prompt is not supported on {base.model.config.model_type}.",
            expected="a model with a key-value cache for each layer",
            actual=refusal or "",
            hint="Use prompt.kind: shallow.",
        )
    return Concatenate(base)


def check_length(base: FrozenBase, num_prompt_tokens: int, num_text_tokens: int) -> None:
    """Refuse a sequence beyond the context for which the base is exact.

    Raises:
        UnsupportedBaseModel: Prompt and text together are too long.
    """
    total = num_prompt_tokens + num_text_tokens
    if total > base.text.context_tokens:
        raise UnsupportedBaseModel(
            "Prompt and text are longer than the base model's context.",
            expected=f"<= {base.text.context_tokens} tokens",
            actual=f"{num_prompt_tokens} prompt tokens + {num_text_tokens} text tokens = {total}",
            hint="Shorten the text or lower prompt.num_tokens.",
        )
