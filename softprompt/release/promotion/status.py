"""What Git wants of a channel, what the store says, what nodes report, and where the three differ."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.names import Name
from softprompt.release.channel import ChannelLog, newest
from softprompt.release.layout import CLOCK_SKEW_SECONDS
from softprompt.release.planning.policy import Desired, read_desired
from softprompt.release.promotion.checkout import Checkout
from softprompt.release.promotion.node_reports import NodeReport
from softprompt.release.statement import Generation, Served, parse_time


class NameStatus(Document):
    """One name in the three places; digests of the prompts that answer, the largest share first."""

    name: Name
    git: tuple[Sha256, ...]
    """Empty: no file, or `removed: true`."""
    has_file: bool
    store: tuple[Sha256, ...]
    """Empty: it is not served."""
    in_step: bool
    """Whether both say the same: prompts, weights, shadows, pins."""
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
    wanted = read_desired(environments, log.channel) if environments else {}
    commit = Checkout(environments).git("rev-parse", "HEAD") if environments else ""
    names = tuple(_names(wanted, generation))
    drift = [
        *(_git_drift(names, environments, commit, generation) if environments else ()),
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


def _names(wanted: Mapping[str, Desired], generation: Generation) -> Iterator[NameStatus]:
    prompts = generation.state.prompts
    for name in sorted(wanted.keys() | prompts.keys()):
        served, desired = prompts.get(name), wanted.get(name)
        store = answering(served)
        yield NameStatus(
            name=name,
            git=answering(desired.served) if desired else (),
            has_file=desired is not None,
            store=store,
            in_step=desired is not None and desired.served == served,
            version=generation.state.approvals[store[0]].model_version if store else "",
        )


def answering(served: Served | None) -> tuple[str, ...]:
    """Prompts that answer under a name, the largest share of each base first."""
    bases = sorted(served.bases.items()) if served else ()
    shares = [share for _, shares in bases for share in sorted(shares, key=lambda one: -one.weight)]
    return tuple(dict.fromkeys(share.prompt for share in shares))


def _git_drift(names: tuple[NameStatus, ...], environments: Path, commit: str, generation: Generation) -> Iterator[str]:
    for one in names:
        if not one.has_file:
            yield f"{one.name}: served, and has no file in Git; it stays until a file says `removed: true`"
        elif one.git != one.store:
            yield f"{one.name}: Git wants {_shown(one.git)}, the store says {_shown(one.store)}"
        elif not one.in_step:
            yield f"{one.name}: the same prompts, with other weights, shadows or pins"
    checkout, before = Checkout(environments), generation.git_commit
    if before and not checkout.follows(before, commit):
        yield f"the store was published from commit {before[:12]}, which this checkout does not follow: update it"
    elif before and checkout.touched(before, commit, generation.channel):
        yield f"commit {commit[:12]} is not published yet, the store is at {before[:12]}"


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
