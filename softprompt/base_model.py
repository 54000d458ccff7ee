"""Load a frozen base model and its tokenizer from a local directory, safely.

safetensors only, no remote code, no hub. Where a URI lives and how it comes here is `softprompt.fetch`'s business.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt.errors import BaseModelUnavailable, FingerprintMismatch
from softprompt.fingerprint import fingerprint as compute_fingerprint
from softprompt.fingerprint import weight_files

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_SAFELY: Any = {"trust_remote_code": False, "local_files_only": True}

CONTEXT_OF_RELATIVE_POSITIONS_TOKENS = 512
"""Context of models with relative positions that state none (T5): what they were pretrained with."""


@dataclass(frozen=True)
class TextSide:
    """What of a base model is known without its weights: how it reads text and how much of it."""

    tokenizer: "PreTrainedTokenizerFast"
    config: Any

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether input and answer go through different stacks."""
        return bool(self.config.is_encoder_decoder)

    @property
    def end_token(self) -> int:
        """The token that ends an answer."""
        return int(self.tokenizer.eos_token_id)  # load_text_side() has checked that there is one

    @property
    def context_tokens(self) -> int:
        """Longest sequence the model is exact for: its limit, or the original length where rotary frequencies change beyond."""
        scaling = getattr(self.config, "rope_parameters", None) or getattr(self.config, "rope_scaling", None) or {}
        if isinstance(scaling, dict) and scaling.get("rope_type") in ("dynamic", "longrope"):
            key = "original_max_position_embeddings"
            if original := scaling.get(key) or getattr(self.config, key, None):
                return int(original)
        names = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
        limits = [int(getattr(self.config, name)) for name in names if getattr(self.config, name, None)]
        return limits[0] if limits else CONTEXT_OF_RELATIVE_POSITIONS_TOKENS


@dataclass(frozen=True)
class FrozenBase:
    """A frozen language model with its text side and fingerprint."""

    model: "PreTrainedModel"
    text: TextSide
    fingerprint: str

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether input and answer go through different stacks."""
        return self.text.is_encoder_decoder

    @property
    def embedding(self) -> Any:
        """The input embedding module; call it, never index its weight: some models scale inside it."""
        return self.model.get_input_embeddings()

    @property
    def hidden_size(self) -> int:
        """Width `H` of the input embeddings."""
        return int(self.embedding.weight.shape[1])

    @property
    def vocabulary_size(self) -> int:
        """Rows `V` of the embedding table."""
        return int(self.embedding.weight.shape[0])

    @cached_property
    def embedding_rms(self) -> float:
        """Root mean square of what the embedding module gives for the vocabulary."""
        total, count = 0.0, 0
        for rows in self._embedded_vocabulary():
            total, count = total + float(rows.square().sum()), count + rows.numel()
        return float((total / count) ** 0.5)

    @cached_property
    def largest_embedding_norm(self) -> float:
        """Largest norm that the embedding module gives a token."""
        return max(float(rows.norm(dim=-1).max()) for rows in self._embedded_vocabulary())

    def _embedded_vocabulary(self) -> "Iterator[torch.Tensor]":
        """What the embedding module gives for the vocabulary, `[<= 8192, H]` float32 at a time."""
        import torch

        with torch.no_grad():
            for ids in torch.arange(self.vocabulary_size, device=self.model.device).split(8192):
                yield self.embedding(ids).float()

    @cached_property
    def num_parameters(self) -> int:
        """How many numbers the base has, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load_base_model(
    directory: Path, *, dtype: str = "float32", expected_fingerprint: str = "", device: str = "cpu"
) -> FrozenBase:
    """Load and freeze the base model in a Hugging Face directory.

    Args:
        directory: Holds config.json, tokenizer files and *.safetensors.
        dtype: `float32` or `bfloat16`.
        expected_fingerprint: Refuse any other base; empty: accept what is there.
        device: torch device.

    Raises:
        BaseModelUnavailable: It is not there, is pickled, needs remote code, or does not load.
        FingerprintMismatch: It is another base than expected.
    """
    weight_files(directory)
    actual = checked_fingerprint(directory, expected_fingerprint)
    text = load_text_side(directory)
    model = _load_model(directory, text, dtype)
    model.requires_grad_(False)
    return FrozenBase(model.eval().to(device), text, actual)


def checked_fingerprint(directory: Path, expected: str = "") -> str:
    """Fingerprint of the base model in a directory.

    Raises:
        FingerprintMismatch: It is another base than expected; empty: any will do.
    """
    actual = compute_fingerprint(directory)
    if expected and actual != expected:
        raise FingerprintMismatch(
            "This is not the base model that was asked for.",
            where=str(directory),
            expected=expected,
            actual=actual,
            hint="A prompt only fits the base it was trained on; use that base, or tune the prompt again for this one.",
        )
    return actual


def load_text_side(directory: Path) -> TextSide:
    """Load tokenizer and config only, for work that needs no weights.

    Raises:
        BaseModelUnavailable: They are not there, do not load, or name no end token.
    """
    from transformers import AutoConfig, AutoTokenizer

    with _loading(directory):
        config = AutoConfig.from_pretrained(directory, **_SAFELY)
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, **_SAFELY)
    if tokenizer.eos_token_id is None:
        raise BaseModelUnavailable("The base model's tokenizer has no end token.", where=str(directory), expected="eos_token")
    return TextSide(tokenizer, config)


def parameter_digest(model: "torch.nn.Module") -> str:
    """sha256 over every parameter and buffer in memory, to show that training changed not one bit of the base."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_model(directory: Path, text: TextSide, dtype: str) -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    kind: Any = AutoModelForSeq2SeqLM if text.is_encoder_decoder else AutoModelForCausalLM
    with _loading(directory):
        model: PreTrainedModel = kind.from_pretrained(
            directory, config=text.config, dtype=getattr(torch, dtype), use_safetensors=True, **_SAFELY
        )
    return model


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BaseModelUnavailable(
            "The base model does not load.",
            where=str(directory),
            actual=str(error).strip().splitlines()[0],
            hint="It must load with AutoModelForCausalLM or AutoModelForSeq2SeqLM, trust_remote_code=False.",
        ) from None
