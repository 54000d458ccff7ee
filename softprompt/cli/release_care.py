"""`softprompt release`: the care of a channel: init, history, trace, revoke, restore, verify, gc."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from softprompt.cli.release import HERE, Channel, Environments, Json, release
from softprompt.cli.terminal import console, print_table, problems, readable_errors, refuse_missing_folders
from softprompt.settings import Settings

if TYPE_CHECKING:
    from softprompt.documents import Document
    from softprompt.release.care.history import History
    from softprompt.release.care.trace import Trace
    from softprompt.release.care.verify_store import Verification

Store = Annotated[
    str, typer.Option("--store", help="Another store: s3://BUCKET or s3://BUCKET/PREFIX.", show_default="SOFTPROMPT_STORE")
]
STANDINGS = {"verified": "green", "claimed": "yellow", "missing": "yellow", "contradicted": "red"}


def settings_with(store: str) -> Settings:
    """The settings, with another store where one is named."""
    return Settings.from_environment(os.environ | ({"SOFTPROMPT_STORE": store} if store else {}))


@release.command(epilog="Example: [bold]softprompt release init --channel staging --store s3://prompts[/]")
def init(
    channel: Channel,
    store: Store = "",
    signer: Annotated[
        str, typer.Option("--signer", help="A publishing key that is there: a PEM file, or a key service's URI.", metavar="KEY")
    ] = "",
    root_life_days: Annotated[
        int, typer.Option("--root-life-days", help="How long the trust root is good; 0: for ever.", min=0)
    ] = 365,
    json_file: Json = None,
) -> None:
    """Begin a channel: keys, trust root, and an empty first generation. Doing it again changes nothing.

    Where the root key lives on another machine, let its holder add the channel (release root add-channel), bring the file here,
    and run this: it then makes the first generation only.
    """
    from softprompt.channel_care import init as init_here
    from softprompt.deployment import laptop

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        refuse_missing_folders(json_file)
        made = init_here(settings, channel, signing_key=signer or None, root_life_days=root_life_days)
        _write(json_file, made)
    what = "begun" if made.created else "there already"
    _say(f"channel [bold]{escape(channel)}[/] {what}, generation {made.generation}, trust root version {made.trust_root_version}")
    _say(f"[dim]trust root[/]   {escape(str(settings.trust_root))}   mount it on every node")
    _say(f"[dim]keys[/]         {escape(str(settings.keys))}   root.pem signs trust roots only: take it offline")
    policy = settings.policies / channel / "_policy.yaml"
    if not policy.exists():
        _say(f"[dim]policy[/]       {escape(str(policy))} is not there yet: the platform's owners write it")


@release.command(epilog="Example: [bold]softprompt release history --channel production --most 5[/]")
def history(
    channel: Channel,
    most: Annotated[int, typer.Option("--most", help="How many of the newest generations; 0: all.", min=0)] = 20,
    store: Store = "",
    json_file: Json = None,
) -> None:
    """List what a channel has served: generations, who signed each, when, from which commit, and what it changed."""
    from softprompt.channel_care import history as history_here
    from softprompt.deployment import laptop

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        refuse_missing_folders(json_file)
        found = history_here(settings, channel, most)
        _write(json_file, found)
    _print_history(found)


@release.command(epilog="Example: [bold]softprompt release trace 3f1c0a9be2d4 --channel production[/]")
def trace(
    digest: Annotated[str, typer.Argument(help="The prompt's digest, or its first digits (eight or more).")],
    channel: Channel,
    environments: Environments = HERE,
    registry: Annotated[bool, typer.Option("--registry/--no-registry", help="Ask MLflow, too.")] = True,
    store: Store = "",
    json_file: Json = None,
) -> None:
    """Say where a served prompt comes from: generation, commit, pull request, version, run, recipe, dataset, review.

    Each line says whether signatures and digests prove it (verified), or somebody says so (claimed). Ends with 5 if two
    statements contradict each other.
    """
    from softprompt.channel_care import trace as trace_here
    from softprompt.deployment import laptop

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        refuse_missing_folders(json_file)
        found = trace_here(settings, channel, digest.removeprefix("sha256:"), environments, asks_registry=registry)
        _write(json_file, found)
    _print_trace(found)
    raise typer.Exit(0 if found.is_consistent else 5)


@release.command(epilog="Example: [bold]softprompt release revoke 3f1c...64 digits --channel staging[/]")
def revoke(
    digest: Annotated[str, typer.Argument(help="The prompt's digest, all 64 digits.")],
    channel: Channel,
    environments: Annotated[
        Path | None,
        typer.Option("--environments", help="Folder of the channels' files.", metavar="PATH", show_default="SOFTPROMPT_POLICIES"),
    ] = None,
    store: Store = "",
) -> None:
    """Revoke a prompt: no node serves it any more, and nothing brings it back until the policy is edited again.

    Where the pipeline is the channel's authority, the policy is edited and a generation is published at once. Where Git is, the
    edit is printed as a patch: pipe it into `git apply`, and merge and apply it as any other change.
    """
    from softprompt.channel_care import revoke as revoke_here
    from softprompt.deployment import laptop

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        done = revoke_here(settings, channel, _whole_digest(digest), environments or settings.policies)
    if isinstance(done, str):
        print(done, end="")
        problems.print(
            "Git is the authority: apply this patch on a branch, and merge it." if done else "The files say it already."
        )
        return
    _say(f"{done.outcome}: {escape(channel)} generation {done.generation}")
    for line in (*done.differences, *done.reasons):
        _say(f"  {escape(line)}")
    raise typer.Exit(2 if done.outcome == "refused" else 0)


@release.command(
    epilog="Example: [bold]softprompt release restore --from s3://prompts --to s3://prompts-copy --channel production[/]"
)
def restore(
    channel: Channel,
    source: Annotated[str, typer.Option("--from", help="Store that has the channel.", metavar="STORE")],
    target: Annotated[str, typer.Option("--to", help="Store to copy it into; nothing there is overwritten.", metavar="STORE")],
    json_file: Json = None,
) -> None:
    """Copy a channel into another store: trust roots, review decisions, generations and blobs, each verified.

    Goes on where it was stopped. The copy is verified at the end, and the command ends with 5 if something does not hold.
    """
    from softprompt.channel_care import restore as restore_here
    from softprompt.channel_care import verify as verify_here
    from softprompt.deployment import laptop

    settings = Settings.from_environment()
    with readable_errors(), laptop(settings):
        refuse_missing_folders(json_file)
        done = restore_here(settings, source, target, channel)
        _write(json_file, done)
        found = verify_here(settings_with(target), [channel])
    _say(
        f"channel [bold]{escape(channel)}[/], generation {done.generation}, is whole in {escape(target)}: "
        f"{done.num_objects} objects, {done.copied} written now; nodes without state accept it until {done.expires}"
    )
    for line in done.left_behind:
        _say(f"[dim]left behind[/]  {escape(line)}")
    _print_findings(found)
    raise typer.Exit(0 if found.whole else 5)


@release.command(epilog="Example: [bold]softprompt release verify --json verification.json[/]")
def verify(
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", help="Channel; may be given several times.", show_default="all that the trust root knows"),
    ] = None,
    store: Store = "",
    json_file: Json = None,
) -> None:
    """Walk every trust root, generation, review decision and blob, and check signatures, digests and chains.

    Ends with 5 if something does not hold.
    """
    from softprompt.channel_care import verify as verify_here
    from softprompt.deployment import laptop

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        refuse_missing_folders(json_file)
        found = verify_here(settings, channel or [])
        _write(json_file, found)
    _say(
        f"{found.num_roots} trust roots, {found.num_generations} generations, {found.num_audit_records} review decisions, "
        f"{found.num_blobs} blobs of {found.num_bytes:,} bytes in {len(found.channels)} channels"
    )
    _print_findings(found)
    raise typer.Exit(0 if found.whole else 5)


@release.command(epilog="Example: [bold]softprompt release gc --delete[/]")
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; without it, only say what would go.")] = False,
    kept_generations: Annotated[int, typer.Option(help="Newest generations of each channel whose blobs stay.", min=1)] = 50,
    kept_days: Annotated[int, typer.Option(help="Generations younger than this keep their blobs, too.", min=0)] = 90,
    grace_days: Annotated[int, typer.Option(help="Younger blobs stay; publishers count on seven days.", min=7)] = 7,
    store: Store = "",
    json_file: Json = None,
) -> None:
    """Take away blobs that no generation and no proposal names any more.

    Needs an identity that may delete blobs, which a publisher's may not. Generations, roots and review decisions are never taken.
    """
    from softprompt.channel_care import gc as gc_here
    from softprompt.deployment import laptop

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        refuse_missing_folders(json_file)
        done = gc_here(settings, delete=delete, kept_generations=kept_generations, kept_days=kept_days, grace_days=grace_days)
        _write(json_file, done)
    _say(
        f"{done.num_blobs} blobs, {done.num_bytes:,} bytes: "
        f"{done.num_named} are named, {done.num_young} are young, {done.num_locked} locked"
    )
    what = "would go; say --delete" if done.dry_run else "are gone"
    _say(f"{len(done.collected)} blobs, {done.collected_bytes:,} bytes {what if done.collected else 'to collect'}")


def _whole_digest(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from softprompt.artifact import Sha256
    from softprompt.errors import InvalidRequest

    try:
        return TypeAdapter(Sha256).validate_python(text.removeprefix("sha256:"))
    except ValidationError:
        raise InvalidRequest("This is not a prompt's digest.", expected="64 hexadecimal digits", actual=text) from None


def _print_history(found: "History") -> None:
    _say(f"channel [bold]{escape(found.channel)}[/] ({found.channel_id}), {len(found.entries)} generations, newest first")
    table = Table("generation", "signed", "by key", "commit", "prompts", "changes", box=None, header_style="dim", pad_edge=False)
    for entry in found.entries:
        changes = "\n".join(entry.changes) or "signed again"
        row = (str(entry.generation), entry.created, entry.signed_by[:12], entry.git_commit[:12] or "-", str(entry.num_prompts))
        table.add_row(*row, escape(changes))
    print_table(table)
    for other in found.disbelieved:
        problems.print(
            f"generation {other.generation} is not believed: {other.reason}", markup=False, highlight=False, soft_wrap=True
        )


def _print_trace(found: "Trace") -> None:
    _say(f"prompt [bold]sha256:{found.prompt}[/], channel {escape(found.channel)}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for link in found.links:
        standing = f"[{STANDINGS[link.standing]}]{link.standing}[/]"
        table.add_row(escape(link.what), standing, escape(link.value), f"[dim]{escape(link.how)}[/]")
    print_table(table)


def _print_findings(found: "Verification") -> None:
    for kind, style, findings in (("problem", "red", found.problems), ("note", "yellow", found.notes)):
        for finding in findings:
            facts = "; ".join(f"{name}: {fact}" for name, fact in finding.facts.items())
            problems.print(
                f"[{style}]{kind}[/] {escape(finding.key)}: {escape(finding.what)} {escape(facts)}",
                highlight=False,
                soft_wrap=True,
            )
    if found.num_collected:
        _say(f"{found.num_collected} blobs that only old generations name were collected")
    _say("[green]everything holds[/]" if found.whole else f"[red]{len(found.problems)} problems[/]")


def _write(path: Path | None, document: "Document") -> None:
    if path:
        path.write_bytes(document.to_bytes() + b"\n")


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)
