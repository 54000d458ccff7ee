"""What was fetched is kept here between runs; each folder is complete or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """Where fetched files are kept between runs: `SOFTPROMPT_CACHE`, else the user's cache folder."""
    standard = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "softprompt"
    return Path(os.environ.get("SOFTPROMPT_CACHE") or standard)


@contextmanager
def draft_beside(target: Path) -> Iterator[Path]:
    """A folder to fill and then to `keep`; it goes if that does not happen.

    A draft is its maker's own; one that a killed process left is never taken for anything.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def keep(draft: Path, target: Path) -> None:
    """Give a complete draft its name, unless another process was first: its copy is as complete as this one."""
    try:
        draft.rename(target)
    except OSError:
        if not target.is_dir():
            raise
