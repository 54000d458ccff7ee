"""Commands about one prompt, or two: ask it, look into it, compare it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from softprompt.cli.app import app
from softprompt.cli.terminal import Base, absolute, console, problems, readable_errors, refuse_missing_folders
from softprompt.settings import Settings


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

    with readable_errors(), laptop(Settings.from_environment()):
        answer = ask_prompt(Settings.from_environment(), channel, prompt, text, base_uri=base_model, compare=compare)
    console.print(answer.soft_prompt, style="bold", markup=False, highlight=False, soft_wrap=True)
    if answer.confidence:
        console.print(f"[dim]confidence {answer.confidence:.2f}[/]", highlight=False)
    if compare:
        console.print(f"[dim]bare base:[/] {escape(answer.bare_base)}", highlight=False, soft_wrap=True)
    console.print(f"[dim]prompt sha256:{answer.digest[:12]}, {channel} generation {answer.generation}[/]", highlight=False)
    for alarm in answer.alarms:
        problems.print(alarm, style="yellow", markup=False, highlight=False, soft_wrap=True)


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

    with readable_errors():
        refuse_missing_folders(html, json_file)
        with problems.status("loading the base model") as status:
            found = inspect_named_prompt(
                Settings.from_environment(),
                prompt,
                base_uri=base,
                dataset=absolute(dataset),
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

    with readable_errors():
        found = compare_named(Settings.from_environment(), before, after)
        if html:
            write_comparison(html, found)
        if json_file:
            json_file.write_bytes(found.to_bytes())
        print_comparison(found, console)
        if html:
            console.print(f"wrote {html}", markup=False, highlight=False, soft_wrap=True)
