"""Where Git is the authority: make a channel serve what a checkout of `environments/` says, all of it or nothing.

Names without a file stay as they are: a truncated checkout unpublishes nothing, and taking a name away needs `removed:
true`. A generation states the commit that it was computed from, and never replaces one whose commit is not an ancestor
of its own.
"""

import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.blobs import MAX_EVIDENCE_BYTES, Blobs, prompt_blobs
from softprompt.release.channel import ChannelLog
from softprompt.release.plan import Change, Plan, PromptFacts, plan_changes
from softprompt.release.policy import Desired, DesiredShare, read_desired, read_policy
from softprompt.release.publish_prompt import PublishOutcome, lately_served
from softprompt.release.publisher import Publisher
from softprompt.release.statement import Approval, Generation, Served, Share
from softprompt.release.store import ObjectStore
from softprompt.release.trust import load_signer, load_trust_root

ReviewLookup = Callable[[str, str, str], str]
"""(registered name, version, prompt's digest) -> the version's tag `review.status`; empty: not set, or no such version."""


def not_reviewed(name: str, version: str, prompt: str) -> str:
    """The lookup where there is no registry to ask."""
    return ""


class Desire:
    """What a checkout wants of one channel, with everything that it names fetched and verified.

    Args:
        environments: The folder that holds `<channel>/`, in a Git checkout without uncommitted changes.
        log: The channel.
        review_status: Asks the registry; used only for what the policy requires a review of.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: A file is wrong, the policy gives Git no authority, or the checkout has uncommitted changes.
        VerificationFailed: A digest in a file is not in the store, or what is there does not verify.
    """

    def __init__(
        self,
        environments: Path,
        log: ChannelLog,
        *,
        review_status: ReviewLookup,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.commit = _commit(environments)
        self._environments, self._log, self._clock = environments, log, clock
        self._policy = read_policy(environments, log.channel)
        if self._policy.authority != "git":
            raise InvalidRequest(
                "The policy does not give Git the authority over this channel.",
                where=log.channel,
                expected="authority: git",
            )
        self._names = read_desired(environments, log.channel)
        self._review_status = review_status
        self._facts: dict[str, PromptFacts] = {}
        self._versions: dict[str, list[tuple[str, str]]] = {}
        self.blobs: dict[str, bytes] = {}
        self._fetch()

    def plan(self, head: Generation) -> Plan:
        """What would change. InvalidRequest: the head was computed from a commit that this one does not follow."""
        _check_order(self._environments, head.git_commit, self.commit)
        changes = [Change(name, _served(desired)) for name, desired in self._names.items()]
        lately = lately_served(self._log, head.state, self._policy, self._clock())
        facts = {digest: fact if digest in lately else self._reviewed(fact) for digest, fact in self._facts.items()}
        return plan_changes(head.state, changes, facts, self._policy, now=self._clock(), served_lately=lately)

    def _reviewed(self, fact: PromptFacts) -> PromptFacts:
        """With the tag of its version; under two names both versions have to be approved. Rolling back asks no registry."""
        if not self._policy.review_required:
            return fact
        found = (self._review_status(name, version, fact.digest) for name, version in self._versions[fact.digest])
        return replace(fact, review_status=next((status for status in found if status != "approved"), "approved"))

    def _fetch(self) -> None:
        source = Blobs(self._log.store)
        for name, share in ((name, share) for name, desired in self._names.items() for share in desired.shares):
            approval = _approval(source, share, where=f"{self._log.channel}/{name}.yaml")
            prompt = source.prompt(share.prompt)
            self._facts[share.prompt] = _fact(prompt, approval)
            self._versions.setdefault(share.prompt, []).append((name, approval.model_version))
            self.blobs |= prompt_blobs(prompt) | {share.approval: approval.to_bytes()}
            self.blobs |= {digest: source.read(digest, max_bytes=MAX_EVIDENCE_BYTES) for digest in approval.evidence.values()}


def plan_channel(
    environments: Path,
    channel: str,
    *,
    store: ObjectStore,
    trust_root: Path,
    review_status: ReviewLookup = not_reviewed,
    clock: Callable[[], float] = time.time,
) -> Plan:
    """What publishing a checkout would change in a channel, or why it may not; writes nothing.

    Args:
        environments: The folder that holds `<channel>/`, in a Git checkout.
        channel: Name.
        store: Where the channel lies.
        trust_root: The trust root's file.
        review_status: Asks the registry; used only for what the policy requires a review of.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest, VerificationFailed: As `Desire` does.
        StoreUnavailable: The store does not answer.
    """
    log = ChannelLog(store, channel, load_trust_root(trust_root))
    desire = Desire(environments, log, review_status=review_status, clock=clock)
    head = log.head()
    if head is None:
        raise InvalidRequest("The channel has no generation that verifies.", where=channel, hint="Run `softprompt release init`.")
    return desire.plan(head.signed.generation)


def apply_channel(
    environments: Path,
    channel: str,
    *,
    store: ObjectStore,
    trust_root: Path,
    signing_key: Path,
    state_dir: Path,
    review_status: ReviewLookup = not_reviewed,
    clock: Callable[[], float] = time.time,
) -> PublishOutcome:
    """Make a channel serve what a checkout says.

    Args:
        environments: The folder that holds `<channel>/`, in a Git checkout.
        channel: Name.
        store: Where the channel lies.
        trust_root: The trust root's file.
        signing_key: PEM file of a key that may sign this channel.
        state_dir: For journals.
        review_status: Asks the registry; used only for what the policy requires a review of.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest, VerificationFailed: As `Desire` does.
        StoreUnavailable, PublishUnknown: As `Publisher.publish` does.
    """
    log = ChannelLog(store, channel, load_trust_root(trust_root))
    desire = Desire(environments, log, review_status=review_status, clock=clock)
    publisher = Publisher(log=log, signer=load_signer(signing_key), state_dir=state_dir, clock=clock)
    done = publisher.publish(desire.plan, blobs=desire.blobs, git_commit=desire.commit)
    return PublishOutcome(
        outcome=done.outcome,
        channel=channel,
        generation=0 if done.outcome == "refused" else done.generation,
        prompt_digest="",
        reasons=done.reasons,
        differences=done.differences,
    )


def _approval(source: Blobs, share: DesiredShare, *, where: str) -> Approval:
    data = source.read(share.approval, max_bytes=Approval.max_bytes)
    approval = Approval.from_bytes(data, source=f"approval {share.approval}")
    expected = (share.prompt, share.model_version or approval.model_version, share.approval)
    actual = (approval.prompt, approval.model_version, approval.digest)
    if expected != actual:
        raise VerificationFailed(
            "An approval is not the one of this prompt and version.",
            where=where,
            expected=str(expected),
            actual=str(actual),
        )
    return approval


def _fact(prompt: PromptFile, approval: Approval) -> PromptFacts:
    manifest = prompt.manifest
    return PromptFacts(prompt.digest, manifest.kind, manifest.base_fingerprint, approval, review_status="")


def _served(desired: Desired) -> Served | None:
    if desired.removed:
        return None
    return Served(
        bases={
            base: tuple(Share(prompt=share.prompt, weight=share.weight) for share in shares)
            for base, shares in desired.bases.items()
        },
        shadow=_digests(desired.shadow),
        pinned=desired.pinned,
        pinnable=_digests(desired.pinnable),
    )


def _digests(shares: Iterable[DesiredShare]) -> tuple[str, ...]:
    return tuple(share.prompt for share in shares)


def _commit(environments: Path) -> str:
    """The commit of the checkout, which has to be all that is there: a generation states it."""
    commit = _git(environments, "rev-parse", "HEAD")
    changed = _git(environments, "status", "--porcelain", "--untracked-files=all", "--", ".")
    if changed:
        raise InvalidRequest(
            "The checkout has changes that are in no commit.",
            where=str(environments),
            actual=changed,
            hint="Commit or undo them.",
        )
    return commit


def _check_order(environments: Path, before: str, now: str) -> None:
    if before and _run_git(environments, "merge-base", "--is-ancestor", before, now).returncode != 0:
        raise InvalidRequest(
            "The channel was published from a commit that this checkout does not follow.",
            where=str(environments),
            expected=f"a commit after {before}",
            actual=now,
            hint="Update the checkout, with its history (no shallow clone).",
        )


def _git(folder: Path, *arguments: str) -> str:
    done = _run_git(folder, *arguments)
    if done.returncode != 0:
        raise InvalidRequest("This is not a Git checkout.", where=str(folder), actual=done.stderr.strip())
    return done.stdout.strip()


def _run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InvalidRequest("The program git is not installed.", hint="Install git.") from None
