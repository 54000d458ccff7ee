"""`softprompt review`: look at versions in the registry and decide about them, from a terminal."""

import json
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from softprompt.cli.app import app
from softprompt.cli.terminal import console, plain, print_table, problems, readable_errors
from softprompt.settings import Settings

if TYPE_CHECKING:
    from softprompt.registry_review import ReviewedVersion
    from softprompt.release.audit.report import AuditReport
    from softprompt.review import Decided

COLOURS = {"approved": "green", "rejected": "red", "pending": "yellow"}

review = typer.Typer(no_args_is_help=True, help="Decide about registered versions; every decision is signed and kept.")
app.add_typer(review, name="review")

Version = Annotated[str, typer.Argument(help="Which one.", metavar="NAME@VERSION")]
Note = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]
Reviewer = Annotated[str, typer.Option(help="Who decides.", show_default="git config, else the user's name")]
Channel = Annotated[str, typer.Option(help="In whose log.", show_default="the channel that the version's run meant it for")]
Key = Annotated[
    str,
    typer.Option("--key", help="Your private key: a PEM file, or a key service's URI.", show_default="audit-<channel>.pem here"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@review.command("list", epilog="Examples: [bold]softprompt review list[/] · [bold]softprompt review list support-triage --all[/]")
def list_(
    name: Annotated[str, typer.Argument(help="Of one prompt.", show_default="all prompts")] = "",
    every: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the versions that wait for a decision, the newest first."""
    from softprompt.registry_review import versions_to_review

    with readable_errors():
        found = versions_to_review(Settings.from_environment().tracking_uri, name=name, every=every)
    if as_json:
        print(json.dumps([version.model_dump(mode="json", exclude={"page"}) for version in found], indent=2, ensure_ascii=False))
        return
    if not found:
        console.print("Nothing waits for a decision." if not every else "There is no version.", highlight=False)
        return
    table = Table("version", "verdict", "against", "channel", "review", "age", box=None, header_style="dim", pad_edge=False)
    for version in found:
        table.add_row(
            escape(f"{version.name}@{version.version}"),
            escape(plain(version.verdict)),
            escape(plain(version.lead)),
            escape(plain(version.channel)),
            _status(version),
            _age(time.time() - version.created),
        )
    print_table(table)


@review.command(epilog="Example: [bold]softprompt review show support-triage@3[/]")
def show(version: Version, as_json: AsJson = False) -> None:
    """Show a version's review page, and what was decided about it."""
    from softprompt.registry_review import version_to_review
    from softprompt.review import parse_version

    with readable_errors():
        found = version_to_review(Settings.from_environment().tracking_uri, *parse_version(version))
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False))
        return
    console.print(f"[bold]{escape(version)}[/]  {_status(found)}", highlight=False)
    _print_decision(found)
    console.print()
    console.print(Markdown(plain(found.page), hyperlinks=False))


@review.command(epilog='Example: [bold]softprompt review approve support-triage@3 --note "better on short messages"[/]')
def approve(version: Version, note: Note = "", reviewer: Reviewer = "", channel: Channel = "", key: Key = "") -> None:
    """Approve a version: a signed record in the store, then its tags in MLflow.

    Nothing is served by that. The merged pull request is the approval; a channel's policy may ask for this one too.
    """
    _decide(version, "approved", note, reviewer, channel, key)


@review.command(epilog='Example: [bold]softprompt review reject support-triage@3 --note "worse for Spanish"[/]')
def reject(version: Version, note: Note = "", reviewer: Reviewer = "", channel: Channel = "", key: Key = "") -> None:
    """Reject a version: a signed record in the store, then its tags in MLflow."""
    _decide(version, "rejected", note, reviewer, channel, key)


@review.command(epilog="Example: [bold]softprompt review record --channel staging[/]")
def record(
    name: Annotated[str, typer.Argument(help="Of one prompt.", show_default="all prompts")] = "",
    channel: Channel = "",
    key: Key = "",
) -> None:
    """Record the decisions that were made in MLflow, by setting tags, with the registry's key.

    The record says what the tags say. Its key vouches for having seen them, not for who set them.
    """
    from softprompt.deployment import laptop
    from softprompt.review import record_by_hand

    with readable_errors(), laptop(Settings.from_environment()):
        done = record_by_hand(Settings.from_environment(), name=name, channel=channel, key=key)
    for one in done:
        made, judgement = one.recorded.record, one.recorded.record.judgement
        told = f"{judgement.name}@{judgement.model_version} {judgement.decision} by {judgement.reviewer}"
        console.print(escape(plain(f"{told}: {made.channel}, number {made.number}")), highlight=False, soft_wrap=True)
    if not done:
        console.print("Every decision has its record.", highlight=False)


@review.command(epilog="Examples: [bold]softprompt review log[/] · [bold]softprompt review log --channel staging --json[/]")
def log(
    channel: Annotated[str, typer.Option(help="Whose log.")] = "laptop",
    as_json: AsJson = False,
) -> None:
    """Verify the chain of a channel's decisions and list them. Ends with 5 if something in it is broken."""
    from softprompt.deployment import laptop
    from softprompt.review import decisions

    with readable_errors(), laptop(Settings.from_environment()):
        report = decisions(Settings.from_environment(), channel)
    if as_json:
        print(json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False))
    else:
        _print_log(report)
    raise typer.Exit(0 if report.whole else 5)


def _decide(version: str, decision: Literal["approved", "rejected"], note: str, reviewer: str, channel: str, key: str) -> None:
    from softprompt.deployment import laptop
    from softprompt.review import decide, reviewer_here

    with readable_errors(), laptop(Settings.from_environment()):
        who, source = (reviewer, "--reviewer") if reviewer else reviewer_here()
        settings = Settings.from_environment()
        done = decide(settings, version, decision, note=note, reviewer=who, channel=channel, key=key)
    _print_decided(done, decision, f"{who} (by {source})")


def _print_decided(done: "Decided", decision: str, who: str) -> None:
    found, record = done.version, done.recorded.record
    name = escape(f"{found.name}@{found.version}")
    if not done.made:
        console.print(f"{name} is {decision} already, by the same reviewer with the same note; nothing changed.", highlight=False)
    else:
        console.print(f"[{COLOURS[decision]}]{decision}[/] {name}", highlight=False)
    facts = {
        "reviewer": who,
        "signed by": f"key {done.recorded.key_id[:12]}" + (f", {done.recorded.holder}" if done.recorded.holder else ""),
        "record": f"{record.channel}, number {record.number}, {record.decided}",
    }
    if done.made and found.is_decided:
        facts["before"] = f"it was {found.status} by {found.reviewer or 'somebody who left no name'}; that record stays"
    if found.verdict == "undecided" and decision == "approved":
        facts["verdict"] = "the gates could not decide; a channel's policy says whether such a prompt may be published"
    for title, fact in facts.items():
        console.print(f"[dim]{title:<11}[/]{escape(plain(fact))}", highlight=False, soft_wrap=True)
    if decision == "approved":
        command = f"softprompt release propose {found.name} {found.version} --channel {record.channel}"
        console.print(
            f"\nNothing is served by that. The pull request: [bold]{escape(command)}[/]", highlight=False, soft_wrap=True
        )


def _print_decision(found: "ReviewedVersion") -> None:
    if found.is_decided:
        signed = f"signed, record {found.record}" if found.is_signed else "not signed: the tag was set by hand"
        told = f"by {found.reviewer or 'somebody who left no name'}; {signed}" + (f'; "{found.note}"' if found.note else "")
        console.print(escape(plain(told)), highlight=False, soft_wrap=True)
    if found.evaluated_since:
        problems.print("It was evaluated again since: the page is newer than the decision.", style="yellow", highlight=False)


def _print_log(report: "AuditReport") -> None:
    table = Table(
        "number", "decided", "version", "decision", "reviewer", "key", "note", box=None, header_style="dim", pad_edge=False
    )
    for entry in report.entries:
        record, judgement = entry.record, entry.record.judgement
        table.add_row(
            str(record.number),
            record.decided,
            escape(plain(f"{judgement.name}@{judgement.model_version} {judgement.prompt[:12]}")),
            f"[{COLOURS[judgement.decision]}]{judgement.decision}[/]",
            escape(plain(judgement.reviewer)),
            escape(plain(f"{entry.key[:12]} {entry.holder}".strip())),
            escape(plain(judgement.note)),
        )
    if report.entries:
        print_table(table)
    for problem in report.problems:
        told = " (later records pass over it)" if problem.passed_over else ""
        problems.print(f"number {problem.number}: {problem.what}{told}", style="yellow" if told else "red", markup=False)
        for title, fact in problem.facts.items():
            problems.print(f"  {title + ':':<10}{plain(fact)}", markup=False, highlight=False, soft_wrap=True)
    count = f"{len(report.entries)} decision{'' if len(report.entries) == 1 else 's'}"
    verdict = "the chain is whole" if report.whole else "[red]the chain is broken[/]"
    console.print(f"{count} of channel {report.channel}; {verdict}.", highlight=False)


def _status(found: "ReviewedVersion") -> str:
    told = escape(plain(found.status or "not set"))
    colour = COLOURS.get(found.status, "yellow")
    unsigned = " [dim](unsigned)[/]" if found.is_decided and not found.is_signed else ""
    return f"[{colour}]{told}[/]{unsigned}"


def _age(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return "just now" if seconds < 60 else "a minute"
