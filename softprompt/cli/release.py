"""`softprompt release`: what a channel should serve, by pull request: propose, plan, apply, status."""

import signal
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from softprompt.cli.app import app
from softprompt.cli.terminal import console, problems, readable_errors, refuse_missing_folders
from softprompt.errors import InvalidRequest
from softprompt.settings import Settings

if TYPE_CHECKING:
    from softprompt.promotion import Applied, Offer, Wish
    from softprompt.release.promotion.plan_report import ChannelPlan

release = typer.Typer(no_args_is_help=True, help="Bring approved prompts to a channel, by pull request.")
app.add_typer(release, name="release")

Channel = Annotated[str, typer.Option("--channel", help="Channel of the fleet, such as staging.")]
Environments = Annotated[
    Path, typer.Option("--environments", help="Folder of the channels in a checkout of the promotion repository.", metavar="PATH")
]
Json = Annotated[Path | None, typer.Option("--json", help="Write all of it as JSON to this file.", metavar="FILE")]
HERE = Path("environments")
STYLES = {"title": "bold", "+": "green", "-": "red", "~": "yellow", "refused": "red", "warning": "yellow"}
MARKS = {"title": "", "refused": "  refused: ", "warning": "  warning: "}


@release.command(epilog="Example: [bold]softprompt release propose support-triage 3 --channel production --weight 10[/]")
def propose(
    name: Annotated[str, typer.Argument(help="Name that clients ask for.")],
    channel: Channel,
    version: Annotated[str, typer.Argument(help="Version in the registry.", show_default=False)] = "",
    repository: Annotated[
        Path, typer.Option("--repository", help="A checkout of the promotion repository.", metavar="PATH")
    ] = Path(),
    weight: Annotated[
        int, typer.Option("--weight", min=0, max=99, help="A canary: per cent of the requests on its base model.")
    ] = 0,
    shadow: Annotated[bool, typer.Option("--shadow", help="See requests without answering them.")] = False,
    pinned: Annotated[bool, typer.Option("--pinned", help="Warm before a node calls itself ready.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the name away.")] = False,
    base: Annotated[
        str, typer.Option("--base", help="Branch or commit to start from.", show_default="the remote's main branch, else HEAD")
    ] = "",
    branch: Annotated[str, typer.Option("--branch", help="Name of the branch to make.", show_default="promote/...")] = "",
    open_: Annotated[bool, typer.Option("--open", help="Push it, and open the pull request with gh or glab.")] = False,
) -> None:
    """Commit on a branch that a channel should serve a version, and say how to open the pull request.

    Edits environments/CHANNEL/NAME.yaml and nothing else; comments stay. Your own work tree is not touched, and nothing is
    pushed unless you say --open.
    """
    from softprompt.deployment import laptop
    from softprompt.promotion import Wish
    from softprompt.promotion import propose as propose_here

    with readable_errors():
        if remove == bool(version) or sum((remove, shadow, bool(weight))) > 1 or (remove and pinned):
            raise InvalidRequest(
                "Say one thing about the name.", expected="a VERSION, with --weight or --shadow or neither; or --remove alone"
            )
        role = "remove" if remove else "shadow" if shadow else "canary" if weight else "serve"
        wish = Wish(name=name, channel=channel, version=version, role=role, percent=weight or 100, pinned=pinned)  # type: ignore[arg-type]
        with laptop(Settings.from_environment()):
            offer = propose_here(Settings.from_environment(), repository, wish, base=base, branch=branch, opens=open_)
        _print_offer(offer, wish)


@release.command(
    epilog="Example: [bold]softprompt release plan --channel production --markdown comment.md --detailed-exitcode[/]"
)
def plan(
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", help="Channel; may be given several times.", show_default="all that Git has authority over"),
    ] = None,
    environments: Environments = HERE,
    since: Annotated[
        str, typer.Option("--since", help="Of all channels, those in which something differs from this commit.", metavar="COMMIT")
    ] = "",
    json_file: Json = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write a comment for the pull request to this file.", metavar="FILE")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="End with 0 nothing to do, 10 changes that are allowed, 11 refused.")
    ] = False,
) -> None:
    """Say what a checkout would change in a channel, and why it may or may not; writes nothing.

    A file that is wrong, or names something that does not verify, ends with 2 or 5 whatever is asked for.
    """
    from softprompt.deployment import laptop
    from softprompt.promotion import plan as plan_here
    from softprompt.release.promotion.plan_report import plan_markdown

    with readable_errors():
        refuse_missing_folders(json_file, markdown)
        with laptop(Settings.from_environment()):
            report = plan_here(Settings.from_environment(), environments, channel or (), since=since)
        if json_file:
            json_file.write_bytes(report.to_bytes())
        if markdown:
            markdown.write_text(plan_markdown(report))
        for found in report.channels:
            _print_plan(found)
        if not report.channels:
            console.print("no channel changes", highlight=False)
    raise typer.Exit(report.error_code or (report.exit_code if detailed_exitcode else 0))


@release.command(epilog="Example: [bold]softprompt release apply --channel production[/]")
def apply(
    channel: Channel,
    environments: Environments = HERE,
    watch: Annotated[bool, typer.Option("--watch", help="Reconcile for ever, following a Git remote.")] = False,
    remote: Annotated[str, typer.Option("--remote", help="With --watch: address of the promotion repository.")] = "",
    branch: Annotated[str, typer.Option("--branch", help="With --watch: branch to follow.")] = "main",
    interval: Annotated[float, typer.Option("--interval", min=1, help="With --watch: seconds between rounds.")] = 30.0,
    host: Annotated[
        str, typer.Option("--host", help="With --watch: address of health and metrics; 0.0.0.0 only inside a pod.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="With --watch: port on that address.")] = 8080,
) -> None:
    """Make a channel serve what a checkout says, after checking everything again.

    Safe to run twice at once, and late. Afterwards the alias CHANNEL in MLflow says which version is served. Ends with 11 where
    the policy refuses.
    """
    from softprompt.deployment import laptop
    from softprompt.promotion import apply as apply_here
    from softprompt.release.promotion.plan_report import REFUSED

    with readable_errors(), laptop(Settings.from_environment()):
        if watch:
            _watch(channel, remote, branch, interval, host, port)
            return
        applied = apply_here(Settings.from_environment(), environments, channel)
        _print_applied(applied, channel)
    raise typer.Exit(REFUSED if applied.outcome.outcome == "refused" else 0)


@release.command(epilog="Example: [bold]softprompt release status --channel production --node http://127.0.0.1:8000[/]")
def status(
    channel: Channel,
    environments: Environments = HERE,
    node: Annotated[
        list[str] | None, typer.Option("--node", help="Address of a serving node; may be given several times.", metavar="URL")
    ] = None,
    json_file: Json = None,
) -> None:
    """Say what Git wants, what the store says, what nodes report, and where they differ."""
    from softprompt.cli.release_status import print_status
    from softprompt.deployment import laptop
    from softprompt.promotion import status as status_here

    with readable_errors(), laptop(Settings.from_environment()):
        refuse_missing_folders(json_file)
        found = status_here(Settings.from_environment(), channel, environments, node or ())
        if json_file:
            json_file.write_bytes(found.to_bytes())
        print_status(found, console)


def _watch(channel: str, remote: str, branch: str, interval: float, host: str, port: int) -> None:
    from softprompt.promotion_watch import WatchOptions, watch_channel

    if not remote:
        raise InvalidRequest("Nothing to watch.", expected="--remote, the address of the promotion repository")
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    options = WatchOptions(channel=channel, remote=remote, branch=branch, interval_seconds=interval, host=host, port=port)
    watch_channel(Settings.from_environment(), options, stop, lambda line: print(line, flush=True))


def _print_offer(offer: "Offer", wish: "Wish") -> None:
    made = offer.proposed
    if not made.branch:
        _say(f"environments/{wish.channel}/{wish.name}.yaml says so already; there is nothing to propose")
        return
    _say(f"{offer.title}: commit {made.commit[:12]} on branch {made.branch}", "bold")
    _print_plan(made.plan)
    if offer.opened:
        _say(offer.opened)
        return
    _say("\nTo open the pull request:")
    for command in offer.forge.shown(made.branch, made.target, offer.title):
        _say(f"  {command}")


def _print_plan(found: "ChannelPlan") -> None:
    from softprompt.release.promotion.plan_report import plan_lines

    for kind, line in plan_lines(found):
        _say(MARKS.get(kind, f"  {kind} ") + line, STYLES[kind])


def _print_applied(applied: "Applied", channel: str) -> None:
    outcome = applied.outcome
    _say(outcome.sentence, "red" if outcome.outcome == "refused" else "green")
    for difference in outcome.differences:
        _say(f"  {difference}")
    for text in (*outcome.warnings, *applied.problems):
        problems.print(f"  warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    for proposal in applied.waiting:
        versions = ", ".join(dict.fromkeys(share.model_version for share in proposal.desired.shares if share.model_version))
        _say(f"  a pipeline proposes {proposal.name} version {versions}: see `softprompt release propose --help`")
    if outcome.outcome == "refused":
        _say(f"  {channel} stays at generation {applied.head.generation}")


def _say(text: str, style: str = "") -> None:
    console.print(escape(text), style=style or None, highlight=False, soft_wrap=True)
