"""A process that validates a dataset again and again, each time in a fork that dies: at a step, or after some seconds.

    python -m tests.validation_kills RESOLVED.json

It reads one command a line: `step N FOLDER` kills at the N-th step, `after SECONDS FOLDER` at a time, `whole FOLDER` never; and
answers each with `died` or `finished`. It validates once itself, so that forks find all modules imported.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from softprompt.data import validate
from softprompt.data.measure import Measurer
from softprompt.data.table import TableWriter
from softprompt.resolve import ResolvedRecipe

ROWS_A_STEP = 40


class Killer:
    """Counts steps, and kills its own process at one of them."""

    def __init__(self, at: int) -> None:
        self._left = at

    def step(self) -> None:
        """One more."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def around(self, owner: Any, name: str, *, every: int = 1) -> None:
        """Make a step before and after each call of a function, or of each n-th."""
        function, calls = getattr(owner, name), 0

        def stepping(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls % every:
                return function(*arguments, **options)
            self.step()
            result = function(*arguments, **options)
            self.step()
            return result

        setattr(owner, name, stepping)


def validate_into(folder: Path, resolved: ResolvedRecipe) -> None:
    """The step, as a container runs it."""
    validate.validate_dataset(resolved, folder / "dataset", folder / "dataset.html")


def count_steps(at: int) -> None:
    """Have the process die at a step: while reading, measuring, checking, writing the page, Parquet, the manifest, renaming."""
    killer = Killer(at)
    killer.around(TableWriter, "add", every=ROWS_A_STEP)
    killer.around(Measurer, "__call__")
    killer.around(validate, "run_checks")
    killer.around(validate, "write_dataset_page")
    killer.around(parquet.ParquetWriter, "write_batch")
    killer.around(parquet.ParquetWriter, "close")
    for name in ("write_bytes", "rename", "mkdir"):
        killer.around(Path, name)
    killer.around(shutil, "rmtree")


def forked(work: Callable[[], None], *, seconds: float | None = None) -> str:
    """Run in a child, and kill it after some seconds where they are given; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "died" if os.WTERMSIG(status) == signal.SIGKILL else "crashed"
    return "finished" if os.WEXITSTATUS(status) == 0 else "failed"


def main() -> None:
    """Answer commands until there are no more."""
    path = Path(sys.argv[1])
    resolved = ResolvedRecipe.from_bytes(path.read_bytes(), source=str(path))
    with redirect_stdout(sys.stderr):
        validate.validate_dataset(resolved, path.with_name("first"), path.with_name("first.html"))
    for line in sys.stdin:
        kind, *numbers, folder = line.rstrip("\n").split(" ")

        def work(kind: str = kind, numbers: list[str] = numbers, folder: str = folder) -> None:
            if kind == "step":
                count_steps(int(numbers[0]))
            validate_into(Path(folder), resolved)

        print(forked(work, seconds=float(numbers[0]) if kind == "after" else None), flush=True)


if __name__ == "__main__":
    main()
