"""Load a frozen base model and its tokenizer from a local directory, safely.

safetensors only, no remote code, no hub. Where a URI lives and how it comes here is `softprompt.fetch`'s business.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt.errors import BaseModelUnavailable, FingerprintMismatch
from softprompt.fingerprint import fingerprint as compute_fingerprint
from softprompt.fingerprint import weight_files
from softprompt.numerics import FORMATS, UNQUANTISED, Numerics

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
    directory: Path, *, dtype: Numerics = "float32", expected_fingerprint: str = "", device: str = "cpu"
) -> FrozenBase:
    """Load and freeze the base model in a Hugging Face directory.

    Args:
        directory: Holds config.json, tokenizer files and *.safetensors.
        dtype: Number formats that it is loaded and computed in. The fingerprint is that of the stored files whatever they are.
        expected_fingerprint: Refuse any other base; empty: accept what is there.
        device: torch device.

    Raises:
        BaseModelUnavailable: It is not there, is pickled, needs remote code, or does not load, or a package is missing.
        FingerprintMismatch: It is another base than expected.
        UnsupportedBaseModel: It cannot be quantised.
    """
    require_packages(dtype)
    weight_files(directory)
    actual = checked_fingerprint(directory, expected_fingerprint)
    text = load_text_side(directory)
    model = _load_model(directory, text, dtype)
    model.requires_grad_(False)
    return FrozenBase(model.eval().to(device), text, actual)


def require_packages(dtype: Numerics) -> None:
    """Refuse, with BaseModelUnavailable, number formats that need a package which is not installed."""
    if FORMATS[dtype].quantised and find_spec("torchao") is None:
        raise BaseModelUnavailable(
            "Quantised weights need the package torchao, which is not installed.",
            where="base_model.dtype (or --dtype)",
            actual=dtype,
            expected=" or ".join(UNQUANTISED),
            hint="pip install 'softprompt[quantised]', or take one of the others.",
        )


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
        BaseModelUnavailable: They are not there, do not load, name no end token, or belong to weights that are quantised already.
    """
    with _loading(directory):
        from transformers import AutoConfig, AutoTokenizer

        config = AutoConfig.from_pretrained(directory, **_SAFELY)
        tokenizer: Any = AutoTokenizer.from_pretrained(directory, **_SAFELY)
    if tokenizer.eos_token_id is None:
        raise BaseModelUnavailable("The base model's tokenizer has no end token.", where=str(directory), expected="eos_token")
    if stored := getattr(config, "quantization_config", None):
        method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
        raise BaseModelUnavailable(
            "The base model's files are quantised already.",
            where=str(directory / "config.json"),
            expected="weights as they were trained",
            actual=f"quantization_config: {method}",
            hint="Name the checkpoint that this one was made of, and set base_model.dtype (or --dtype) to int8.",
        )
    return TextSide(tokenizer, config)


def visible_device() -> str:
    """The first CUDA device that this process sees, else the processor; an empty `CUDA_VISIBLE_DEVICES` hides them all."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def parameter_digest(model: "torch.nn.Module") -> str:
    """sha256 over every parameter and buffer in memory, to show that training changed not one bit of the base."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(plain_tensors(model.state_dict().items())):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def plain_tensors(named: "Iterable[tuple[str, torch.Tensor]]") -> "Iterator[tuple[str, torch.Tensor]]":
    """The tensors that hold the numbers: of a quantised one its integers and its factors, each by a name of its own."""
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    for name, tensor in named:
        if is_traceable_wrapper_subclass(tensor):
            parts, _ = tensor.__tensor_flatten__()
            yield from plain_tensors((f"{name}.{part}", getattr(tensor, part)) for part in parts)
        else:
            yield name, tensor


def _load_model(directory: Path, text: TextSide, dtype: Numerics) -> "PreTrainedModel":
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    wanted = FORMATS[dtype]
    with _loading(directory):
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

        from softprompt.quantised import freeze_quantised, int8_weights

        kind: Any = AutoModelForSeq2SeqLM if text.is_encoder_decoder else AutoModelForCausalLM
        quantised = {"quantization_config": int8_weights()} if wanted.quantised else {}
        model: PreTrainedModel = kind.from_pretrained(
            directory, config=text.config, dtype=getattr(torch, wanted.compute), use_safetensors=True, **quantised, **_SAFELY
        )
    if wanted.quantised:
        freeze_quantised(model, directory)
    return model


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    try:
        with _without_torchao_notes():
            yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BaseModelUnavailable(
            "The base model does not load.",
            where=str(directory),
            actual=str(error).strip().splitlines()[0],
            hint="It must load with AutoModelForCausalLM or AutoModelForSeq2SeqLM, trust_remote_code=False.",
        ) from None


@contextmanager
def _without_torchao_notes() -> Iterator[None]:
    """Where torchao is installed transformers imports it, and it says that its CUDA libraries do not load, CUDA or not."""
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
