"""Bring what a URI names to this machine: base models, datasets, prompts to start from.

    embedded://NAME                             package data
    file:///PATH                                as it is
    s3://BUCKET/PREFIX                          copied once into the cache, complete or not at all
    hf://ORG/NAME@REVISION                      a base model through the Hugging Face hub's own cache
    hf://datasets/ORG/NAME@REVISION[/FOLDER]    a dataset, likewise
    https://HOST/PATH                           a dataset file; http:// on this machine only
    s3://BUCKET/PREFIX/blobs/sha256/DIGEST      a published prompt, by its digest

Of base models only JSON, text, tokenizer and safetensors files are fetched, of datasets only data: pickles and scripts stay
where they are.
"""

from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

from softprompt.artifact import read_capped
from softprompt.documents import sha256_hex
from softprompt.errors import BaseModelUnavailable, DatasetRefused, InvalidRecipe, InvalidRequest, VerificationFailed
from softprompt.fetch.cache import cache_folder
from softprompt.fetch.data_files import DataFile, dataset_sha256, file_sha256, files_at, folder_sha256
from softprompt.fetch.hub import base_from_hub, dataset_from_hub
from softprompt.fetch.published import prompt_from_store
from softprompt.fetch.s3 import base_from_s3, bytes_from_s3, dataset_from_s3
from softprompt.fetch.web import dataset_from_web, without_secrets

__all__ = [
    "DataFile",
    "absolute_uri",
    "cache_folder",
    "dataset_sha256",
    "fetch_base",
    "fetch_bytes",
    "fetch_dataset",
    "fetch_prompt",
    "fetch_verified",
    "file_sha256",
]

EMBEDDED_BASES = {"base": "base"}
EMBEDDED_DATASETS = {name: f"data/{name}.jsonl" for name in ("tickets", "faq", "answers")}


def fetch_base(uri: str) -> Path:
    """A local directory with the base model that a URI names.

    Raises:
        BaseModelUnavailable: There is none.
        StoreUnavailable: The object store does not answer.
    """
    scheme, place = _parse(uri, ("embedded", "file", "s3", "hf"))
    if scheme == "file":
        return Path(place)
    if scheme == "embedded":
        return _embedded(place, EMBEDDED_BASES, BaseModelUnavailable)
    if scheme == "s3":
        return base_from_s3(uri)
    return base_from_hub(place)


def fetch_dataset(uri: str, *, expected_sha256: str = "") -> tuple[DataFile, ...]:
    """Local files with the dataset that a URI names, verified where its digest is known.

    Args:
        uri: A file of a known ending, or a directory (in S3 a prefix) of such.
        expected_sha256: What `dataset_sha256` must say; empty where nothing is known yet.

    Raises:
        DatasetRefused: There is none.
        ServiceUnavailable: The server that has it does not answer.
        VerificationFailed: It is not the one that was resolved.
    """
    found = _dataset_files(uri)
    if expected_sha256 and (actual := dataset_sha256(found)) != expected_sha256:
        raise VerificationFailed(
            "The dataset changed since the run began.",
            where=without_secrets(uri),
            expected=expected_sha256,
            actual=actual,
            hint="Start a new run.",
        )
    return found


def fetch_bytes(uri: str, *, max_bytes: int) -> bytes:
    """A small file.

    Args:
        uri: `file://` or `s3://`.
        max_bytes: Larger ones are refused.

    Raises:
        VerificationFailed: It is not there, or larger.
        StoreUnavailable: The object store does not answer.
    """
    scheme, place = _parse(uri, ("file", "s3"))
    return bytes_from_s3(uri, max_bytes) if scheme == "s3" else read_capped(Path(place), max_bytes)


def fetch_verified(uri: str, sha256: str, *, max_bytes: int) -> bytes:
    """A file that must still be what it was when the run began.

    Raises:
        VerificationFailed: It is not there, is larger, or has changed.
        StoreUnavailable: The object store does not answer.
    """
    data = fetch_bytes(uri, max_bytes=max_bytes)
    if sha256_hex(data) != sha256:
        raise VerificationFailed(
            "A file changed since the run began.", where=uri, expected=sha256, actual=sha256_hex(data), hint="Start a new run."
        )
    return data


def fetch_prompt(uri: str, *, expected_sha256: str = "") -> tuple[Path, str]:
    """(directory, digest) of a prompt to start from: a prompt file, a PEFT checkpoint, or a published prompt in its store.

    The digest is the prompt's own where it is published, else a sha256 over the directory's files.

    Raises:
        InvalidRecipe: There is no such directory, or the URI names something else in a store.
        StoreUnavailable: The store does not answer.
        VerificationFailed: It is not the one that was resolved.
    """
    scheme, place = _parse(uri, ("file", "s3"))
    folder, actual = prompt_from_store(uri) if scheme == "s3" else _prompt_here(Path(place))
    if expected_sha256 and actual != expected_sha256:
        raise VerificationFailed(
            "The prompt to start from changed since the run began.",
            where=uri,
            expected=expected_sha256,
            actual=actual,
            hint="Start a new run.",
        )
    return folder, actual


def _prompt_here(folder: Path) -> tuple[Path, str]:
    if not folder.is_dir():
        hint = "Check prompt.init.uri; a relative path counts from the recipe's folder."
        raise InvalidRecipe("The prompt to start from is not there.", where=str(folder), hint=hint)
    return folder, folder_sha256(folder)


def absolute_uri(uri: str, folder: Path) -> str:
    """A URI as it stands, or a path as `file://`; a relative path counts from `folder`."""
    if "://" in uri:
        return uri
    return (folder / Path(uri).expanduser()).resolve().as_uri()


def _dataset_files(uri: str) -> tuple[DataFile, ...]:
    scheme, place = _parse(uri, ("embedded", "file", "s3", "hf", "https", "http"))
    if scheme == "s3":
        return dataset_from_s3(uri)
    if scheme == "hf":
        return dataset_from_hub(place)
    if scheme in ("https", "http"):
        return dataset_from_web(uri)
    return files_at(Path(place) if scheme == "file" else _embedded(place, EMBEDDED_DATASETS, DatasetRefused))


def _parse(uri: str, schemes: tuple[str, ...]) -> tuple[str, str]:
    scheme, _, place = uri.partition("://")
    if scheme == "file":
        parsed = urlsplit(uri)
        return scheme, unquote(parsed.netloc + parsed.path)
    if scheme in schemes:
        return scheme, place
    raise InvalidRequest("This URI has a scheme that is not known.", where=without_secrets(uri), expected=", ".join(schemes))


def _embedded(name: str, known: dict[str, str], error: type[BaseModelUnavailable | DatasetRefused]) -> Path:
    if name not in known:
        raise error("Nothing of this name is embedded.", where=f"embedded://{name}", expected=f"one of {', '.join(known)}")
    return Path(str(files("softprompt.embedded"))) / known[name]
