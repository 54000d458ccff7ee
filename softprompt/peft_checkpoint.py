"""Read a prompt that stock PEFT saved, as strictly as our own: what it says and what it holds must fit the base.

    PROMPT_TUNING             `[P, H]` (Lester et al. 2021)
    P_TUNING                  `[P, H]`, what its encoder gave at the end (Liu et al. 2021); the encoder itself is not saved
    MULTITASK_PROMPT_TUNING   one for all tasks and a low-rank factor for each (Wang et al. 2023), folded to a task's `[P, H]`
    PREFIX_TUNING             `[L, 2, P, N, D]` (Li & Liang 2021); PEFT saves what a projection gave, never the projection

The way back is `softprompt.export`. PEFT records no fingerprint, so the shape is all that shows whether a prompt belongs to a
base; the caller says whose base it is. No torch, no pickle.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from softprompt.artifact import MANIFEST_FILE, MAX_TENSOR_BYTES, PEFT_CONFIG_FILE, TENSOR_FILE, TENSOR_NAME, read_capped
from softprompt.documents import canonical_json, parse_json
from softprompt.errors import FingerprintMismatch, InvalidRequest, VerificationFailed
from softprompt.tensor_file import Dtype, Float32Array, StoredTensor, read_tensors

PICKLE_FILE = "adapter_model.bin"
MAX_CONFIG_BYTES = 1024 * 1024
KNOWN_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING")
TASK_FACTORS = ("prefix_task_cols", "prefix_task_rows")
"""Tensors of a multitask prompt: `[tasks, P, R]` and `[tasks, R, H]`."""
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


@dataclass(frozen=True)
class PeftPrompt:
    """A prompt that PEFT saved.

    Attributes:
        values: `[P, H]` or `[L, 2, P, N, D]`, finite.
        dtype: bfloat16 for a deep prompt that was saved so; everything else is float32 here.
        peft_type: What PEFT calls its kind.
    """

    values: Float32Array
    dtype: Dtype
    peft_type: str


class PeftConfig(BaseModel):
    """The keys of `adapter_config.json` that decide what a prompt does; PEFT writes many more, which do not."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    peft_type: Literal["PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING"]
    task_type: Literal["CAUSAL_LM", "SEQ_2_SEQ_LM"]
    num_virtual_tokens: int = Field(ge=1, le=100_000)
    num_transformer_submodules: Literal[1, 2] | None = None
    num_layers: int | None = None
    num_attention_heads: int | None = None
    token_dim: int | None = None
    num_tasks: int = Field(default=1, ge=1, le=100_000)
    num_ranks: int = Field(default=1, ge=1, le=100_000)

    @property
    def num_submodules(self) -> int:
        """As PEFT fills it in where it is not said."""
        return self.num_transformer_submodules or SUBMODULES[self.task_type == "SEQ_2_SEQ_LM"]


def is_peft_checkpoint(directory: Path) -> bool:
    """Whether a directory looks like PEFT's and not like a prompt file of ours, which has a manifest as well."""
    return (directory / PEFT_CONFIG_FILE).is_file() and not (directory / MANIFEST_FILE).is_file()


def read_peft_prompt(directory: Path, base: BaseShape, *, task: int | None = None) -> PeftPrompt:
    """The prompt that PEFT saved in a directory.

    Args:
        directory: Holds `adapter_config.json` and `adapter_model.safetensors`.
        base: What the prompt must fit.
        task: Which task of a multitask prompt, counted from 0 as PEFT's `task_ids`; None: it has only one.

    Returns:
        The prompt. Of a `[2P, H]` matrix, which PEFT writes for encoder-decoder models, the first `P` rows: PEFT itself uses no
        others.

    Raises:
        VerificationFailed: A file is missing, too large, a pickle, not what PEFT writes, or of a kind that is not known.
        FingerprintMismatch: The prompt cannot have been trained on this base.
        InvalidRequest: `task` is not one of its tasks.
    """
    config = _read_config(directory)
    _expect_fit(directory, "task_type", "SEQ_2_SEQ_LM" if base.is_encoder_decoder else "CAUSAL_LM", config.task_type)
    is_multitask = config.peft_type == "MULTITASK_PROMPT_TUNING"
    if not is_multitask and task is not None:
        raise InvalidRequest(
            "Only a multitask prompt has tasks to choose from.",
            where=str(directory),
            expected="peft_type MULTITASK_PROMPT_TUNING",
            actual=config.peft_type,
            hint="Leave --task out.",
        )
    tensors = _read_tensors(directory, (TENSOR_NAME, *(TASK_FACTORS if is_multitask else ())))
    stored = _matrix(directory, tensors)
    if config.peft_type == "PREFIX_TUNING":
        dtype: Dtype = "bfloat16" if stored.dtype == "BF16" else "float32"
        return PeftPrompt(_deep(directory, config, stored.values, base), dtype, config.peft_type)
    matrix = _of_task(directory, config, tensors, task) if is_multitask else stored.values
    return PeftPrompt(_shallow(directory, config, matrix, base), "float32", config.peft_type)


def _shallow(directory: Path, config: PeftConfig, matrix: Float32Array, base: BaseShape) -> Float32Array:
    if config.peft_type == "MULTITASK_PROMPT_TUNING" or not base.is_encoder_decoder:
        _expect_one_submodule(directory, config)
    _expect_fit(directory, "rows", config.num_virtual_tokens * config.num_submodules, len(matrix))
    _expect_fit(directory, "numbers a row", base.hidden_size, matrix.shape[1])
    return matrix[: config.num_virtual_tokens].copy()


def _expect_one_submodule(directory: Path, config: PeftConfig) -> None:
    """PEFT puts a second half before the decoder's input, and `generate` of a multitask prompt leaves it out: two functions."""
    if config.num_submodules != 1:
        raise VerificationFailed(
            "This PEFT prompt has a half that goes into a decoder, which a shallow prompt does not have here.",
            where=str(directory / PEFT_CONFIG_FILE),
            expected="num_transformer_submodules: 1",
            actual=f"num_transformer_submodules: {config.num_submodules}, {config.peft_type}",
            hint="Train it with num_transformer_submodules=1.",
        )


def _of_task(directory: Path, config: PeftConfig, tensors: dict[str, StoredTensor], task: int | None) -> Float32Array:
    """The matrix of one task: the shared one times the task's factor, number by number, as PEFT's forward has it."""
    shared, cols, rows = (tensors[name].values for name in (TENSOR_NAME, *TASK_FACTORS))
    expected = ((config.num_tasks, len(shared), config.num_ranks), (config.num_tasks, config.num_ranks, shared.shape[1]))
    if (cols.shape, rows.shape) != expected:
        raise VerificationFailed(
            "The factors of a multitask prompt do not fit its matrix.",
            where=str(directory / TENSOR_FILE),
            expected=" and ".join(str(list(shape)) for shape in expected),
            actual=f"{list(cols.shape)} and {list(rows.shape)}",
        )
    chosen = 0 if task is None and config.num_tasks == 1 else task
    if chosen is None or not 0 <= chosen < config.num_tasks:
        raise InvalidRequest(
            "A multitask prompt is read for one of its tasks.",
            where=str(directory),
            expected=f"a task from 0 to {config.num_tasks - 1}",
            actual="none was named" if chosen is None else str(chosen),
            hint="Name it with --task.",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        folded: Float32Array = shared * (cols[chosen] @ rows[chosen])
    return _finite(directory, "prompt of the task", folded)


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
            expected=f"peft_type {', '.join(KNOWN_TYPES[:-1])} or {KNOWN_TYPES[-1]}",
            actual=repr(kind),
        )
    try:
        return PeftConfig.model_validate_json(canonical_json(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}, key {'.'.join(str(part) for part in first['loc'])}"
        raise VerificationFailed("This is not a configuration of PEFT's.", where=where, actual=first["msg"]) from None


def _read_tensors(directory: Path, names: tuple[str, ...]) -> dict[str, StoredTensor]:
    """The tensors of these names, finite; others there must not be."""
    path = directory / TENSOR_FILE
    if not path.is_file() and (directory / PICKLE_FILE).is_file():
        raise VerificationFailed(
            "This PEFT checkpoint is a pickle, which can run code when it is read.",
            where=str(directory / PICKLE_FILE),
            expected=TENSOR_FILE,
            hint="Save it again with PEFT's save_pretrained(safe_serialization=True).",
        )
    tensors = read_tensors(read_capped(path, MAX_TENSOR_BYTES), source=str(path))
    if set(tensors) != set(names):
        raise VerificationFailed(
            "These are not the tensors of a PEFT prompt.",
            where=str(path),
            expected=", ".join(sorted(names)),
            actual=", ".join(sorted(tensors)),
        )
    for name, stored in tensors.items():
        _finite(directory, f"tensor {name}", stored.values)
    return tensors


def _matrix(directory: Path, tensors: dict[str, StoredTensor]) -> StoredTensor:
    stored = tensors[TENSOR_NAME]
    if stored.values.ndim != 2 or not stored.values.size:
        raise VerificationFailed(
            "A PEFT prompt is not a matrix.",
            where=f"{directory / TENSOR_FILE}, tensor {TENSOR_NAME}",
            expected="rows of numbers",
            actual=str(list(stored.values.shape)),
        )
    return stored


def _finite(directory: Path, what: str, values: Float32Array) -> Float32Array:
    if not np.isfinite(values).all():
        where = f"{directory / TENSOR_FILE}, {what}"
        raise VerificationFailed("A PEFT prompt holds NaN or infinity.", where=where, expected="finite numbers")
    return values


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
