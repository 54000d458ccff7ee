"""The application that commands register with."""

from typing import Annotated

import typer

from softprompt import __version__

EXIT_CODES = """
Exit codes: 0 done · 1 a fault of ours · 2 the recipe or the command is wrong · 3 the dataset is refused ·
4 the gates rejected the prompt · 5 a service failed · 6 the gates could not decide · 7 the outcome of a publish is unknown
"""

app = typer.Typer(
    name="softprompt",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Tune tiny soft prompts for one frozen language model: from a labelled dataset to a prompt that is served."
    "\n\nBegin with [bold]softprompt demo[/], which needs no network, no cluster and no arguments.",
    epilog=EXIT_CODES,
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `softprompt` command."""
    app()
