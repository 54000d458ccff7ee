"""Commands about what is served, and where people look."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from softprompt.cli.app import app
from softprompt.cli.terminal import Base, console, problems, readable_errors
from softprompt.errors import InvalidRequest
from softprompt.numerics import NUMERICS, parse_numerics
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


SERVE_EXAMPLES = """
Examples:

[bold]softprompt serve[/]   this laptop's channel and base model, on 127.0.0.1

[bold]softprompt serve --channel s3://prompts/fleet#production --base-model s3://prompts/bases/8b --dtype bfloat16
  --tokens tokens.yaml[/]

Then, with the official client:   [bold]OpenAI(base_url="http://127.0.0.1:8000/v1", api_key=TOKEN)[/]
"""


@app.command(epilog=SERVE_EXAMPLES)
def serve(
    channel: Annotated[
        str, typer.Option(help="Channel to follow: a name in the configured store, or s3://BUCKET/PREFIX#NAME.")
    ] = "laptop",
    base_model: Base = "embedded://base",
    dtype: Annotated[
        str,
        typer.Option(
            help=f"Number format of the base model: {', '.join(NUMERICS)}. One that the channel does not allow is refused."
        ),
    ] = "float32",
    device: Annotated[str, typer.Option(help="Where it runs: cpu, cuda, cuda:1.")] = "cpu",
    engine: Annotated[
        str,
        typer.Option(help="What writes: batch (softprompt's own), or vllm, for shallow prompts, where it is installed."),
    ] = "batch",
    bare_base: Annotated[
        str,
        typer.Option(
            help="Also answer with the base model without any prompt, by this name, such as base:8b. "
            "By default nobody can ask it."
        ),
    ] = "",
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 only inside a pod, whose network is closed.", rich_help_panel="Who may ask"
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port on that address.", rich_help_panel="Who may ask")] = 8000,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the sha256 of bearer tokens and the prompts that each may ask; read again when it changes. "
            "Without it everybody may ask everything.",
            rich_help_panel="Who may ask",
        ),
    ] = None,
    poll_seconds: Annotated[
        float,
        typer.Option(
            min=0.05, help="How often to look for a newer generation, a fifth more or less.", rich_help_panel="The channel"
        ),
    ] = 5.0,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder of this node's own: what it served last, so that it starts while the store is away. "
            "By default `node` in SOFTPROMPT_HOME.",
            rich_help_panel="The channel",
        ),
    ] = None,
    prompt_memory: Annotated[
        int, typer.Option(min=1, help="MiB for prompts that are ready; pinned ones always are.", rich_help_panel="Limits")
    ] = 512,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Answers under way at once; further requests wait.", rich_help_panel="Limits")
    ] = 128,
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; one more is told to come again (429).", rich_help_panel="Limits")
    ] = 512,
    queue_seconds: Annotated[
        float, typer.Option(min=0.0, help="How long one may wait before it is told so.", rich_help_panel="Limits")
    ] = 10.0,
    max_body_bytes: Annotated[
        int, typer.Option(min=1024, help="Largest request; a larger one is refused (413) unread.", rich_help_panel="Limits")
    ] = 1024 * 1024,
    max_input_tokens: Annotated[
        int, typer.Option(min=0, help="Longest input text; 0: as long as the base model reads.", rich_help_panel="Limits")
    ] = 0,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Longest answer that may be asked for.", rich_help_panel="Limits")
    ] = 4096,
    drain_seconds: Annotated[
        float, typer.Option(min=1, help="How long requests may go on after SIGTERM or Ctrl-C.", rich_help_panel="Limits")
    ] = 30.0,
    linger_seconds: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="How long after SIGTERM new requests are answered, too, before that: until every proxy has heard that this node "
            "is leaving. In a pod 5.",
            rich_help_panel="Limits",
        ),
    ] = 0.0,
    log_format: Annotated[
        str, typer.Option(help="json, text, or auto: text at a terminal. No log holds what clients send.")
    ] = "auto",
) -> None:
    """Serve a channel's prompts over HTTP, in OpenAI's form; the prompt is chosen by `model`.

    /v1/models, /v1/completions, /v1/chat/completions, /v1/classify, /metrics, /livez, /readyz, and a page at /.

    A prompt that is published meanwhile is verified, made ready and swapped in without a restart; what does not verify changes
    nothing. Unknown names are 404, never the bare base model. docs/serving.md says the rest.
    """
    from softprompt.deployment import laptop
    from softprompt.serve import ServeOptions, is_watched, serve_channel, split_channel

    with readable_errors():
        _refuse_other_words("--engine", engine, ("batch", "vllm"))
        _refuse_other_words("--log-format", log_format, ("auto", "json", "text"))
        name, settings = split_channel(channel, Settings.from_environment())
        settings = replace(settings, node_state_folder=state.absolute()) if state else settings
        from softprompt.serving.limits import Limits

        options = ServeOptions(
            channel=name,
            base_uri=base_model,
            dtype=parse_numerics(dtype, "--dtype"),
            device=device,
            engine="vllm" if engine == "vllm" else "batch",
            host=host,
            port=port,
            tokens=tokens,
            bare_base=bare_base,
            poll_seconds=poll_seconds,
            prompt_bytes=prompt_memory * 1024 * 1024,
            limits=Limits(
                max_body_bytes=max_body_bytes,
                max_input_tokens=max_input_tokens,
                max_new_tokens=max_new_tokens,
                max_rows=max_rows,
                max_waiting=max_waiting,
                queue_seconds=queue_seconds,
                drain_seconds=drain_seconds,
            ),
            linger_seconds=linger_seconds,
            json_logs=log_format == "json" or (log_format == "auto" and not is_watched()),
        )
        with laptop(settings):
            serve_channel(settings, options)


def _refuse_other_words(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InvalidRequest("An option has no such value.", where=option, expected=" or ".join(known), actual=given)


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
