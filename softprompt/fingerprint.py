"""The fingerprint of a base model: what a prompt was trained on, as one sha256.

It covers every stored tensor (name, dtype, shape, bytes: the same whatever the sharding), the normalised config, the tokenizer
and the chat template. Revision, URI and file names are information, not identity. No torch is needed to compute it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import BaseModelUnavailable

CONFIG_KEYS_WITHOUT_MEANING = {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "_attn_implementation"}
TOKENIZER_KEYS_WITHOUT_MEANING = {"name_or_path", "tokenizer_file", "transformers_version"}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)
MAX_HEADER_BYTES = 100 * 1024 * 1024
CHUNK_BYTES = 4 * 1024 * 1024
REMEMBER_ABOVE_BYTES = 256 * 1024 * 1024
"""Weights larger than this are hashed once per copy; smaller ones are hashed anew each time, which takes a blink."""


def fingerprint(directory: Path, *, cache: Path | None = None) -> str:
    """Fingerprint of the base model in a Hugging Face directory.

    Args:
        directory: Holds config.json, the tokenizer's files and safetensors weights.
        cache: Folder that remembers the fingerprints of large models by their files' sizes and times.

    Returns:
        64 hexadecimal digits.

    Raises:
        BaseModelUnavailable: Files are missing or are not safetensors.
    """
    weights = weight_files(directory)
    remembered = _memory(weights, cache)
    if remembered and remembered.is_file():
        return remembered.read_text()
    statement = {
        "tensors": _digest_of_tensors(weights),
        "config": _normalised_json(directory / "config.json", CONFIG_KEYS_WITHOUT_MEANING),
        "tokenizer": {name: _digest_of_file(directory / name) for name in TOKENIZER_FILES if (directory / name).is_file()},
    }
    result = sha256_hex(canonical_json(statement))
    if remembered:
        remembered.parent.mkdir(parents=True, exist_ok=True)
        draft = remembered.with_suffix(f".{os.getpid()}")
        draft.write_text(result)
        draft.replace(remembered)
    return result


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a base model, sorted by name.

    Raises:
        BaseModelUnavailable: No directory, no config, or no safetensors weights; pickled weights are never read.
    """
    if not (directory / "config.json").is_file():
        raise BaseModelUnavailable(
            "There is no base model here.",
            where=str(directory),
            expected="a directory with config.json, tokenizer.json and *.safetensors",
            actual="no config.json" if directory.is_dir() else "no such directory",
            hint="Check base_model.uri; a relative path counts from the recipe's folder.",
        )
    found = sorted(directory.glob("*.safetensors"))
    if not found:
        pickled = sorted(path.name for path in [*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.pth")])
        raise BaseModelUnavailable(
            "The base model has pickled weights only; loading a pickle can run any code, so it is never done."
            if pickled
            else "The base model has no weights.",
            where=str(directory),
            expected="*.safetensors",
            actual=", ".join(pickled) or "no weight files",
            hint="Convert the weights once, where you trust them: model.save_pretrained(DIR, safe_serialization=True).",
        )
    return found


def _digest_of_tensors(files: list[Path]) -> str:
    """sha256 over (name, dtype, shape, sha256 of bytes) of every tensor in every file, in order of name."""
    entries: dict[str, Any] = {}
    for path in files:
        for name, dtype, shape, digest in _tensors(path):
            if name in entries:
                raise BaseModelUnavailable("Two weight files hold the same tensor.", where=f"{path}, {name}")
            entries[name] = [dtype, shape, digest]
    return sha256_hex(canonical_json(entries))


def _tensors(path: Path) -> Iterator[tuple[str, str, list[int], str]]:
    """(name, dtype, shape, sha256 of its bytes) for each tensor of a safetensors file, read in chunks.

    The format: 8 bytes of little-endian header length, a JSON header, the data (huggingface.co/docs/safetensors).
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= MAX_HEADER_BYTES:
            raise BaseModelUnavailable("A weight file is not safetensors.", where=str(path))
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise BaseModelUnavailable("A weight file is not safetensors.", where=str(path)) from None
        start = 8 + length
        for name, entry in sorted(header.items(), key=lambda item: item[1].get("data_offsets", [0])[0]):
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                file.seek(start + begin)
                yield name, entry["dtype"], entry["shape"], _digest_of_bytes(file, end - begin, path)


def _digest_of_bytes(file: Any, length: int, path: Path) -> str:
    digest, left = hashlib.sha256(), length
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise BaseModelUnavailable("A weight file is cut short.", where=str(path), hint="Fetch it again.")
        digest.update(chunk)
        left -= len(chunk)
    return digest.hexdigest()


def _digest_of_file(path: Path) -> str:
    """Digest of a tokenizer file; JSON by content, so that formatting does not matter."""
    if path.suffix == ".json":
        return sha256_hex(canonical_json(_normalised_json(path, TOKENIZER_KEYS_WITHOUT_MEANING)))
    return sha256_hex(path.read_bytes())


def _normalised_json(path: Path, without: set[str]) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise BaseModelUnavailable("A file of the base model is not JSON.", where=str(path), actual=str(error)) from None
    return {key: value for key, value in content.items() if key not in without} if isinstance(content, dict) else content


def _memory(weights: list[Path], cache: Path | None) -> Path | None:
    """Where the fingerprint of large weights is remembered; another size or time of any file is another place."""
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in weights]
    if cache is None or sum(size for _, size, _ in stats) < REMEMBER_ABOVE_BYTES:
        return None
    others = [path for path in sorted(weights[0].parent.glob("*.json")) if path.is_file()]
    stats += [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in others]
    return cache / "fingerprints" / sha256_hex(canonical_json(stats))
