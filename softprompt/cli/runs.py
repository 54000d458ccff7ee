"""Commands about datasets, recipes and runs of the pipeline."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from softprompt.cli.app import app
from softprompt.cli.terminal import (
    Base,
    Channel,
    Kind,
    NumTokens,
    NumWorkers,
    Seed,
    absolute,
    console,
    problems,
    readable_errors,
    refuse_missing_folders,
)
from softprompt.errors import InvalidRequest
from softprompt.settings import Settings

Json = Annotated[Path | None, typer.Option("--json", help="Write a summary of the run to this file.", metavar="FILE")]


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
    channel: Channel = "",
    kind: Kind = "",
    num_tokens: NumTokens = 0,
    seed: Seed = -1,
    num_workers: NumWorkers = 0,
) -> None:
    """Run a recipe from dataset to published prompt.

    The recipe is checked before anything starts; `softprompt schema` prints what it may say. With --estimate you learn
    rows, steps, tokens, time, memory and bytes first.
    """
    with readable_errors():
        overrides: dict[str, Any] = {
            "base_model": base_model,
            "channel": channel,
            "dataset": absolute(dataset),
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

    with readable_errors():
        refuse_missing_folders(html, json_file)
        with problems.status("looking at the dataset") as status:
            done = validate_here(
                recipe,
                absolute(data),
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


@app.command(epilog="Example: [bold]softprompt schema > recipe.schema.json[/]")
def schema() -> None:
    """Print the JSON Schema of a recipe.

    Editors use it to complete and check: put `# yaml-language-server: $schema=recipe.schema.json` into a recipe's first line.
    """
    from softprompt.recipe.reader import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))


def _run_pipeline(arguments: dict[str, Any], json_file: Path | None) -> Any:
    """Run the pipeline with a live display, print the summary, write it as JSON; returns the summary."""
    from softprompt.laptop_run import run_on_laptop
    from softprompt.run_summary import print_summary

    with readable_errors():
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
