"""Where a run's checkpoints lie: one folder each, local or in S3, complete or absent, the newest complete one found again.

Not Ray Train's own checkpoint manager: it writes its index in place, and a run whose index was cut by a kill cannot be started
again. Here the folders themselves are the index. A folder is written manifest last, so whatever stops the writer, the folder has
a manifest and is complete, or it has none and is passed over for the one before it.
"""

import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from softprompt.errors import StoreUnavailable
from softprompt.storage import filesystem_of, write_whole
from softprompt.tuning.checkpoint import MANIFEST_FILE, load_checkpoint
from softprompt.tuning.population import PopulationState

NUM_KEPT = 2
"""The newest and the one before it, should the newest turn out to be damaged."""
_NAME = re.compile(r"checkpoint-(\d{6})-[0-9a-f]{8}")


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        storage: A folder that all workers see, or `s3://BUCKET/PREFIX`.
        run: Name of the run's own folder in it.
    """

    def __init__(self, storage: str, run: str) -> None:
        self.filesystem, self.root = filesystem_of(storage)
        self._folder = f"{self.root}/{run}"
        self.where = f"{storage.rstrip('/')}/{run}"

    def names(self) -> list[str]:
        """Checkpoints, complete or not, the newest first.

        Raises:
            StoreUnavailable: The storage does not answer.
        """
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        except OSError as error:
            raise self._unavailable("list checkpoints", error) from None
        names = [Path(info.path).name for info in found if info.type == fs.FileType.Directory]
        return sorted((name for name in names if _NAME.fullmatch(name)), reverse=True)

    def put(self, folder: Path, number: int) -> str:
        """Copy a checkpoint into the storage, its manifest last, and remove those that are no longer needed.

        Args:
            folder: Holds the checkpoint's files.
            number: Counts a run's checkpoints; a state comes under the same number however often the run was resumed.

        Returns:
            Its name. It is never one that was used before: a worker that was given up may still be writing.

        Raises:
            StoreUnavailable: The storage does not take it.
        """
        name = f"checkpoint-{number:06d}-{uuid.uuid4().hex[:8]}"
        try:
            self.filesystem.create_dir(f"{self._folder}/{name}")
            for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
                with path.open("rb") as content:
                    write_whole(self.filesystem, f"{self._folder}/{name}/{path.name}", content)
            self._remove_before(number)
        except OSError as error:
            raise self._unavailable("keep a checkpoint", error) from None
        return name

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """A checkpoint's files in a folder of this machine; empty if the checkpoint has been removed.

        Raises:
            StoreUnavailable: The storage does not give them.
        """
        with tempfile.TemporaryDirectory(prefix="softprompt-checkpoint-") as folder:
            try:
                fs.copy_files(f"{self._folder}/{name}", folder, self.filesystem, fs.LocalFileSystem(), use_threads=False)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise self._unavailable("give a checkpoint", error) from None
            yield Path(folder)

    def load(self, name: str) -> tuple[PopulationState, dict[str, Any]] | None:
        """The state and facts in a checkpoint; None if it is not complete.

        Raises:
            StoreUnavailable: The storage does not give it.
        """
        with self.local(name) as folder:
            return load_checkpoint(folder)

    def _remove_before(self, number: int) -> None:
        for name in self.names():
            if number_of(name) <= number - NUM_KEPT:
                self.filesystem.delete_dir(f"{self._folder}/{name}")

    def _unavailable(self, doing: str, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"The storage of checkpoints did not {doing}.", where=self.where, actual=str(error))


def number_of(name: str) -> int:
    """A checkpoint's number."""
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return int(match[1])
