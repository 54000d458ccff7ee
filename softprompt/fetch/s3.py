"""Base models and datasets from S3, copied once into cache folders that are named after what the server says is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import BaseModelUnavailable, DatasetRefused, StoreUnavailable, VerificationFailed
from softprompt.fetch.cache import cache_folder, draft_beside, keep
from softprompt.fetch.data_files import DataFile, data_name, data_names, files_at, format_of
from softprompt.fetch.hub import BASE_MODEL_PATTERNS

Listed = tuple[str, str, int]
"""Key, ETag, size in bytes."""


def bytes_from_s3(uri: str, max_bytes: int) -> bytes:
    """One small object.

    Raises:
        VerificationFailed: It is larger than `max_bytes`.
        StoreUnavailable: It is not there, or the store does not answer.
    """
    from softprompt.release.s3_client import parse_s3_uri, s3_client

    bucket, key = parse_s3_uri(uri)
    with _s3_errors(uri):
        body = s3_client().get_object(Bucket=bucket, Key=key)["Body"]
        data = bytes(body.read(max_bytes + 1))
    if len(data) > max_bytes:
        raise VerificationFailed("An object is larger than it may be.", where=uri, expected=f"<= {max_bytes} bytes")
    return data


def base_from_s3(uri: str) -> Path:
    """All files of a base model under a prefix. BaseModelUnavailable: there are none."""
    from softprompt.release.s3_client import parse_s3_uri, s3_client

    bucket, prefix = parse_s3_uri(uri)
    prefix = f"{prefix}/" if prefix else ""
    client = s3_client()
    wanted = [
        entry
        for entry in _list(client, bucket, prefix, uri)
        if "/" not in entry[0][len(prefix) :] and any(Path(entry[0]).match(pattern) for pattern in BASE_MODEL_PATTERNS)
    ]
    if not wanted:
        raise BaseModelUnavailable("There is no base model under this prefix.", where=uri, expected="config.json, *.safetensors")
    target = cache_folder() / "bases" / sha256_hex(canonical_json([bucket, prefix, wanted]))
    _download(client, bucket, prefix, wanted, target, uri)
    return target


def dataset_from_s3(uri: str) -> tuple[DataFile, ...]:
    """One object, or all data under a prefix.

    Raises:
        DatasetRefused: Nothing there is data.
        StoreUnavailable: Neither object nor prefix is there, or the store does not answer.
    """
    from softprompt.release.s3_client import parse_s3_uri, s3_client

    bucket, key = parse_s3_uri(uri)
    client = s3_client()
    if format_of(key) and not uri.endswith("/") and (tag := _tag(client, bucket, key, uri)):
        return _object(client, bucket, key, tag, uri)
    prefix = f"{key}/" if key else ""
    listed = [entry for entry in _list(client, bucket, prefix, uri) if not entry[0].endswith("/")]  # consoles mark folders so
    if not listed:
        raise StoreUnavailable("The object store has no such object or prefix.", where=uri, hint="Check dataset.uri.")
    names = set(data_names((key[len(prefix) :] for key, _, _ in listed), where=uri))
    wanted = [entry for entry in listed if entry[0][len(prefix) :] in names]
    target = cache_folder() / "datasets" / sha256_hex(canonical_json([bucket, prefix, wanted]))
    _download(client, bucket, prefix, wanted, target, uri)
    return files_at(target)


def _list(client: Any, bucket: str, prefix: str, uri: str) -> list[Listed]:
    with _s3_errors(uri):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [(entry["Key"], entry["ETag"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]


def _tag(client: Any, bucket: str, key: str, uri: str) -> str:
    """The ETag of an object; empty if there is none of this name."""
    from botocore.exceptions import ClientError

    from softprompt.release.s3_client import http_status

    with _s3_errors(uri):
        try:
            return str(client.head_object(Bucket=bucket, Key=key)["ETag"])
        except ClientError as error:
            if http_status(error) != 404:
                raise
            return ""


def _object(client: Any, bucket: str, key: str, tag: str, uri: str) -> tuple[DataFile, ...]:
    folder, slash, name = key.rpartition("/")
    data_name(name, where=uri)
    target = cache_folder() / "datasets" / sha256_hex(canonical_json([uri, tag]))
    _download(client, bucket, folder + slash, [(key, tag, 0)], target, uri)
    return (DataFile(name, target / name),)


def _download(client: Any, bucket: str, prefix: str, entries: list[Listed], target: Path, uri: str) -> None:
    """Copy objects into a folder, unless it is there."""
    if target.is_dir():
        return
    with draft_beside(target) as draft:
        for key, _, _ in entries:
            path = draft / key[len(prefix) :]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with _s3_errors(uri):
                    client.download_file(bucket, key, str(path))
            except OSError as error:
                hint = "Is the disk full, or are there a file and a folder of the same name?"
                raise DatasetRefused("A file cannot be written.", where=str(path), actual=str(error), hint=hint) from None
        keep(draft, target)


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    from softprompt.release.s3_client import store_unavailable

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        raise store_unavailable(error, doing="give a file", where=uri) from None
