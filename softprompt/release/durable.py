"""Small files that survive a kill at any moment: written whole or not at all, and locks that end with their owner.

Journals, high-water marks and private keys live in such files. What they mean is their owners' business.
"""

import fcntl
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from softprompt.errors import InvalidRequest, ServiceUnavailable

LOCK_TIMEOUT_SECONDS = 120.0


def write_durably(path: Path, data: bytes, *, mode: int = 0o644, flushed: bool = True) -> None:
    """Replace a file in one step; a reader sees the old bytes or the new, also after a power cut.

    Args:
        path: Its folder is made if need be.
        data: The whole new content.
        mode: Permissions, set before the first byte is written.
        flushed: Whether it is on the disk afterwards; else a power cut may leave anything of it, until `flush` is called.

    Raises:
        InvalidRequest: The folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if flushed:
                os.fsync(file.fileno())
        draft.replace(path)
        if flushed:
            _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise InvalidRequest("A file cannot be written.", where=str(path), actual=str(error)) from None


def flush(paths: Collection[Path]) -> None:
    """Bring files onto the disk that were written without; many at once cost little more than one does.

    Raises:
        InvalidRequest: One of them cannot be.
    """
    for path in (*paths, *{path.parent for path in paths}):
        try:
            _sync(path)
        except OSError as error:
            raise InvalidRequest("A file cannot be written.", where=str(path), actual=str(error)) from None


def remove_durably(path: Path) -> None:
    """Take a file away so that it does not come back, also after a power cut. InvalidRequest: it cannot be taken away."""
    try:
        path.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise InvalidRequest("A file cannot be taken away.", where=str(path), actual=str(error)) from None


def read_if_there(path: Path) -> bytes | None:
    """The bytes of a file, or None if there is no such file.

    Raises:
        InvalidRequest: It is there and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidRequest("A file cannot be read.", where=str(path), actual=str(error)) from None


@contextmanager
def file_lock(path: Path, *, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold a lock that other processes and threads wait for; the system frees it when its holder dies.

    Raises:
        ServiceUnavailable: Somebody else kept it for longer than `timeout_seconds`.
    """
    descriptor = open_lock(path)
    try:
        wait_for_lock(descriptor, path, timeout_seconds=timeout_seconds)
        yield
    finally:
        unlock(descriptor)


def open_lock(path: Path) -> int:
    """An open file to put `flock` locks on, its owner's only. InvalidRequest: the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidRequest("A lock file cannot be made.", where=str(path), actual=str(error)) from None


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take a lock if it is free now."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int, path: Path, *, shared: bool = False, timeout_seconds: float = LOCK_TIMEOUT_SECONDS) -> None:
    """Take a lock as soon as it is free.

    Raises:
        ServiceUnavailable: Somebody else kept it for longer than `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    while not try_lock(descriptor, shared=shared):
        if time.monotonic() > deadline:
            raise ServiceUnavailable(
                f"Another softprompt command has held a lock for more than {timeout_seconds:.0f} s.",
                where=str(path),
                hint="Wait for that command, or end it; the lock goes with it.",
            )
        time.sleep(0.02)


def unlock(descriptor: int) -> None:
    """Give a lock back and close its file; by hand, because a forked child may still have the file open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _sync(path: Path) -> None:
    """A file, or a folder: a rename is only durable once the folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
