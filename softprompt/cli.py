"""The command line. Thin: each command reads its arguments, calls the library, and shows the result.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from softprompt import __version__
from softprompt.errors import InvalidRequest, SoftpromptError
from softprompt.settings import Settings

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
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

Json = Annotated[Path | None, typer.Option("--json", help="Write a summary of the run to this file.", metavar="FILE")]
Base = Annotated[
    str, typer.Option("--base-model", help="Another base model: embedded://, file://, s3:// or hf://org/name@revision.")
]


@app.command(epilog="Example: [bold]softprompt demo --json summary.json[/]")
def demo(json_file: Json = None) -> None:
    """Run the whole line on embedded data: validate, tune, evaluate, register, publish, and ask the result.

    A frozen model of a million parameters learns to route support tickets with 20 soft-prompt tokens. Everything it leaves
    lies in .softprompt/ and can be deleted.
    """
    summary = _run_pipeline({"recipe": "demo"}, json_file)
    if summary.generation:
        console.print(
            f'\nAsk it:               softprompt ask "My parcel has not arrived yet" --prompt {summary.name} --compare'
            "\nSee what it learned:  softprompt inspect",
            highlight=False,
            soft_wrap=True,
        )
    raise typer.Exit(summary.exit_code)


@app.command(
    epilog="Examples: [bold]softprompt run my-recipe.yaml --estimate[/] · [bold]softprompt run demo --kind deep --seed 1[/]"
)
def run(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file, or the name of a packaged one: demo, demo-replies, demo-faq, demo-answers, ....")
    ],
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what the run would take, and stop.")] = False,
    json_file: Json = None,
    base_model: Base = "",
    dataset: Annotated[str, typer.Option(help="Another dataset: a path, file:// or s3://.")] = "",
    channel: Annotated[str, typer.Option(help="Another channel.")] = "",
    kind: Annotated[str, typer.Option(help="Another kind of prompt: shallow or deep.", show_default="the recipe's")] = "",
    num_tokens: Annotated[int, typer.Option(help="Another prompt length.", show_default="the recipe's")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed.", show_default="the recipe's")] = -1,
    num_workers: Annotated[int, typer.Option(help="Ray Train workers.", show_default="the recipe's")] = 0,
) -> None:
    """Run a recipe from dataset to published prompt.

    The recipe is checked before anything starts; `softprompt schema` prints what it may say. With --estimate you learn
    rows, steps, tokens, time, memory and bytes first.
    """
    with _readable_errors():
        overrides: dict[str, Any] = {
            "base_model": base_model,
            "channel": channel,
            "dataset": _absolute(dataset),
            "num_tokens": num_tokens,
            "num_workers": num_workers,
            "prompt_kind": kind,
            "seed": seed,
        }
        if estimate:
            _print_estimate(recipe, overrides)
            return
    summary = _run_pipeline({"recipe": recipe} | overrides, json_file)
    raise typer.Exit(summary.exit_code)


@app.command(
    epilog="Example: [bold]softprompt validate tickets.csv --recipe my-recipe.yaml --html report.html --fix clean.csv[/]"
)
def validate(
    recipe: Annotated[
        str,
        typer.Option("--recipe", help="The recipe that says what the columns mean: a file or a packaged name.", metavar="RECIPE"),
    ],
    data: Annotated[str, typer.Argument(help="The dataset: a path, or a URI as in a recipe.", show_default="the recipe's")] = "",
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as a page to this file.", metavar="FILE")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file.", metavar="FILE")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            "--fix",
            help="Write the rows that can stay to this file (.jsonl, .csv, .parquet), and why each other one cannot beside it.",
            metavar="FILE",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --fix replace files that are there.")] = False,
) -> None:
    """Check a dataset as the pipeline would, without a pipeline: what would ruin a prompt, and in which rows.

    Ends with 0 if a prompt can be trained on it and with 3 if not. With --fix that is said of the cleaned set; the source is
    never changed.
    """
    from softprompt.data.terminal import print_mended, print_report
    from softprompt.validate import validate_here

    with _readable_errors():
        _refuse_missing_folders(html, json_file)
        with errors.status("looking at the dataset") as status:
            done = validate_here(
                recipe,
                _absolute(data),
                html=html,
                json_file=json_file,
                fix=fix,
                overwrite=overwrite,
                told=lambda line: status.update(escape(line)),
            )
        print_report(done.report, console)
        if done.mended:
            print_mended(done.mended, console)
        if html:
            console.print(f"\n[dim]{'page':<10}[/]{escape(str(html))}", highlight=False, soft_wrap=True)
    raise typer.Exit(done.exit_code)


@app.command(
    "compile", epilog="Example: [bold]softprompt compile prompt-tuning.yaml --image registry.example/steps@sha256:...[/]"
)
def compile_(
    package: Annotated[Path, typer.Argument(help="File to write.")] = Path("prompt-tuning.yaml"),
    image: Annotated[str, typer.Option(help="Image of every step, best by digest.")] = "",
) -> None:
    """Write the pipeline as the IR YAML that Kubeflow Pipelines runs.

    Upload it in the Kubeflow UI, or with `kfp pipeline create`.
    """
    from components import IMAGE
    from pipelines.compile import compile_pipeline

    with _readable_errors():
        compile_pipeline(package, image=image or IMAGE)
        console.print(f"wrote {package}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: [bold]softprompt schema > recipe.schema.json[/]")
def schema() -> None:
    """Print the JSON Schema of a recipe.

    Editors use it to complete and check: put `# yaml-language-server: $schema=recipe.schema.json` into a recipe's first line.
    """
    from softprompt.recipe_reader import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))


@app.command(epilog='Example: [bold]softprompt ask "My parcel has not arrived" --prompt support-triage --compare[/]')
def ask(
    text: Annotated[str, typer.Argument(help="The input text.")],
    prompt: Annotated[str, typer.Option(help="Name of the prompt.")],
    channel: Annotated[str, typer.Option(help="Channel to follow.")] = "laptop",
    base_model: Base = "",
    compare: Annotated[bool, typer.Option("--compare", help="Show the bare base's answer beside it.")] = False,
) -> None:
    """Answer one text with a prompt that a channel serves.

    Follows the channel as a serving node does: verifies signature, digests and base fingerprint, then answers. A prompt with
    several input columns takes the text as JSON: '{"subject": "...", "body": "..."}'.
    """
    from softprompt.ask import ask_prompt
    from softprompt.deployment import laptop

    with _readable_errors(), laptop(Settings.from_environment()):
        answer = ask_prompt(Settings.from_environment(), channel, prompt, text, base_uri=base_model, compare=compare)
    console.print(answer.soft_prompt, style="bold", markup=False, highlight=False, soft_wrap=True)
    if answer.confidence:
        console.print(f"[dim]confidence {answer.confidence:.2f}[/]", highlight=False)
    if compare:
        console.print(f"[dim]bare base:[/] {escape(answer.bare_base)}", highlight=False, soft_wrap=True)
    console.print(f"[dim]prompt sha256:{answer.digest[:12]}, {channel} generation {answer.generation}[/]", highlight=False)
    for alarm in answer.alarms:
        errors.print(alarm, style="yellow", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Examples: [bold]softprompt inspect[/] · [bold]softprompt inspect support-triage --html inspect.html[/]")
def inspect(
    prompt: Annotated[
        str, typer.Argument(help="A prompt's directory, its recipe's name, or its digest.", show_default="the newest run's")
    ] = "",
    base: Annotated[str, typer.Option(help="Its base model.", show_default="as its run says, else embedded://base")] = "",
    dataset: Annotated[
        str, typer.Option(help="A file with rows that are to pay attention.", show_default="its run's validation rows")
    ] = "",
    rows: Annotated[int, typer.Option(help="How many of these rows, at most.", min=1)] = 64,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures to this file.", metavar="FILE")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all the numbers to this file.", metavar="FILE")] = None,
) -> None:
    """Say what a prompt learned: nearest tokens, norms, where it lies, and the attention that real rows pay to it.

    Each vector is compared with every token of the vocabulary (a deep one layer by layer, with the values that tokens have
    there); the attention comes from the base model's own weights while it reads the rows.
    """
    from softprompt.inspect_prompt import inspect_named_prompt
    from softprompt.inspection.report import write_inspection_report
    from softprompt.inspection.terminal import print_inspection

    with _readable_errors():
        _refuse_missing_folders(html, json_file)
        with errors.status("loading the base model") as status:
            found = inspect_named_prompt(
                Settings.from_environment(),
                prompt,
                base_uri=base,
                dataset=_absolute(dataset),
                num_rows=rows,
                progress=lambda done, total: status.update(f"{done:,} of {total:,} tokens of the vocabulary read"),
            )
        print_inspection(found, console)
        if html:
            write_inspection_report(html, found)
            console.print(f"\n[dim]page[/] {escape(str(html))}", highlight=False, soft_wrap=True)
        if json_file:
            json_file.write_text(json.dumps(found.model_dump(mode="json"), indent=2) + "\n")


@app.command(
    epilog="Examples: [bold]softprompt compare support-triage@1 support-triage@2[/] · "
    "[bold]softprompt compare old/gate_report.json support-triage --html changes.html[/]"
)
def compare(
    before: Annotated[str, typer.Argument(help="NAME@VERSION in the registry, a gate_report.json, a prompt's name or digest.")],
    after: Annotated[str, typer.Argument(help="The same, for the version to compare it with.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures to this file.", metavar="FILE")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all the numbers to this file.", metavar="FILE")] = None,
) -> None:
    """Put the evaluations of two versions side by side, on the test rows that both have answered.

    Says which differences are more than noise, which gates changed, and which rows were won and lost. A digest, or the name of a
    recipe (its newest run), is looked up among the runs on this machine.
    """
    from softprompt.compare import compare_named, print_comparison
    from softprompt.evaluation.report.compare import write_comparison

    with _readable_errors():
        found = compare_named(Settings.from_environment(), before, after)
        if html:
            write_comparison(html, found)
        if json_file:
            json_file.write_bytes(found.to_bytes())
        print_comparison(found, console)
        if html:
            console.print(f"wrote {html}", markup=False, highlight=False, soft_wrap=True)


@app.command(epilog="Example: [bold]softprompt status --channel laptop[/]")
def status(channel: Annotated[str, typer.Option(help="Channel to look at.")] = "laptop") -> None:
    """Say what a channel serves, and what the last runs here came to."""
    from softprompt.deployment import channel_reader, laptop

    settings = Settings.from_environment()
    with _readable_errors(), laptop(settings):
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
        errors.print(alarm, style="yellow", markup=False, highlight=False, soft_wrap=True)
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

    with _readable_errors(), laptop(Settings.from_environment()):
        serve_channel(Settings.from_environment(), channel, base_model, host, port)


@app.command(epilog="Example: [bold]softprompt ui --port 5001 --no-open[/]")
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
) -> None:
    """Show the registry of this laptop in MLflow's web interface, until Ctrl-C."""
    from softprompt.embedded.mlflow import serve_ui

    with _readable_errors():
        serve_ui(
            Settings.from_environment(),
            port,
            open_browser=open_browser,
            tell=lambda line: console.print(line, markup=False, highlight=False),
        )


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point of the `softprompt` command."""
    app()


def _run_pipeline(arguments: dict[str, Any], json_file: Path | None) -> Any:
    """Run the pipeline with a live display, print the summary, write it as JSON; returns the summary."""
    from softprompt.laptop_run import run_on_laptop
    from softprompt.run_summary import print_summary

    with _readable_errors():
        if json_file and not json_file.absolute().parent.is_dir():
            raise InvalidRequest("There is no such folder to write the summary to.", where=str(json_file.absolute().parent))
        summary = run_on_laptop(arguments, Settings.from_environment(), console)
        if json_file:
            json_file.write_text(json.dumps(summary.model_dump(mode="json"), indent=2) + "\n")
        print_summary(summary, console)
        return summary


def _print_estimate(recipe: str, overrides: dict[str, Any]) -> None:
    from softprompt.resolve import Overrides, resolve_recipe
    from softprompt.tuning.estimate import estimate_run

    found = estimate_run(resolve_recipe(recipe, Overrides(**overrides)))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in found.lines():
        table.add_row(f"[dim]{name}[/]", value)
    console.print(table, highlight=False)


def _print_runs(settings: Settings, most: int = 5) -> None:
    summaries = sorted(settings.runs.glob("*/summary.json"))[-most:]
    if summaries:
        table = Table("run", "recipe", "verdict", "version", "seconds", box=None, header_style="dim")
        for path in reversed(summaries):
            found = json.loads(path.read_bytes())
            table.add_row(path.parent.name, found["name"], found["verdict"], found["version"], f"{found['total_seconds']:.0f}")
        console.print()
        console.print(table, highlight=False)


def _refuse_missing_folders(*files: Path | None) -> None:
    """A page that cannot be written is found out before the work."""
    for file in filter(None, files):
        if not file.absolute().parent.is_dir():
            raise InvalidRequest("There is no such folder to write to.", where=str(file.absolute().parent))


def _absolute(path_or_uri: str) -> str:
    """A path on the command line counts from here, not from the recipe's folder."""
    return str(Path(path_or_uri).absolute()) if path_or_uri and "://" not in path_or_uri else path_or_uri


@contextmanager
def _readable_errors() -> Iterator[None]:
    """An error of ours as its message and exit code; a stack trace for faults of ours only."""
    try:
        yield
    except SoftpromptError as error:
        if error.exit_code == 1:
            traceback.print_exc()
        errors.print(f"[red]{type(error).__name__}[/]", highlight=False)
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        errors.print("interrupted; a new run starts afresh", highlight=False)
        sys.exit(130)
