"""What Git wants of a channel, what the store says, what nodes report, and where the three differ."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.recipe import Name
from softprompt.release.channel import ChannelLog, newest
from softprompt.release.checkout import Checkout
from softprompt.release.layout import CLOCK_SKEW_SECONDS
from softprompt.release.node_reports import NodeReport
from softprompt.release.policy import read_desired
from softprompt.release.statement import Generation, parse_time


class NameStatus(Document):
    """One name in the three places; digests of the prompts that answer, the largest share first."""

    name: Name
    git: tuple[Sha256, ...]
    """Empty: no file, or `removed: true`."""
    has_file: bool
    store: tuple[Sha256, ...]
    """Empty: it is not served."""
    version: str
    """In MLflow, of the store's first prompt."""


class ChannelStatus(Document):
    """One channel."""

    schema_version: int = 1
    channel: Name
    commit: str
    """Checked out; empty: there is no checkout here, so nobody knows what Git wants."""
    generation: int
    generation_commit: str
    created: str
    expires: str
    names: tuple[NameStatus, ...]
    nodes: tuple[NodeReport, ...]
    drift: tuple[str, ...]
    """Every difference, for people; empty: all are in step."""


def channel_status(log: ChannelLog, environments: Path | None, nodes: tuple[NodeReport, ...], *, now: float) -> ChannelStatus:
    """Compare.

    Args:
        log: The channel.
        environments: A checkout of `environments/`; None: there is none.
        nodes: What was asked of them.
        now: Seconds since 1970.

    Raises:
        InvalidRequest: The channel has no generation, or a file is wrong.
        StoreUnavailable: The store does not answer.
    """
    head = newest(log)
    generation = head.signed.generation
    wanted = _wanted(environments, log.channel) if environments else {}
    commit = Checkout(environments).git("rev-parse", "HEAD") if environments else ""
    names = tuple(_names(wanted, generation))
    drift = [
        *(_git_drift(names, commit, generation) if environments else ()),
        *_store_drift(generation, len(head.taken), now),
        *(line for node in nodes for line in _node_drift(node, generation)),
    ]
    return ChannelStatus(
        channel=log.channel,
        commit=commit,
        generation=generation.generation,
        generation_commit=generation.git_commit,
        created=generation.created,
        expires=generation.expires,
        names=names,
        nodes=nodes,
        drift=tuple(drift),
    )


def _wanted(environments: Path, channel: str) -> dict[str, tuple[str, ...]]:
    """Name -> digests that answer, the largest share first."""
    found = {}
    for name, desired in read_desired(environments, channel).items():
        shares = [share for _, shares in sorted(desired.bases.items()) for share in sorted(shares, key=lambda one: -one.weight)]
        found[name] = tuple(dict.fromkeys(share.prompt for share in shares))
    return found


def _names(wanted: Mapping[str, tuple[str, ...]], generation: Generation) -> Iterator[NameStatus]:
    for name in sorted(wanted.keys() | generation.state.prompts.keys()):
        store = served_digests(generation, name)
        version = generation.state.approvals[store[0]].model_version if store else ""
        yield NameStatus(name=name, git=wanted.get(name, ()), has_file=name in wanted, store=store, version=version)


def served_digests(generation: Generation, name: str) -> tuple[str, ...]:
    """Prompts that answer under a name, the largest share of each base first."""
    served = generation.state.prompts.get(name)
    if served is None:
        return ()
    shares = [share for _, shares in sorted(served.bases.items()) for share in sorted(shares, key=lambda one: -one.weight)]
    return tuple(dict.fromkeys(share.prompt for share in shares))


def _git_drift(names: tuple[NameStatus, ...], commit: str, generation: Generation) -> Iterator[str]:
    for one in names:
        if not one.has_file:
            yield f"{one.name}: served, and has no file in Git; it stays until a file says `removed: true`"
        elif one.git != one.store:
            yield f"{one.name}: Git wants {_shown(one.git)}, the store says {_shown(one.store)}"
    if generation.git_commit and generation.git_commit != commit:
        yield f"the store was published from commit {generation.git_commit[:12]}, the checkout is at {commit[:12]}"


def _store_drift(generation: Generation, num_taken: int, now: float) -> Iterator[str]:
    if now > parse_time(generation.expires) + CLOCK_SKEW_SECONDS:
        yield f"generation {generation.generation} expired at {generation.expires}: run `softprompt release apply`"
    if num_taken:
        yield f"{num_taken} objects above generation {generation.generation} do not verify: run `softprompt release verify`"


def _node_drift(node: NodeReport, generation: Generation) -> Iterator[str]:
    if node.error:
        yield f"{node.url}: not known: {node.error}"
        return
    if node.generation != generation.generation:
        yield f"{node.url}: serves generation {node.generation}, the store says {generation.generation}"
    if not node.ready:
        yield f"{node.url}: says that it is not ready"
    if node.stale:
        yield f"{node.url}: says that it may be behind"
    if node.num_alarms:
        yield f"{node.url}: has {node.num_alarms} alarms; its log says which"


def _shown(digests: tuple[str, ...]) -> str:
    return ", ".join(digest[:12] for digest in digests) or "nothing"
