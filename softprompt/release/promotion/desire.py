"""What a checkout of `environments/` wants of one channel, and what the store says about every prompt that it names."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from softprompt.artifact import Manifest, read_manifest
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.blobs import MAX_EVIDENCE_BYTES, Blobs, prompt_blobs
from softprompt.release.channel import ChannelLog
from softprompt.release.planning.facts import Change, PromptFacts, ReviewLookup, prompt_facts
from softprompt.release.planning.plan import Plan, plan_changes
from softprompt.release.planning.policy import DesiredShare, read_desired, read_policy
from softprompt.release.promotion.checkout import Checkout, check_order
from softprompt.release.promotion.code_owners import file_owners
from softprompt.release.publish_prompt import lately_served
from softprompt.release.statement import Approval, Generation

READERS = 8
"""Prompts that are fetched at the same time."""


class Desire:
    """What a checkout wants of one channel.

    Args:
        environments: The folder that holds `<channel>/`, in a Git checkout without uncommitted changes.
        log: The channel.
        review_status: Asks the registry; used only where the policy requires a review.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: A file is wrong, the policy gives Git no authority, or the checkout has uncommitted changes or no history.
    """

    def __init__(
        self, environments: Path, log: ChannelLog, *, review_status: ReviewLookup, clock: Callable[[], float] = time.time
    ) -> None:
        self._checkout = Checkout(environments)
        self.commit = self._checkout.commit()
        self._log, self._clock, self._review_status = log, clock, review_status
        self.policy = read_policy(environments, log.channel)
        if self.policy.authority != "git":
            raise InvalidRequest(
                "The policy does not give Git the authority over this channel.",
                where=log.channel,
                expected="authority: git",
            )
        self.names = read_desired(environments, log.channel)
        self._blobs = Blobs(log.store)
        self.blobs = StoredBlobs(self._blobs)
        """What the planned state needs beyond what the channel names already; complete after `plan`."""

    def plan(self, head: Generation) -> Plan:
        """What would change.

        Args:
            head: The channel's newest generation.

        Raises:
            InvalidRequest: It was computed from a commit that this one does not follow, or one prompt has two approvals.
            VerificationFailed: A digest in a file is not in the store, or what is there does not verify.
            StoreUnavailable: The store does not answer.
        """
        check_order(self._checkout, head.git_commit, self.commit)
        changes = [Change(name, desired.served, self._file_owners(name)) for name, desired in self.names.items()]
        now = self._clock()
        lately = functools.cache(lambda: lately_served(self._log, head.state, now))
        facts = {digest: self._reviewed(fact, head, lately) for digest, fact in self._facts(head).items()}
        plan = plan_changes(head.state, changes, facts, self.policy, now=now, served_lately=lately)
        kept = sorted(head.state.prompts.keys() - self.names.keys())
        notes = [f"{name}: is served and has no file here; it stays. To take it away write `removed: true`" for name in kept]
        return plan.model_copy(update={"warnings": (*plan.warnings, *notes)})

    def restates(self, head: Generation) -> bool:
        """Whether the channel's files changed since a generation's commit, even if what they say is the same again.

        Then this commit has to be stated: otherwise a late run for a commit in between, which was undone since, could follow.
        """
        return bool(head.git_commit) and self._checkout.touched(head.git_commit, self.commit, self._log.channel)

    def _facts(self, head: Generation) -> dict[str, PromptFacts]:
        shares = [(name, share) for name, desired in self.names.items() for share in desired.shares]
        facts: dict[str, PromptFacts] = {}
        with ThreadPoolExecutor(READERS) as readers:
            found = readers.map(lambda item: self._fact(item[0], item[1], head), shares)
            for (name, _), fact in zip(shares, found, strict=True):
                known = facts.get(fact.digest)
                if known and known.approval != fact.approval:
                    raise InvalidRequest(
                        "One prompt is listed with two approvals.",
                        where=f"{self._log.channel}, prompt {fact.digest}",
                        expected=f"everywhere the same, such as {known.approval.digest}",
                        actual=f"{fact.approval.digest} in {name}.yaml",
                    )
                facts[fact.digest] = fact
        return facts

    def _reviewed(self, fact: PromptFacts, head: Generation, lately: Callable[[], frozenset[str]]) -> PromptFacts:
        """With the tag of its version; under two names both versions have to be approved. Rolling back asks no registry."""
        if not self.policy.review_required or fact.digest in head.state.digests or fact.digest in lately():
            return fact
        names = [name for name, desired in self.names.items() if fact.digest in {share.prompt for share in desired.shares}]
        found = (self._review_status(name, fact.approval.model_version, fact.digest) for name in names)
        return replace(fact, review_status=next((status for status in found if status != "approved"), "approved"))

    def _fact(self, name: str, share: DesiredShare, head: Generation) -> PromptFacts:
        """Everything about one prompt, verified; of one that the channel serves already, only what the rules need."""
        approval = self._approval(share, name)
        served = head.state.approvals.get(share.prompt)
        if served == approval:
            data = self._blobs.read(share.prompt, max_bytes=Manifest.max_bytes)
            manifest = read_manifest(data, source=f"{self._log.store.uri}, prompt {share.prompt}")
            return prompt_facts(manifest, approval, {})
        prompt = self._blobs.prompt(share.prompt)
        evidence = {file: self._blobs.read(digest, max_bytes=MAX_EVIDENCE_BYTES) for file, digest in approval.evidence.items()}
        sizes = {digest: len(data) for digest, data in prompt_blobs(prompt).items()}
        sizes |= {approval.evidence[file]: len(data) for file, data in evidence.items()}
        self.blobs.add(sizes | {share.approval: len(approval.to_bytes())})
        return prompt_facts(prompt.manifest, approval, evidence)

    def _approval(self, share: DesiredShare, name: str) -> Approval:
        data = self._blobs.read(share.approval, max_bytes=Approval.max_bytes)
        approval = Approval.from_bytes(data, source=f"approval {share.approval}")
        expected = (share.prompt, share.model_version or approval.model_version, share.approval)
        actual = (approval.prompt, approval.model_version, approval.digest)
        if expected != actual:
            raise VerificationFailed(
                "An approval is not the one of this prompt and version.",
                where=f"{self._log.channel}/{name}.yaml",
                expected=str(expected),
                actual=str(actual),
            )
        return approval

    def _file_owners(self, name: str) -> tuple[str, ...] | None:
        if not self.policy.owners:
            return None
        root = self._root
        file = self._checkout.folder.resolve().relative_to(root) / self._log.channel / f"{name}.yaml"
        return file_owners(root, file.as_posix())

    @functools.cached_property
    def _root(self) -> Path:
        return self._checkout.root.resolve()


class StoredBlobs(Mapping[str, bytes]):
    """Blobs that were verified in the store, read again only where they have to be written again.

    Args:
        source: Where they are.
    """

    def __init__(self, source: Blobs) -> None:
        self._source, self._sizes = source, dict[str, int]()

    def add(self, sizes: Mapping[str, int]) -> None:
        """Digests, with the length of each blob in bytes."""
        self._sizes.update(sizes)

    def __getitem__(self, digest: str) -> bytes:
        return self._source.read(digest, max_bytes=self._sizes[digest])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)
