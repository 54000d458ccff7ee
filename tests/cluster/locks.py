"""Locks between the test runs of one machine, which share its cluster and its image store. `flock FILE` takes the same ones."""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

Name = Literal["cluster", "nodes", "image"]
"""`cluster`: it is being started. `nodes`: somebody crashes nodes or changes what all share. `image`: images are being built."""


@contextmanager
def lock(name: Name) -> Iterator[None]:
    """Wait for a lock and hold it."""
    with _file(name) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:  # a child that was forked meanwhile would keep it
            fcntl.flock(file, fcntl.LOCK_UN)


def is_free(name: Name) -> bool:
    """Whether nobody holds a lock."""
    with _file(name) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(file, fcntl.LOCK_UN)
        return True


def _file(name: Name) -> TextIO:
    return (Path(tempfile.gettempdir()) / f"{name}.lock").open("a")
