"""Folders that several machines share, on a common disk or in S3, and files that appear in them whole or not at all."""

import os
import shutil
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pyarrow import fs

from softprompt.release.s3_client import parse_s3_uri


def filesystem_of(storage: str) -> tuple[fs.FileSystem, str]:
    """(file system, path in it) of a folder or an `s3://` URI; S3's address and keys come from the usual AWS settings.

    Raises:
        InvalidRequest: It begins with `s3:` and is no S3 URI.
    """
    if not storage.startswith("s3:"):
        return fs.LocalFileSystem(), str(Path(storage.removeprefix("file://")).absolute())
    bucket, prefix = parse_s3_uri(storage)
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    given = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint.netloc else {}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # Small files by one request instead of three.
    return fs.S3FileSystem(region=region, allow_delayed_open=True, **given), f"{bucket}/{prefix}".rstrip("/")


def write_whole(filesystem: fs.FileSystem, path: str, content: BinaryIO) -> None:
    """Write a file that appears under its name whole or not at all.

    Args:
        filesystem: From `filesystem_of`.
        path: In an existing folder.
        content: Read to its end.

    Raises:
        OSError: The storage does not take it.
    """
    # An S3 object appears when its upload is completed, a local file as soon as it is opened.
    local = isinstance(filesystem, fs.LocalFileSystem)
    draft = f"{path}.{os.getpid()}.part" if local else path
    with filesystem.open_output_stream(draft) as file:
        shutil.copyfileobj(content, file)
    if local:
        filesystem.move(draft, path)
