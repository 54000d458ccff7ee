"""What was fetched is kept here between runs; each folder is complete or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where fetched files are kept between runs: `SOFTPROMPT_CACHE`, else the user's cache folder."""
    standard = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softprompt"
    return Path(os.environ.get("SOFTPROMPT_CACHE") or standard)


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """An empty folder, gone at the end unless it was renamed; what a killed process left under its name goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def draft_beside(target: Path) -> AbstractContextManager[Path]:
    """A folder to fill and then to `keep`; it goes if that does not happen.

    A draft is its maker's own; one that a killed process left is never taken for anything.
    """
    return fresh_folder(target.with_name(f".{target.name}.{os.getpid()}.part"))


def keep(draft: Path, target: Path) -> None:
    """Give a complete draft its name, unless another process was first: its copy is as complete as this one."""
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
