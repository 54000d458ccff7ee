"""Read a prompt that stock PEFT saved, as strictly as our own: what it says and what it holds must fit the base.

`PROMPT_TUNING` (Lester et al. 2021) gives `[P, H]`, `PREFIX_TUNING` without projection (Li & Liang 2021) `[L, 2, P, N, D]`. The
way back needs nothing: a prompt file is a PEFT checkpoint (`softprompt.artifact`). PEFT records no fingerprint, so the shape is
all that shows whether a prompt belongs to a base; the caller says whose base it is. No torch, no pickle.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from softprompt.artifact import MAX_TENSOR_BYTES, PEFT_CONFIG_FILE, TENSOR_FILE, TENSOR_NAME, Float32Array, read_capped
from softprompt.documents import canonical_json, parse_json
from softprompt.errors import FingerprintMismatch, VerificationFailed

PICKLE_FILE = "adapter_model.bin"
MAX_CONFIG_BYTES = 1024 * 1024
KNOWN_TYPES = ("PROMPT_TUNING", "PREFIX_TUNING")
SUBMODULES = {True: 2, False: 1}
"""PEFT's `num_transformer_submodules`, by whether the base is an encoder-decoder model."""


@dataclass(frozen=True)
class BaseShape:
    """What of a base model decides whether a prompt can belong to it.

    Attributes:
        hidden_size: Width `H` of the input embeddings.
        num_layers: Layers that a deep prompt enters, of an encoder-decoder model those of the decoder; 0: it takes none.
        num_kv_heads: Key-value heads `N` of each.
        head_size: Their size `D`.
        is_encoder_decoder: Whether it is one.
    """

    hidden_size: int
    num_layers: int
    num_kv_heads: int
    head_size: int
    is_encoder_decoder: bool


class PeftConfig(BaseModel):
    """The keys of `adapter_config.json` that decide what a prompt does; PEFT writes many more, which do not."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    peft_type: Literal["PROMPT_TUNING", "PREFIX_TUNING"]
    task_type: Literal["CAUSAL_LM", "SEQ_2_SEQ_LM"]
    num_virtual_tokens: int = Field(ge=1, le=100_000)
    num_transformer_submodules: Literal[1, 2] | None = None
    num_layers: int | None = None
    num_attention_heads: int | None = None
    token_dim: int | None = None
    prefix_projection: bool = False

    @property
    def num_submodules(self) -> int:
        """As PEFT fills it in where it is not said."""
        return self.num_transformer_submodules or SUBMODULES[self.task_type == "SEQ_2_SEQ_LM"]


def is_peft_checkpoint(directory: Path) -> bool:
    """Whether a directory looks like PEFT's and not like a prompt file of ours, which has a manifest as well."""
    return (directory / PEFT_CONFIG_FILE).is_file() and not (directory / "manifest.json").is_file()


def read_peft_prompt(directory: Path, base: BaseShape) -> Float32Array:
    """The values of the prompt that PEFT saved in a directory.

    Args:
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.
        base: What the prompt must fit.

    Returns:
        `[P, H]` or `[L, 2, P, N, D]`, float32 and finite. Of a `[2P, H]` matrix, which PEFT writes for encoder-decoder models,
        the first `P` rows: PEFT itself uses no others.

    Raises:
        VerificationFailed: A file is missing, too large, a pickle, not what PEFT writes, or of a kind that is not known.
        FingerprintMismatch: The prompt cannot have been trained on this base.
    """
    config = _read_config(directory)
    _expect_fit(directory, "task_type", "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM", config.task_type)
    matrix = _read_matrix(directory)
    if config.peft_type == "PROMPT_TUNING":
        return _shallow(directory, config, matrix, base)
    return _deep(directory, config, matrix, base)


def _shallow(directory: Path, config: PeftConfig, matrix: Float32Array, base: BaseShape) -> Float32Array:
    _expect_fit(directory, "rows", config.num_virtual_tokens * config.num_submodules, len(matrix))
    _expect_fit(directory, "numbers a row", base.hidden_size, matrix.shape[1])
    return matrix[: config.num_virtual_tokens].copy()


def _deep(directory: Path, config: PeftConfig, matrix: Float32Array, base: BaseShape) -> Float32Array:
    _expect_fit(directory, "kind of prompt", "PROMPT_TUNING", None if base.num_layers else config.peft_type)
    heads, size = base.num_kv_heads, base.head_size
    layers, rest = divmod(matrix.shape[1], 2 * heads * size)
    _expect_fit(directory, "num_transformer_submodules", SUBMODULES[base.is_encoder_decoder], config.num_submodules)
    _expect_fit(directory, "rows", config.num_virtual_tokens, len(matrix))
    _expect_fit(directory, "numbers a row", f"a multiple of {2 * heads * size}", f"{rest} more" if rest else None)
    # PEFT deals the layers of a decoder's prompt out anew, so there may be more than the decoder has.
    enough = layers >= base.num_layers if base.is_encoder_decoder else layers == base.num_layers
    _expect_fit(directory, "layers", base.num_layers, None if enough else layers)
    for key, actual in {"num_layers": layers, "num_attention_heads": heads, "token_dim": heads * size}.items():
        _expect_fit(directory, key, actual, getattr(config, key))
    return np.ascontiguousarray(matrix.reshape(len(matrix), layers, 2, heads, size).transpose(1, 2, 0, 3, 4))


def _read_config(directory: Path) -> PeftConfig:
    path = directory / PEFT_CONFIG_FILE
    content = parse_json(read_capped(path, MAX_CONFIG_BYTES), source=str(path), max_bytes=MAX_CONFIG_BYTES)
    kind = content.get("peft_type") if isinstance(content, dict) else None
    if kind not in KNOWN_TYPES:
        raise VerificationFailed(
            "This PEFT checkpoint is not a prompt that softprompt knows.",
            where=str(path),
            expected=f"peft_type {' or '.join(KNOWN_TYPES)}",
            actual=repr(kind),
        )
    if content.get("prefix_projection"):
        raise VerificationFailed(
            "This PEFT checkpoint has a prefix projection, which softprompt does not read.",
            where=str(path),
            expected="prefix_projection: false",
            hint="Train it without the projection, or start from another prompt.",
        )
    try:
        return PeftConfig.model_validate_json(canonical_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}, key {'.'.join(str(part) for part in first['loc'])}"
        raise VerificationFailed("This is not a configuration of PEFT's.", where=where, actual=first["msg"]) from None


def _read_matrix(directory: Path) -> Float32Array:
    """The one tensor `prompt_embeddings`, two-dimensional and finite."""
    path = directory / TENSOR_FILE
    if not path.is_file() and (directory / PICKLE_FILE).is_file():
        raise VerificationFailed(
            "This PEFT checkpoint is a pickle, which can run code when it is read.",
            where=str(directory / PICKLE_FILE),
            expected=TENSOR_FILE,
            hint="Save it again with PEFT's save_pretrained(safe_serialization=True).",
        )
    try:
        entries = safetensors.deserialize(read_capped(path, MAX_TENSOR_BYTES))
    except safetensors.SafetensorError as error:
        raise VerificationFailed("A tensor file is not safetensors.", where=str(path), actual=str(error)) from None
    shown = [(name, entry["dtype"], list(entry["shape"])) for name, entry in entries]
    if len(entries) != 1 or entries[0][0] != TENSOR_NAME or len(shown[0][2]) != 2 or shown[0][1] not in ("F32", "F16", "BF16"):
        expected = f"one matrix {TENSOR_NAME} of F32, F16 or BF16"
        raise VerificationFailed(
            "This is not the tensor of a PEFT prompt.", where=str(path), expected=expected, actual=str(shown)
        )
    matrix = _to_float32(bytes(entries[0][1]["data"]), shown[0][1]).reshape(shown[0][2])
    if not np.isfinite(matrix).all():
        raise VerificationFailed("A PEFT prompt holds NaN or infinity.", where=str(path), expected="finite numbers")
    return matrix


def _to_float32(raw: bytes, dtype: str) -> Float32Array:
    if dtype == "BF16":  # numpy has no such type: these are the upper halves of float32
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, dtype={"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def _expect_fit(directory: Path, what: str, expected: object, actual: object) -> None:
    """Refuse what the base does not have; None: nothing was said."""
    if actual is not None and actual != expected:
        raise FingerprintMismatch(
            f"This PEFT prompt does not fit the base model: {what}.",
            where=str(directory),
            expected=str(expected),
            actual=str(actual),
            hint="It was trained on another base model.",
        )
