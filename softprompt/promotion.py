"""Promotion on this machine: settings become stores, trust roots and lookups, and the release library does the rest.

propose   a version becomes a commit on a branch
plan      what a checkout would change
apply     make the channel serve it; then the alias in MLflow, as an output
status    what Git wants, what the store says, what nodes report
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.registry_release import review_lookup, set_aliases
from softprompt.registry_review import version_to_review
from softprompt.release.channel import ChannelLog, newest
from softprompt.release.planning.policy import POLICY_FILE, Desired, read_desired, read_policy
from softprompt.release.promotion.approvals import Proposal, find_approved, proposals
from softprompt.release.promotion.checkout import Checkout, run_git
from softprompt.release.promotion.desired_file import Edit, edit_desired, remove_desired
from softprompt.release.promotion.forge import Forge, forge_of, open_pull_request
from softprompt.release.promotion.node_reports import ask_nodes
from softprompt.release.promotion.plan_report import ChannelPlan, PlanReport
from softprompt.release.promotion.propose import Proposed, propose_change
from softprompt.release.promotion.reconciler import apply_channel, plan_channel
from softprompt.release.promotion.status import ChannelStatus, answering, channel_status
from softprompt.release.publish_prompt import PublishOutcome
from softprompt.release.statement import Generation
from softprompt.release.store import open_store
from softprompt.settings import Settings
from softprompt.trusted import newest_trust_root

PROPOSAL_SECONDS = 30 * 24 * 3600.0
"""Proposals of pipelines older than this are not listed any more."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants of one name in one channel."""

    name: str
    channel: str
    version: str = ""
    """In the registry; empty where the name is taken away."""
    role: Literal["serve", "canary", "shadow", "remove"] = "serve"
    percent: int = 100
    """Of a canary."""
    pinned: bool = False

    @property
    def title(self) -> str:
        """Of the commit and the pull request."""
        if self.role == "remove":
            return f"Remove {self.name} from {self.channel}"
        how = {"serve": "", "canary": f" for {self.percent} % of requests", "shadow": " as a shadow"}[self.role]
        return f"Promote {self.name} version {self.version} to {self.channel}{how}"

    @property
    def branch(self) -> str:
        """Where it is committed."""
        what = {"serve": "", "canary": f"-canary-{self.percent}", "shadow": "-shadow", "remove": "-remove"}[self.role]
        version = re.sub(r"[^A-Za-z0-9.-]+", "-", self.version).strip("-.")
        return f"promote/{self.channel}/{self.name}" + (f"-{version}" if version else "") + what


@dataclass(frozen=True)
class Offer:
    """A proposed change, and how its pull request is opened."""

    proposed: Proposed
    forge: Forge
    title: str
    opened: str
    """What the forge's program said; empty: it was not run."""


def propose(settings: Settings, repository: Path, wish: Wish, *, base: str = "", branch: str = "", opens: bool = False) -> Offer:
    """Commit what somebody wants on a branch, and open the pull request where that is asked for.

    Args:
        settings: Where store, trust root and registry are.
        repository: A checkout of the promotion repository.
        wish: What is wanted.
        base: Commit or branch to start from; empty: the remote's main branch, else what is checked out.
        branch: Name of the branch; empty: one that says what it is.
        opens: Push, and open the pull request with the forge's own program.

    Raises:
        InvalidRequest: No such version, no approval of it in the store, or a file or repository that does not fit.
        ServiceUnavailable: Registry, store or forge failed.
    """
    edit, body = _edit(settings, wish)
    made = propose_change(
        repository,
        wish.channel,
        wish.name,
        edit,
        branch=branch or wish.branch,
        title=wish.title,
        body=body,
        base=base,
        plan=lambda environments: _plan(settings, environments, wish.channel),
    )
    forge = forge_of(repository)
    opened = ""
    if opens and made.branch:
        opened = open_pull_request(forge, repository, made.branch, made.target, wish.title, body)
    return Offer(made, forge, wish.title, opened)


def _edit(settings: Settings, wish: Wish) -> tuple[Callable[[str, str], str], str]:
    """What to do to the file's text, and the commit's message below its title."""
    if wish.role == "remove":
        return lambda text, source: remove_desired(text, source=source), "Requests for this name will be answered with 404."
    digest = version_to_review(settings.tracking_uri, wish.name, wish.version).prompt
    store = open_store(settings.store)
    found = find_approved(store, newest_trust_root(settings, store), wish.name, wish.version, digest)
    edit = Edit(found.share, found.base, wish.role, wish.percent, wish.pinned)
    approval = found.approval
    body = (
        f"Prompt sha256:{digest}\nbase model {found.base}\n"
        f"verdict {approval.verdict}, measured in {approval.numerics}, evaluated {approval.evaluated or 'at an unknown time'}\n"
        f"approval {approval.digest} ({found.found})"
    )
    return lambda text, source: edit_desired(text, edit, source=source), body


def git_channels(environments: Path) -> tuple[str, ...]:
    """The channels of a folder over which Git has the authority, sorted. InvalidRequest: no such folder, a wrong policy."""
    if not environments.is_dir():
        raise InvalidRequest("There is no such folder of channels.", where=str(environments), hint="Give --environments.")
    found = sorted(path.parent.name for path in environments.glob(f"*/{POLICY_FILE}"))
    return tuple(channel for channel in found if read_policy(environments, channel).authority == "git")


def plan(settings: Settings, environments: Path, channels: Sequence[str] = (), *, since: str = "") -> PlanReport:
    """What a checkout would change, for each channel; a channel that cannot be planned is in the report as failed.

    Args:
        settings: Where store, trust root and registry are.
        environments: The checkout's folder of channels.
        channels: Which; none: all over which Git has the authority.
        since: Where no channel is named: only those in which something differs from this commit.

    Raises:
        InvalidRequest: No such folder or commit.
        ServiceUnavailable: Store or registry failed.
    """
    chosen = tuple(channels) or git_channels(environments)
    if since and not channels:
        changed = Checkout(environments).changed_channels(since)
        chosen = tuple(channel for channel in chosen if channel in changed)
    return PlanReport(channels=tuple(_plan_or_failure(settings, environments, channel) for channel in chosen))


def _plan_or_failure(settings: Settings, environments: Path, channel: str) -> ChannelPlan:
    try:
        return _plan(settings, environments, channel)
    except (InvalidRequest, VerificationFailed) as error:
        return ChannelPlan.failure(channel, error)


def _plan(settings: Settings, environments: Path, channel: str) -> ChannelPlan:
    return plan_channel(
        environments,
        channel,
        store=open_store(settings.store),
        trust_root=settings.trust_root,
        review_status=_review_status(settings),
    )


def _review_status(settings: Settings) -> Callable[[str, str, str], str]:
    return review_lookup(settings.tracking_uri) if settings.has_registry else _no_registry


def _no_registry(name: str, version: str, prompt: str) -> str:
    raise InvalidRequest(
        "The channel's policy asks for a review, and this machine knows no registry to find it in.",
        where=f"{name} version {version}, prompt {prompt}",
        hint="Set MLFLOW_TRACKING_URI.",
    )


@dataclass(frozen=True)
class Applied:
    """What became of an apply."""

    outcome: PublishOutcome
    head: Generation
    """The channel's newest generation afterwards."""
    problems: tuple[str, ...]
    """What did not work beside the publish; the next apply tries again."""
    waiting: tuple[Proposal, ...]
    """What pipelines ask for and nobody has taken over, newest first."""


def apply(settings: Settings, environments: Path, channel: str) -> Applied:
    """Make a channel serve what a checkout says, then say so in the registry, where there is one.

    Raises:
        InvalidRequest, VerificationFailed: As `apply_channel` does.
        StoreUnavailable, PublishUnknown, TrackingUnavailable: A service failed.
    """
    store = open_store(settings.store)
    outcome = apply_channel(
        environments,
        channel,
        store=store,
        trust_root=settings.trust_root,
        signing_key=settings.signing_key(channel),
        state_dir=settings.journal,
        review_status=_review_status(settings),
    )
    head = newest(ChannelLog(store, channel, newest_trust_root(settings, store)))
    generation, desired = head.signed.generation, read_desired(environments, channel)
    is_output = outcome.outcome != "refused" and settings.has_registry
    problems = set_aliases(settings.tracking_uri, channel, _aliases(generation, desired)) if is_output else ()
    served = {name: desire for name, desire in desired.items() if not desire.removed}
    waiting = _waiting(settings, channel, served)
    return Applied(outcome, generation, problems, waiting)


def _aliases(generation: Generation, desired: Mapping[str, Desired]) -> dict[str, str]:
    """Name -> version that answers most requests there; empty where the name was taken away."""
    found = {name: "" for name, desire in desired.items() if desire.removed}
    for name, served in generation.state.prompts.items():
        version = generation.state.approvals[answering(served)[0]].model_version
        found |= {name: version} if version else {}
    return found


def _waiting(settings: Settings, channel: str, desired: Mapping[str, Desired]) -> tuple[Proposal, ...]:
    store = open_store(settings.store)
    aged: list[tuple[float, Proposal]] = []
    for proposal in proposals(store, channel):
        known = {share.prompt for share in desired[proposal.name].shares} if proposal.name in desired else set[str]()
        age = store.age_seconds(proposal.key)
        if not {share.prompt for share in proposal.desired.shares} <= known and age is not None and age < PROPOSAL_SECONDS:
            aged.append((age, proposal))
    newest: dict[str, Proposal] = {}
    for _, proposal in sorted(aged, key=lambda item: item[0]):
        newest.setdefault(proposal.name, proposal)
    return tuple(newest.values())


def status(settings: Settings, channel: str, environments: Path, nodes: Sequence[str]) -> ChannelStatus:
    """What Git wants, what the store says, what nodes report.

    Raises:
        InvalidRequest: No such channel, a file that is wrong, or an address that is none.
        StoreUnavailable: The store does not answer.
    """
    store = open_store(settings.store)
    log = ChannelLog(store, channel, newest_trust_root(settings, store))
    is_checkout = (environments / channel).is_dir() and run_git(environments, "rev-parse", "HEAD").returncode == 0
    return channel_status(log, environments if is_checkout else None, ask_nodes(nodes), now=time.time())
