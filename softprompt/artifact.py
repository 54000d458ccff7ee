"""The prompt file: the published artifact and the contract that training, registry, release and serving share.

A directory that is at the same time a stock PEFT checkpoint:

    adapter_model.safetensors   one tensor `prompt_embeddings`, canonical bytes
    manifest.json               only what determines behaviour; its sha256 *is* the prompt's identity
    adapter_config.json         derived from the other two for stock PEFT; never read by us

Nothing is believed before it verifies: size cap, digest, schema, sha256, canonical bytes of exactly one tensor of the right name,
shape and dtype, finite numbers. Whether they can belong to a base is asked where they meet one (`softprompt.engine.fit`). No
torch, no pickle.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, StringConstraints, model_validator

from softprompt.documents import Document, parse_json, sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.names import PromptKind, TaskType
from softprompt.template import template_fields
from softprompt.tensor_file import Dtype, Float32Array, decode_matrix, encode_matrix

TENSOR_FILE: Literal["adapter_model.safetensors"] = "adapter_model.safetensors"
MANIFEST_FILE = "manifest.json"
PEFT_CONFIG_FILE = "adapter_config.json"
TENSOR_NAME = "prompt_embeddings"
MAX_TENSOR_BYTES = 1024 * 1024 * 1024
MOST_NEW_TOKENS = 1_000_000
"""More than any context has."""
KNOWN_VERSIONS = (1,)

Size = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Part(Document):
    """One file of the prompt, as its bytes must be."""

    role: Literal["prompt_embeddings"]
    path: Literal["adapter_model.safetensors"]
    length_bytes: int = Field(ge=1, le=MAX_TENSOR_BYTES)
    sha256: Sha256
    shape: tuple[Size, Size]
    """`[P, H]` for a shallow prompt, `[P, L*2*N*D]` for a deep one."""
    dtype: Dtype


class DeepLayout(Document):
    """How a deep prompt's flat rows unfold to `[L, 2, P, N, D]`."""

    num_layers: Size
    num_kv_heads: Size
    head_size: Size


class TemplateExample(Document):
    """Values put into the template and the token ids that must come out, so that serving cannot disagree in silence."""

    values: dict[str, str]
    token_ids: tuple[int, ...]


class Answer(Document):
    """A label and the text by which the model says it."""

    label: str
    text: str


class Manifest(Document):
    """Everything that determines what a prompt does, and nothing else."""

    schema_version: Literal[1] = 1
    kind: PromptKind
    num_tokens: Size
    parts: tuple[Part]
    layout: DeepLayout | None
    input_independent: Literal[True] = True
    placement: Literal["prefix"] = "prefix"
    task: TaskType
    template: str
    template_examples: tuple[TemplateExample, ...]
    answers: tuple[Answer, ...]
    max_new_tokens: int = Field(ge=1, le=MOST_NEW_TOKENS)
    base_fingerprint: Sha256

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        rows, width = self.parts[0].shape
        if rows != self.num_tokens:
            raise ValueError(f"the tensor has {rows} rows, num_tokens says {self.num_tokens}")
        if (self.kind == "deep") != (self.layout is not None):
            raise ValueError("a deep prompt has a layout, a shallow one has none")
        if self.layout and width != self.layout.num_layers * 2 * self.layout.num_kv_heads * self.layout.head_size:
            raise ValueError(f"rows of {width} numbers do not unfold to the layout {self.layout}")
        return self

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        if (self.task == "classification") != bool(self.answers):
            raise ValueError("a classification has answers, a generation has none")
        if len({answer.label for answer in self.answers}) < len(self.answers):
            raise ValueError("two answers have the same label")
        fields = set(template_fields(self.template))
        if any(set(example.values) != fields for example in self.template_examples):
            raise ValueError("an example has other values than the template has fields")
        return self


@dataclass(frozen=True)
class PromptFile:
    """A verified prompt: its manifest and the canonical bytes of its tensor. Make one with `build` or `read`, not directly."""

    manifest: Manifest
    tensor: bytes

    @property
    def digest(self) -> str:
        """The prompt's identity: sha256 of the manifest, 64 hexadecimal digits."""
        return self.manifest.digest

    @property
    def values(self) -> Float32Array:
        """The vectors as float32: `[P, H]` for a shallow prompt, `[L, 2, P, N, D]` for a deep one."""
        flat = _decode(self.tensor, self.manifest.parts[0], source="a prompt that has been verified")
        layout = self.manifest.layout
        if layout is None:
            return flat
        unfolded = flat.reshape(len(flat), layout.num_layers, 2, layout.num_kv_heads, layout.head_size)
        return np.ascontiguousarray(unfolded.transpose(1, 2, 0, 3, 4))

    @classmethod
    def build(cls, values: Float32Array, *, dtype: Dtype = "float32", **manifest: Any) -> Self:
        """Make a prompt file from trained vectors.

        Args:
            values: `[P, H]` or `[L, 2, P, N, D]`, float32.
            dtype: Number format to store; bfloat16 (rounded to nearest even) for deep prompts only.
            **manifest: The manifest's fields that do not follow from the vectors.

        Raises:
            ValueError: A shape or dtype that no kind of prompt has, or numbers that are not finite.
        """
        flat, layout = _fold(values)
        if dtype == "bfloat16" and layout is None:
            raise ValueError("a shallow prompt is stored as float32")
        tensor = encode_matrix(TENSOR_NAME, flat, dtype)
        part = Part(
            role="prompt_embeddings",
            path=TENSOR_FILE,
            length_bytes=len(tensor),
            sha256=sha256_hex(tensor),
            shape=(flat.shape[0], flat.shape[1]),
            dtype=dtype,
        )
        kind: PromptKind = "deep" if layout else "shallow"
        document = Manifest(kind=kind, num_tokens=len(flat), parts=(part,), layout=layout, **manifest)
        return cls.from_bytes(document.to_bytes(), tensor, source="a prompt just built")

    @classmethod
    def from_bytes(cls, manifest: bytes, tensor: bytes, *, source: str, expected_digest: str = "") -> Self:
        """Verify a manifest and its tensor, and believe them only then.

        Args:
            manifest: Bytes of `manifest.json`.
            tensor: Bytes of `adapter_model.safetensors`.
            source: Where they come from, for messages.
            expected_digest: The prompt that was asked for; empty: whichever this is.

        Raises:
            VerificationFailed: Naming what does not hold.
        """
        _expect("manifest digest", source, expected_digest, sha256_hex(manifest) if expected_digest else "")
        document = read_manifest(manifest, source=source)
        _expect("manifest bytes", source, "canonical JSON", "canonical JSON" if document.to_bytes() == manifest else "other")
        part = document.parts[0]
        _expect("tensor length", source, f"{part.length_bytes} bytes", f"{len(tensor)} bytes")
        _expect("tensor sha256", source, part.sha256, sha256_hex(tensor))
        values = _decode(tensor, part, source=source)
        _expect("tensor values", source, "finite", "finite" if np.isfinite(values).all() else "NaN or infinity")
        return cls(document, tensor)

    @classmethod
    def read(cls, directory: Path, *, expected_digest: str = "") -> Self:
        """Read and verify the prompt file in a directory.

        Raises:
            VerificationFailed: A file is missing, too large, or does not verify.
        """
        manifest = read_capped(directory / MANIFEST_FILE, Manifest.max_bytes)
        stated = read_manifest(manifest, source=str(directory)).parts[0]
        tensor = read_capped(directory / TENSOR_FILE, stated.length_bytes)
        return cls.from_bytes(manifest, tensor, source=str(directory), expected_digest=expected_digest)

    def write(self, directory: Path, *, base_uri: str = "", base_revision: str = "", encoder_decoder: bool = False) -> None:
        """Write the directory, complete or not at all.

        Args:
            directory: Must not exist, or be empty.
            base_uri: For PEFT's `base_model_name_or_path`; information only.
            base_revision: For PEFT's `revision`; information only.
            encoder_decoder: Whether the base is one; only PEFT's task type follows from it.
        """
        draft = directory.with_name(f".{directory.name}.{os.getpid()}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        (draft / TENSOR_FILE).write_bytes(self.tensor)
        (draft / MANIFEST_FILE).write_bytes(self.manifest.to_bytes())
        config = peft_config(self.manifest, base_uri=base_uri, base_revision=base_revision, encoder_decoder=encoder_decoder)
        (draft / PEFT_CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        draft.rename(directory)


def read_manifest(data: bytes, *, source: str) -> Manifest:
    """Parse a manifest; unknown versions and kinds are refused by name before the schema is asked.

    Raises:
        VerificationFailed: Not a manifest that this version of softprompt understands.
    """
    content = parse_json(data, source=source, max_bytes=Manifest.max_bytes)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in KNOWN_VERSIONS:
        raise VerificationFailed(
            "A prompt manifest has a schema version that this softprompt does not know.",
            where=source,
            expected=f"one of {KNOWN_VERSIONS}",
            actual=repr(version),
            hint="Update softprompt on this machine.",
        )
    if content.get("kind") not in ("shallow", "deep"):
        raise VerificationFailed("A prompt manifest is of an unknown kind.", where=source, actual=repr(content.get("kind")))
    return Manifest.from_bytes(data, source=source)


def peft_config(manifest: Manifest, *, base_uri: str, base_revision: str, encoder_decoder: bool) -> dict[str, object]:
    """`adapter_config.json` for stock PEFT: `PROMPT_TUNING` (shallow) or `PREFIX_TUNING` without projection (deep)."""
    config: dict[str, object] = {
        "base_model_name_or_path": base_uri or None,
        "inference_mode": True,
        "num_transformer_submodules": 2 if manifest.layout and encoder_decoder else 1,
        "num_virtual_tokens": manifest.num_tokens,
        "peft_type": "PREFIX_TUNING" if manifest.layout else "PROMPT_TUNING",
        "revision": base_revision or None,
        "task_type": "SEQ_2_SEQ_LM" if encoder_decoder else "CAUSAL_LM",
    }
    if manifest.layout is None:
        return config | {"token_dim": manifest.parts[0].shape[1]}
    heads, size = manifest.layout.num_kv_heads, manifest.layout.head_size
    return config | {
        "num_layers": manifest.layout.num_layers,
        "num_attention_heads": heads,
        "prefix_projection": False,
        "token_dim": heads * size,
    }


def read_capped(path: Path, max_bytes: int) -> bytes:
    """Read a file that must be there and no larger than `max_bytes`.

    Raises:
        VerificationFailed: It is not there, or larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise VerificationFailed("A file of a prompt cannot be read.", where=str(path), actual=str(error)) from None
    if len(data) > max_bytes:
        raise VerificationFailed("A file is larger than it may be.", where=str(path), expected=f"<= {max_bytes} bytes")
    return data


def _fold(values: Float32Array) -> tuple[Float32Array, DeepLayout | None]:
    """Vectors to the stored matrix: `[P, H]` stays, `[L, 2, P, N, D]` becomes PEFT's `[P, L*2*N*D]`."""
    if values.dtype != np.float32 or not np.isfinite(values).all():
        raise ValueError(f"prompt values must be finite float32, got {values.dtype}")
    if values.ndim == 2:
        return values, None
    if values.ndim != 5 or values.shape[1] != 2:
        raise ValueError(f"prompt values must be [P, H] or [L, 2, P, N, D], got {list(values.shape)}")
    layers, _, tokens, heads, size = values.shape
    flat = values.transpose(2, 0, 1, 3, 4).reshape(tokens, -1)
    return flat, DeepLayout(num_layers=layers, num_kv_heads=heads, head_size=size)


def _decode(tensor: bytes, part: Part, *, source: str) -> Float32Array:
    return decode_matrix(tensor, TENSOR_NAME, part.shape, part.dtype, source=source)


def _expect(what: str, source: str, expected: str, actual: str) -> None:
    if expected != actual:
        raise VerificationFailed(
            f"A prompt does not verify: {what}.",
            where=source,
            expected=expected,
            actual=actual,
            hint="Do not use it; fetch it again.",
        )
