"""Where commands print, how they tell errors, and what paths on the command line mean."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from softprompt.errors import InvalidRequest, SoftpromptError

console = Console(emoji=False)
problems = Console(stderr=True, emoji=False)
UNCUT_COLUMNS = 200

Base = Annotated[
    str, typer.Option("--base-model", help="Another base model: embedded://, file://, s3:// or hf://org/name@revision.")
]

Channel = Annotated[str, typer.Option(help="Another channel.")]
Kind = Annotated[str, typer.Option(help="Another kind of prompt: shallow or deep.", show_default="the recipe's")]
NumTokens = Annotated[int, typer.Option(help="Another prompt length.", show_default="the recipe's")]
Seed = Annotated[int, typer.Option(help="Another seed.", show_default="the recipe's")]
NumWorkers = Annotated[int, typer.Option(help="Ray Train workers.", show_default="the recipe's")]


def print_table(table: Table) -> None:
    """Print a table; on its way into a file or a pipe no column is cut for a window that is not there."""
    wide = Console(file=console.file, width=max(console.width, UNCUT_COLUMNS), emoji=False)
    (console if console.is_terminal else wide).print(table, highlight=False)


def refuse_missing_folders(*files: Path | None) -> None:
    """A page that cannot be written is found out before the work."""
    for file in filter(None, files):
        if not file.absolute().parent.is_dir():
            raise InvalidRequest("There is no such folder to write to.", where=str(file.absolute().parent))


def refuse_occupied(folder: Path) -> None:
    """A folder that is to be written may be there, with nothing in it."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidRequest("There is something at the place to write to.", where=str(folder), hint="Name a new directory.")


def absolute(path_or_uri: str) -> str:
    """A path on the command line counts from here, not from the recipe's folder."""
    return str(Path(path_or_uri).absolute()) if path_or_uri and "://" not in path_or_uri else path_or_uri


def plain(text: str) -> str:
    """A text from elsewhere without characters that a terminal obeys: escape sequences, writing from right to left."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


@contextmanager
def readable_errors() -> Iterator[None]:
    """An error of ours as its message and exit code; a stack trace for faults of ours only."""
    try:
        yield
    except SoftpromptError as error:
        if error.exit_code == 1:
            traceback.print_exc()
        problems.print(f"[red]{type(error).__name__}[/]", highlight=False)
        problems.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        problems.print("interrupted; a new run starts afresh", highlight=False)
        sys.exit(130)
