"""Commands about what is served, and where people look."""

import json
from typing import Annotated

import typer
from rich.table import Table

from softprompt.cli.app import app
from softprompt.cli.terminal import Base, console, problems, readable_errors
from softprompt.settings import Settings


@app.command(epilog="Example: [bold]softprompt status --channel laptop[/]")
def status(channel: Annotated[str, typer.Option(help="Channel to look at.")] = "laptop") -> None:
    """Say what a channel serves, and what the last runs here came to."""
    from softprompt.deployment import channel_reader, laptop

    settings = Settings.from_environment()
    with readable_errors(), laptop(settings):
        snapshot = channel_reader(Settings.from_environment(), channel).refresh()
    console.print(
        f"channel [bold]{channel}[/], generation {snapshot.generation}, "
        f"signed {snapshot.created}, fresh until {snapshot.expires}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("prompt", "digest", "base", "version", "verdict", box=None, header_style="dim")
    for name, served in sorted(snapshot.prompts.items()):
        for base, shares in served.bases.items():
            for share in shares:
                approval = snapshot.statement.state.approvals[share.prompt]
                table.add_row(name, share.prompt[:12], base[:12], approval.model_version, approval.verdict)
    console.print(table if snapshot.prompts else "it serves no prompt yet; `softprompt demo` publishes one", highlight=False)
    for alarm in snapshot.alarms:
        problems.print(alarm, style="yellow", markup=False, highlight=False, soft_wrap=True)
    _print_runs(settings)


@app.command()
def serve(
    channel: Annotated[str, typer.Option(help="Channel to follow.")] = "laptop",
    base_model: Base = "embedded://base",
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 only inside a pod, whose network is closed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port on that address.")] = 8000,
) -> None:
    """Serve a channel's prompts over HTTP: /v1/models, /v1/completions, /v1/classify; the prompt is chosen by `model`.

    A prompt that is published meanwhile is swapped in without a restart. Ctrl-C ends it.
    """
    from softprompt.deployment import laptop
    from softprompt.serve import serve_channel

    with readable_errors(), laptop(Settings.from_environment()):
        serve_channel(Settings.from_environment(), channel, base_model, host, port)


@app.command(epilog="Example: [bold]softprompt ui --port 5001 --no-open[/]")
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
) -> None:
    """Show the registry of this laptop in MLflow's web interface, until Ctrl-C."""
    from softprompt.embedded.mlflow import serve_ui

    with readable_errors():
        serve_ui(
            Settings.from_environment(),
            port,
            open_browser=open_browser,
            tell=lambda line: console.print(line, markup=False, highlight=False),
        )


def _print_runs(settings: Settings, most: int = 5) -> None:
    summaries = sorted(settings.runs.glob("*/summary.json"))[-most:]
    if summaries:
        table = Table("run", "recipe", "verdict", "version", "seconds", box=None, header_style="dim")
        for path in reversed(summaries):
            found = json.loads(path.read_bytes())
            table.add_row(path.parent.name, found["name"], found["verdict"], found["version"], f"{found['total_seconds']:.0f}")
        console.print()
        console.print(table, highlight=False)
