"""`softprompt release keygen` and `softprompt release root`: keys, and the trust root that says what each of them may sign."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from softprompt.cli.release import release
from softprompt.cli.release_care import Store, settings_with
from softprompt.cli.terminal import console, print_table, readable_errors
from softprompt.errors import InvalidRequest
from softprompt.settings import Settings

if TYPE_CHECKING:
    from softprompt.release.trust import TrustRoot

root = typer.Typer(
    no_args_is_help=True,
    help="The trust root: which keys may sign what. Changes need the root key and no network; publishing them needs no key.",
)
release.add_typer(root, name="root")

RootKey = Annotated[
    str,
    typer.Option(
        "--root-key", help="The root key: a PEM file or a key service's URI.", metavar="KEY", show_default="root.pem of the keys"
    ),
]
LifeDays = Annotated[
    int | None,
    typer.Option(
        "--life-days", help="How long the new version is good; 0: for ever.", min=0, show_default="365, or as before if for ever"
    ),
]
KeyId = Annotated[str, typer.Argument(help="The key's id, or its first digits (eight or more).")]


@release.command(epilog="Example: [bold]softprompt release keygen --out publish-production.pem[/]")
def keygen(
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the private key, readable by its owner only.", metavar="FILE")
    ] = None,
    scheme: Annotated[str, typer.Option("--scheme", help="ed25519 or ecdsa-p256.")] = "ed25519",
    signer: Annotated[
        str,
        typer.Option(
            "--signer", help="Make no key, show the public half of this one: a PEM file or a key service's URI.", metavar="KEY"
        ),
    ] = "",
) -> None:
    """Make a key, and print its public half: a file for `root add-key`, on standard output.

    Nothing of the private half is ever printed.
    """
    from softprompt.release.signers import generate_key, read_public_half

    with readable_errors():
        if bool(out) == bool(signer):
            raise InvalidRequest(
                "Say one of the two.", expected="--out FILE for a new key, or --signer KEY for one that is there"
            )
        made = generate_key(scheme, out) if out else read_public_half(signer)
    print(made.to_bytes().decode())


@root.command()
def show(
    store: Store = "",
    follow: Annotated[bool, typer.Option("--follow", help="Also look for newer versions in the store.")] = False,
) -> None:
    """Show the trust root of this machine."""
    from softprompt.deployment import laptop
    from softprompt.release.trust import load_trust_root
    from softprompt.trusted import newest_trust_root

    settings = settings_with(store)
    with readable_errors():
        found = load_trust_root(settings.trust_root)
        if follow:
            from softprompt.release.store import open_store

            with laptop(settings):
                found = newest_trust_root(settings, open_store(settings.store))
    _print_root(found)


@root.command(
    "add-channel", epilog="Example: [bold]softprompt release root add-channel production --key publish-production.pub[/]"
)
def add_channel(
    channel: Annotated[str, typer.Argument(help="Name.")],
    key: Annotated[
        str, typer.Option("--key", help="Its publishing key: what keygen printed, a PEM file, or a URI.", metavar="KEY")
    ],
    root_key: RootKey = "",
    life_days: LifeDays = None,
) -> None:
    """Let the trust root know a channel and its publishing key; `release init` then makes the first generation elsewhere."""
    import uuid

    from softprompt.release.care.root_changes import with_channel
    from softprompt.release.signers import read_public_half

    def changes(old: "TrustRoot") -> dict[str, Any]:
        if channel in old.channels:
            raise InvalidRequest("The trust root knows this channel already.", where=channel)
        public = read_public_half(key)
        return with_channel(old, channel, uuid.uuid4().hex, public.key, public.key_id)

    _change(changes, root_key, life_days)


@root.command("add-key", epilog="Example: [bold]softprompt release root add-key new.pub --channel production[/]")
def add_key(
    key: Annotated[str, typer.Argument(help="What keygen printed, a PEM file, or a key service's URI.")],
    channel: Annotated[list[str], typer.Option("--channel", help="Channel that it may sign; may be given several times.")],
    audit: Annotated[bool, typer.Option("--audit", help="It signs review decisions, never generations.")] = False,
    holder: Annotated[str, typer.Option("--holder", help="Whose audit key it is.")] = "",
    root_key: RootKey = "",
    life_days: LifeDays = None,
) -> None:
    """Allow a further key."""
    from softprompt.release.care.root_changes import with_audit_key, with_publishing_key
    from softprompt.release.signers import read_public_half

    def changes(old: "TrustRoot") -> dict[str, Any]:
        public = read_public_half(key)
        if audit:
            return with_audit_key(old, public.key_id, public.key, tuple(channel), holder)
        return with_publishing_key(old, public.key_id, public.key, tuple(channel))

    _change(changes, root_key, life_days)


@root.command("revoke-key", epilog="Example: [bold]softprompt release root revoke-key 5f0e12ab --last-good production=head[/]")
def revoke_key(
    key_id: KeyId,
    last_good: Annotated[
        list[str] | None,
        typer.Option(
            "--last-good",
            help="CHANNEL=NUMBER: the last generation (of an audit key: the last decision) that is believed of it; "
            "`head`: the newest; 0: none. Without the store: CHANNEL=NUMBER:SHA256.",
            metavar="CHANNEL=NUMBER",
        ),
    ] = None,
    store: Store = "",
    offline: Annotated[bool, typer.Option("--offline", help="Ask no store.")] = False,
    root_key: RootKey = "",
    life_days: LifeDays = None,
) -> None:
    """Take a key out of use: what it signed after its last good generation is believed by nobody who has the new root.

    Says what has to follow.
    """
    from contextlib import nullcontext

    from softprompt.deployment import laptop
    from softprompt.release.care.key_revocation import full_key_id, last_good_of, last_record_of, what_follows
    from softprompt.release.care.root_changes import without_audit_key, without_publishing_key
    from softprompt.release.store import open_store
    from softprompt.release.trust import load_trust_root

    settings = settings_with(store)
    with readable_errors(), nullcontext() if offline else laptop(settings):
        before = load_trust_root(settings.trust_root)
        full = full_key_id(before, key_id)
        there = None if offline else open_store(settings.store)

        def changes(old: "TrustRoot") -> dict[str, Any]:
            if full in old.audit_keys:
                return without_audit_key(old, full, last_record_of(last_good or (), old))
            return without_publishing_key(old, full, last_good_of(last_good or (), old, there))

        after = _change(changes, root_key, life_days)
        for line in what_follows(before, after, full, there):
            console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


@root.command("rotate-root")
def rotate_root(
    new_key: Annotated[
        str, typer.Option("--new-key", help="The new root key: a PEM file or a key service's URI.", metavar="KEY")
    ],
    root_key: RootKey = "",
    life_days: LifeDays = None,
) -> None:
    """Change the root key: both keys sign the new version, so that whoever believes the old one follows."""
    _change(lambda old: {}, root_key, life_days, new_key=new_key)


@root.command("raise-minimum")
def raise_minimum(
    channel: Annotated[str, typer.Argument(help="Name.")],
    generation: Annotated[int, typer.Argument(help="Older generations are never believed again.", min=1)],
    root_key: RootKey = "",
    life_days: LifeDays = None,
) -> None:
    """Forbid everything older than a generation, to nodes without state, too."""
    from softprompt.release.care.root_changes import with_minimum

    _change(lambda old: with_minimum(old, channel, generation), root_key, life_days)


@root.command()
def renew(root_key: RootKey = "", life_days: LifeDays = None) -> None:
    """Sign the same trust root again, good for longer."""
    _change(lambda old: {}, root_key, life_days)


@root.command()
def publish(store: Store = "") -> None:
    """Put every version of the trust root that the store lacks into it; nodes follow from there, one by one."""
    from softprompt.deployment import laptop
    from softprompt.release.care.root_changes import publish_trust_root
    from softprompt.release.store import open_store

    settings = settings_with(store)
    with readable_errors(), laptop(settings):
        written = publish_trust_root(open_store(settings.store), settings.trust_root)
    console.print(
        f"written: version {', '.join(map(str, written))}" if written else "the store has every version", highlight=False
    )


def _change(changes: Any, root_key: str, life_days: int | None, *, new_key: str = "") -> "TrustRoot":
    """Make the next version of this machine's trust root, and say so."""
    from softprompt.release.care.root_changes import LIFE_DAYS, change_trust_root, expiry
    from softprompt.release.signers import open_signer
    from softprompt.release.trust import load_trust_root

    settings = Settings.from_environment()
    with readable_errors():
        old = load_trust_root(settings.trust_root)
        days = life_days if life_days is not None else LIFE_DAYS if old.expires else 0
        wanted: Mapping[str, Any] = changes(old) | expiry(time.time(), days)
        signer = open_signer(root_key or settings.keys / "root.pem")
        new = change_trust_root(settings.trust_root, signer, wanted, new_signer=open_signer(new_key) if new_key else None)
    _print_root(new)
    console.print("Put it into the store: softprompt release root publish", highlight=False)
    return new


def _print_root(found: "TrustRoot") -> None:
    console.print(f"trust root version [bold]{found.version}[/], expires {found.expires or 'never'}", highlight=False)
    table = Table("key", "signs", "scheme", "", box=None, header_style="dim", pad_edge=False)
    table.add_row(found.root_key_id[:12], "trust roots", found.root_key.scheme, "keep it offline")
    for key_id, key in found.publishing_keys.items():
        ended = ", ".join(f"{channel}: revoked after {last.generation}" for channel, last in key.last_good.items())
        table.add_row(key_id[:12], ", ".join(key.channels), key.scheme, ended)
    for key_id, audit in found.audit_keys.items():
        ended = ", ".join(f"{channel}: until record {last}" for channel, last in audit.last_record.items())
        table.add_row(key_id[:12], f"reviews of {', '.join(audit.channels)}", audit.scheme, escape(ended or audit.holder))
    print_table(table)
    for name, trusted in found.channels.items():
        console.print(
            f"channel {escape(name)}: id {trusted.id}, minimum generation {trusted.minimum_generation}", highlight=False
        )
