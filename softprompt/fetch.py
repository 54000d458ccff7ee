"""Bring what a URI names to this machine: base models and datasets.

    embedded://NAME               package data
    file:///PATH                  as it is
    s3://BUCKET/PREFIX            copied once into the cache, complete or not at all
    hf://ORG/NAME@REVISION        through the Hugging Face hub's own cache

Only JSON, text, tokenizer and safetensors files are fetched; pickles stay where they are.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import BaseModelUnavailable, DatasetRefused, InvalidRequest, VerificationFailed

BASE_MODEL_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
EMBEDDED_BASES = {"base": "base"}
EMBEDDED_DATASETS = {"tickets": "data/tickets.jsonl"}


def cache_folder() -> Path:
    """Where fetched files are kept between runs: `SOFTPROMPT_CACHE`, else the user's cache folder."""
    standard = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softprompt"
    return Path(os.environ.get("SOFTPROMPT_CACHE") or standard)


def fetch_base(uri: str) -> Path:
    """A local directory with the base model that a URI names.

    Raises:
        BaseModelUnavailable: There is none.
        StoreUnavailable: The object store does not answer.
    """
    scheme, place = _parse(uri)
    if scheme == "file":
        return Path(place)
    if scheme == "embedded":
        return _embedded(place, EMBEDDED_BASES, BaseModelUnavailable)
    if scheme == "s3":
        return _from_s3(uri)
    return _from_hub(place)


def fetch_dataset(uri: str, *, expected_sha256: str = "") -> Path:
    """A local file with the dataset that a URI names, verified where its digest is known.

    Raises:
        DatasetRefused: There is none.
        VerificationFailed: It is not the one that was resolved.
    """
    scheme, place = _parse(uri)
    if scheme == "embedded":
        path = _embedded(place, EMBEDDED_DATASETS, DatasetRefused)
    elif scheme == "file":
        path = Path(place)
    elif scheme == "s3":
        path = _object_from_s3(uri)
    else:
        raise DatasetRefused("A dataset is not read from there yet.", where=uri, expected="embedded, file or s3")
    if not path.is_file():
        hint = "Check dataset.uri; a relative path counts from the recipe's folder."
        raise DatasetRefused("The dataset is not there.", where=str(path), hint=hint)
    if expected_sha256 and (actual := file_sha256(path)) != expected_sha256:
        raise VerificationFailed(
            "The dataset changed since the run began.",
            where=uri,
            expected=expected_sha256,
            actual=actual,
            hint="Start a new run.",
        )
    return path


def absolute_uri(uri: str, folder: Path) -> str:
    """A URI as it stands, or a path as `file://`; a relative path counts from `folder`."""
    if "://" in uri:
        return uri
    return (folder / Path(uri).expanduser()).resolve().as_uri()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(uri: str) -> tuple[str, str]:
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return "file", unquote(parsed.netloc + parsed.path)
    if parsed.scheme in ("embedded", "s3", "hf"):
        return parsed.scheme, uri.split("://", 1)[1]
    raise InvalidRequest("This URI has a scheme that is not known.", where=uri, expected="embedded, file, s3 or hf")


def _embedded(name: str, known: dict[str, str], error: type[BaseModelUnavailable | DatasetRefused]) -> Path:
    if name not in known:
        raise error("Nothing of this name is embedded.", where=f"embedded://{name}", expected=f"one of {', '.join(known)}")
    return Path(str(files("softprompt.embedded"))) / known[name]


def _from_hub(place: str) -> Path:
    """`ORG/NAME@REVISION` through huggingface_hub, which keeps complete snapshots by commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, revision = place.rsplit("@", 1)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(BASE_MODEL_PATTERNS)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise BaseModelUnavailable(
            "The base model is not on this machine, and the hub did not give it.",
            where=f"hf://{place}",
            actual=str(error).strip().splitlines()[0],
            hint="Check name and revision; behind a mirror set HF_ENDPOINT, for a private model HF_TOKEN.",
        ) from None


def _from_s3(uri: str) -> Path:
    """All files of a base model under a prefix, in a cache folder named after what the listing says is there."""
    from softprompt.release.s3_client import parse_s3_uri, s3_client

    bucket, prefix = parse_s3_uri(uri)
    prefix = f"{prefix}/" if prefix else ""
    client = s3_client()
    with _s3_errors(uri):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        listed = [(entry["Key"], entry["ETag"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]
    wanted = [entry for entry in listed if "/" not in entry[0][len(prefix) :] and _is_wanted(entry[0])]
    if not wanted:
        raise BaseModelUnavailable("There is no base model under this prefix.", where=uri, expected="config.json, *.safetensors")
    target = cache_folder() / "bases" / sha256_hex(canonical_json([bucket, prefix, wanted]))
    if not target.is_dir():
        _download(client, bucket, prefix, (key for key, _, _ in wanted), target, uri)
    return target


def _object_from_s3(uri: str) -> Path:
    """One object, in a cache folder named after its ETag."""
    from softprompt.release.s3_client import parse_s3_uri, s3_client

    bucket, key = parse_s3_uri(uri)
    client = s3_client()
    with _s3_errors(uri):
        tag = client.head_object(Bucket=bucket, Key=key)["ETag"]
    folder, _, name = key.rpartition("/")
    target = cache_folder() / "datasets" / sha256_hex(canonical_json([uri, tag]))
    if not target.is_dir():
        _download(client, bucket, folder + "/" if folder else "", [key], target, uri)
    return target / name


def _download(client: Any, bucket: str, prefix: str, keys: Iterable[str], target: Path, uri: str) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for key in keys:
        with _s3_errors(uri):
            client.download_file(bucket, key, str(draft / key[len(prefix) :]))
    try:
        draft.rename(target)
    except OSError:  # another process was first; its copy is as complete as this one
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    from softprompt.release.s3_client import store_unavailable

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise store_unavailable(error, doing="give a file", where=uri) from None


def _is_wanted(key: str) -> bool:
    return any(Path(key).match(pattern) for pattern in BASE_MODEL_PATTERNS)
