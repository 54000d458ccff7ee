"""`softprompt release`: what a channel should serve, by pull request: propose, plan, apply, status."""

import typer

from softprompt.cli.app import app

release = typer.Typer(no_args_is_help=True, help="Bring approved prompts to a channel, by pull request.")
app.add_typer(release, name="release")
