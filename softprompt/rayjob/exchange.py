"""What a step's pod and its Ray pods give each other through object storage.

    <storage>/rayjobs/inputs/<sha256>            files of inputs, shared by all RayJobs: a dataset is put there once
    <storage>/rayjobs/<job>/request.json         JobRequest
    <storage>/rayjobs/<job>/outputs/<sha256>     files of outputs
    <storage>/rayjobs/<job>/result.json          JobResult, written last
    <storage>/rayjobs/<job>/failure.json         JobResult of a try that KubeRay repeats
    <storage>/rayjobs/<job>/waiting              changes as long as a step waits

Nothing is believed but by its sha256. Objects are left to the bucket's lifecycle rule.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pyarrow import fs

from softprompt.documents import Document
from softprompt.errors import StoreUnavailable, VerificationFailed
from softprompt.fetch.cache import draft_beside, keep
from softprompt.fetch.data_files import file_sha256
from softprompt.rayjob.documents import FileTable, JobRequest, JobResult, StoredFile
from softprompt.storage import filesystem_of, write_whole

FRESH = timedelta(days=1)
"""An input that was put there earlier is put there again, so that no lifecycle rule takes it away while it is used."""
_PIECE_BYTES = 1024 * 1024
_D = TypeVar("_D", bound=Document)


class Exchange:
    """The folder of one RayJob in object storage.

    Args:
        storage: `s3://BUCKET/PREFIX`, or a folder that all pods see.
        job: The RayJob's name.
    """

    def __init__(self, storage: str, job: str) -> None:
        self._filesystem, root = filesystem_of(storage)
        self._inputs, self._folder = f"{root}/rayjobs/inputs", f"{root}/rayjobs/{job}"
        self.where = f"{storage.rstrip('/')}/rayjobs/{job}"

    def put_request(self, request: JobRequest, inputs: Mapping[str, Path]) -> None:
        """Put a request and the files that it names there.

        Raises:
            StoreUnavailable: The storage does not take them.
        """
        for name, table in request.inputs.items():
            self._put_files(self._inputs, table, inputs[name])
        self._put("request.json", request.to_bytes())
        with self._errors("forget a failure"), suppress(FileNotFoundError):
            self._filesystem.delete_file(f"{self._folder}/failure.json")

    def request(self, digest: str) -> JobRequest:
        """The request with this digest.

        Raises:
            VerificationFailed: Another one is there, or none.
            StoreUnavailable: The storage does not answer.
        """
        found = self._document("request.json", JobRequest)
        actual = found.digest if found else "nothing"
        if found is None or actual != digest:
            raise VerificationFailed("The request of a RayJob is not there.", where=self.where, expected=digest, actual=actual)
        return found

    def take_inputs(self, table: FileTable, target: Path) -> None:
        """Copy an input's files to this machine; nothing is done where they are. Raises as `_take` does."""
        self._take(self._inputs, table, target)

    def put_result(self, request: str, outputs: Mapping[str, Path], result: JobResult) -> None:
        """Put outputs there, and then the manifest that names them.

        Args:
            request: Digest of the request.
            outputs: Files and folders by their names.
            result: Names them.

        Raises:
            StoreUnavailable: The storage does not take them.
        """
        assert result.request == request
        for name, table in result.outputs.items():
            self._put_files(f"{self._folder}/outputs", table, outputs[name])
        self._put("result.json", result.to_bytes())

    def result(self, request: str) -> JobResult | None:
        """The result for a request; None if there is none yet.

        Raises:
            VerificationFailed: It is no result, or answers another request.
            StoreUnavailable: The storage does not answer.
        """
        found = self._document("result.json", JobResult)
        if found and found.request != request:
            where = f"{self.where}/result.json"
            raise VerificationFailed("A result answers another request.", where=where, expected=request, actual=found.request)
        return found

    def take_outputs(self, table: FileTable, target: Path) -> None:
        """Copy an output's files to where they belong. Raises as `_take` does."""
        self._take(f"{self._folder}/outputs", table, target)

    def put_failure(self, failure: JobResult) -> None:
        """Note what a try ended with. StoreUnavailable: the storage does not take it."""
        self._put("failure.json", failure.to_bytes())

    def failure(self, request: str) -> JobResult | None:
        """What the last failed try of a request ended with, if it could say so. Raises as `result` does."""
        found = self._document("failure.json", JobResult)
        return found if found and found.request == request else None

    def say_waiting(self, sign: str) -> None:
        """Say that somebody waits; the sign is another each time. StoreUnavailable: the storage does not take it."""
        self._put("waiting", sign.encode())

    def waiting(self) -> str:
        """The last sign of somebody who waits. StoreUnavailable: the storage does not answer."""
        return (self._read("waiting", 1000) or b"").decode(errors="replace")

    def _document(self, name: str, kind: type[_D]) -> _D | None:
        data = self._read(name, kind.max_bytes)
        return None if data is None else kind.from_bytes(data, source=f"{self.where}/{name}")

    def _read(self, name: str, max_bytes: int) -> bytes | None:
        with self._errors(f"give {name}"):
            try:
                with self._filesystem.open_input_stream(f"{self._folder}/{name}") as file:
                    return bytes(file.read(max_bytes + 1))
            except FileNotFoundError:
                return None

    def _put(self, name: str, data: bytes) -> None:
        with self._errors(f"take {name}"):
            self._make(self._folder)
            write_whole(self._filesystem, f"{self._folder}/{name}", io.BytesIO(data))

    def _put_files(self, folder: str, table: FileTable, source: Path) -> None:
        with self._errors("take a file"):
            self._make(folder)
            for file in table:
                if not self._has(f"{folder}/{file.sha256}", file.length_bytes):
                    with (source / file.path).open("rb") as content:
                        write_whole(self._filesystem, f"{folder}/{file.sha256}", content)

    def _has(self, path: str, length_bytes: int) -> bool:
        (found,) = self._filesystem.get_file_info([path])
        return bool(found.is_file and found.size == length_bytes and datetime.now(UTC) - found.mtime < FRESH)

    def _make(self, folder: str) -> None:
        if isinstance(self._filesystem, fs.LocalFileSystem):  # S3 has no folders
            self._filesystem.create_dir(folder)

    def _take(self, folder: str, table: FileTable, target: Path) -> None:
        """Copy files to this machine, complete or not at all.

        Raises:
            VerificationFailed: A file is not there or is not what its name says.
            StoreUnavailable: The storage does not answer.
        """
        if target.exists() and table_of(target) == table:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft_beside(target) as draft:
            for file in table:
                path = draft / (file.path or "file")
                path.parent.mkdir(parents=True, exist_ok=True)
                self._copy(f"{folder}/{file.sha256}", file, path)
            if [file.path for file in table] == [""]:
                os.replace(draft / "file", target)
                return
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            keep(draft, target)

    def _copy(self, source: str, file: StoredFile, target: Path) -> None:
        digest, left = hashlib.sha256(), file.length_bytes + 1
        with self._errors("give a file"):
            try:
                with self._filesystem.open_input_stream(source) as stream, target.open("wb") as copy:
                    while left > 0 and (piece := stream.read(min(left, _PIECE_BYTES))):
                        left -= len(piece)
                        digest.update(piece)
                        copy.write(piece)
            except FileNotFoundError:
                raise VerificationFailed("A file of a RayJob is not in the storage.", where=source) from None
        if digest.hexdigest() != file.sha256:
            expected = f"sha256 {file.sha256}"
            raise VerificationFailed(
                "A file of a RayJob is not what its name says.", where=source, expected=expected, actual=digest.hexdigest()
            )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "Check SOFTPROMPT_CHECKPOINTS and the AWS_* settings."
            raise StoreUnavailable(
                f"The storage of RayJobs did not {doing}.", where=self.where, actual=str(error), hint=hint
            ) from None


def table_of(path: Path) -> FileTable:
    """The files of an input or output, in order of their paths.

    Args:
        path: A file or a folder.
    """
    if path.is_file():
        return (_stored("", path),)
    below = sorted(found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file())
    return tuple(_stored(name, path / PurePosixPath(name)) for name in below)


def _stored(name: str, path: Path) -> StoredFile:
    return StoredFile(path=name, sha256=file_sha256(path), length_bytes=path.stat().st_size)
