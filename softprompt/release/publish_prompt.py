"""The pipeline's last step: publish an evaluated prompt under its name, or propose it, as the channel's policy says."""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from softprompt.artifact import PromptFile
from softprompt.documents import Document, sha256_hex
from softprompt.errors import InvalidRequest
from softprompt.names import Name
from softprompt.numerics import Numerics
from softprompt.release.blobs import mend_blobs, prompt_blobs, put_blobs
from softprompt.release.channel import ChannelLog, newest
from softprompt.release.layout import RETENTION_SECONDS, proposal_key
from softprompt.release.planning.facts import Change, PromptFacts, prompt_facts
from softprompt.release.planning.plan import Plan, plan_changes
from softprompt.release.planning.policy import ChannelPolicy, Desired, DesiredShare, desired_yaml, read_policy
from softprompt.release.publisher import Publisher
from softprompt.release.roots import current_trust_root
from softprompt.release.signers import KeySource, open_signer
from softprompt.release.statement import Approval, ChannelState, Generation, Served, Share, Verdict
from softprompt.release.store import ObjectStore


class PublishOutcome(Document):
    """What became of a publish."""

    outcome: Literal["published", "unchanged", "proposed", "refused"]
    """`proposed`: Git is the channel's authority; blobs and evidence are in the store, nothing was signed."""
    channel: Name
    generation: int
    """The generation that serves the prompt; 0 if none does."""
    prompt_digest: str
    """The prompt; empty where the whole channel was published."""
    reasons: tuple[str, ...] = ()
    """Why it was refused, or what else is worth knowing."""
    warnings: tuple[str, ...] = ()
    """What a reviewer should know; refuses nothing."""
    differences: tuple[str, ...] = ()
    """What changed or would change, for people."""
    proposal: str = ""
    """If proposed: the text for `environments/<channel>/<name>.yaml`."""
    proposal_key: str = ""
    """If proposed: where the same text lies in the store."""

    @property
    def sentence(self) -> str:
        """The outcome in one line."""
        where = f"{self.channel} generation {self.generation}" if self.generation else self.channel
        return f"{self.outcome}: {where}" + (f" ({'; '.join(self.reasons)})" if self.reasons else "")


def publish_prompt(
    *,
    prompt: PromptFile,
    name: str,
    channel: str,
    verdict: Verdict,
    evidence: Mapping[str, bytes],
    model_version: str,
    numerics: Numerics,
    store: ObjectStore,
    policy_dir: Path,
    trust_root: Path,
    signing_key: KeySource | None,
    state_dir: Path,
    evaluated: str = "",
    review_status: str = "",
    clock: Callable[[], float] = time.time,
) -> PublishOutcome:
    """Make a name mean this prompt on the prompt's base model; what it means on other base models stays.

    Args:
        prompt: The verified prompt file.
        name: What clients will ask for.
        channel: Where; its policy decides what happens.
        verdict: Of the evaluation gates.
        evidence: File name -> bytes, canonical where it is JSON: the same bytes again change nothing.
        model_version: Version in MLflow; may be empty.
        numerics: What the evidence was measured with.
        store: Where the channel lies.
        policy_dir: Holds `<channel>/_policy.yaml`.
        trust_root: The trust root's file.
        signing_key: PEM file or URI in a key service; needed where the authority is `pipeline`, never used where it is `git`.
        state_dir: For journals; the same one next time, so that a publish that was killed is recognised.
        evaluated: When the evidence was measured, RFC 3339 in UTC; needed where the policy limits its age.
        review_status: The version's tag `review.status`; needed where the policy requires a review.
        clock: Seconds since 1970.

    Returns:
        What became of it; a refusal by the policy is an outcome, not an error.

    Raises:
        InvalidRequest: No policy, no trust root, no key, a channel that was never begun, an impossible name.
        StoreUnavailable, VerificationFailed: The store failed or gives other bytes than were stored, and nothing was published.
        PublishUnknown: Nobody can say whether it was published; run it again.
    """
    policy = read_policy(policy_dir, _name(channel, "channel"))
    approval = _approval(prompt.digest, verdict, numerics, model_version, evaluated, evidence)
    fact = prompt_facts(prompt.manifest, approval, evidence, review_status)
    trust = current_trust_root(trust_root, store, folder=state_dir / "roots", now=clock())
    log = ChannelLog(store, channel, trust)
    blobs = prompt_blobs(prompt) | {sha256_hex(data): data for data in (*evidence.values(), approval.to_bytes())}
    if policy.authority == "git":
        # A version is reviewed after its run; the plan on the pull request, and the reconciler, ask for that.
        unreviewed = policy.model_copy(update={"review_required": False})
        return _propose(name, prompt.digest, log, _decision(_name(name, "name"), fact, unreviewed, log, clock), blobs, policy)
    decide = _decision(_name(name, "name"), fact, policy, log, clock)
    publisher = Publisher(log=log, signer=open_signer(_required(signing_key, channel)), state_dir=state_dir, clock=clock)
    done = publisher.publish(decide, blobs=blobs)
    return PublishOutcome(
        outcome=done.outcome,
        channel=channel,
        generation=0 if done.outcome == "refused" else done.generation,
        prompt_digest=prompt.digest,
        reasons=done.reasons,
        differences=done.differences,
    )


def lately_served(log: ChannelLog, state: ChannelState, now: float) -> frozenset[str]:
    """Prompts that may come back whatever their evidence says now; reads the channel's generations of that time."""
    return state.digests | log.served_since(now - RETENTION_SECONDS)


def _decision(
    name: str, fact: PromptFacts, policy: ChannelPolicy, log: ChannelLog, clock: Callable[[], float]
) -> Callable[[Generation], Plan]:
    def decide(head: Generation) -> Plan:
        change = Change(name, _with_prompt(head.state.prompts.get(name), fact))
        now = clock()
        lately = functools.cache(lambda: lately_served(log, head.state, now))
        return plan_changes(head.state, [change], {fact.digest: fact}, policy, now=now, served_lately=lately)

    return decide


def _with_prompt(served: Served | None, fact: PromptFacts) -> Served:
    """A name's meaning with this prompt as the only one on its base model."""
    bases: dict[str, tuple[Share, ...]] = {fact.base_fingerprint: (Share(prompt=fact.digest),)}
    if served is None:
        return Served(bases=bases)
    return Served(bases=served.bases | bases, shadow=served.shadow, pinned=served.pinned, pinnable=served.pinnable)


def _propose(
    name: str,
    digest: str,
    log: ChannelLog,
    decide: Callable[[Generation], Plan],
    blobs: Mapping[str, bytes],
    policy: ChannelPolicy,
) -> PublishOutcome:
    generation = newest(log).signed.generation
    plan = decide(generation)
    if plan.outcome == "refused":
        return PublishOutcome(outcome="refused", channel=log.channel, generation=0, prompt_digest=digest, reasons=plan.reasons)
    if plan.outcome == "unchanged":
        mend_blobs(log.store, blobs)
        return PublishOutcome(outcome="unchanged", channel=log.channel, generation=generation.generation, prompt_digest=digest)
    put_blobs(log.store, blobs)
    text = desired_yaml(_desired(plan.state, name))
    key = proposal_key(log.channel, name, text.encode())
    log.store.put(key, text.encode())
    return PublishOutcome(
        outcome="proposed",
        channel=log.channel,
        generation=0,
        prompt_digest=digest,
        reasons=(
            f"Git is the authority of this channel: put the proposal into environments/{log.channel}/{name}.yaml.",
            *(("The policy wants the version reviewed before it is merged.",) if policy.review_required else ()),
        ),
        differences=plan.differences,
        proposal=text,
        proposal_key=key,
    )


def _desired(state: ChannelState, name: str) -> Desired:
    served = state.prompts[name]

    def share(digest: str, weight: int = 1) -> DesiredShare:
        approval = state.approvals[digest]
        return DesiredShare(prompt=digest, approval=approval.digest, weight=weight, model_version=approval.model_version)

    return Desired(
        schema_version=1,
        bases={base: tuple(share(one.prompt, one.weight) for one in shares) for base, shares in served.bases.items()},
        shadow=tuple(share(digest) for digest in served.shadow),
        pinned=served.pinned,
        pinnable=tuple(share(digest) for digest in served.pinnable),
    )


def _approval(
    digest: str, verdict: Verdict, numerics: Numerics, model_version: str, evaluated: str, evidence: Mapping[str, bytes]
) -> Approval:
    digests: dict[str, Any] = {file: sha256_hex(data) for file, data in evidence.items()}
    try:
        return Approval(
            prompt=digest,
            verdict=verdict,
            numerics=numerics,
            model_version=model_version,
            evaluated=evaluated,
            evidence=digests,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            "The prompt's evidence cannot be stored.",
            where=".".join(str(part) for part in first["loc"] if part != "[key]"),
            actual=first["msg"],
        ) from None


def _name(text: str, what: str) -> str:
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError:
        raise InvalidRequest(
            f"This is not a {what}.", where=repr(text), expected="lower-case letters, digits and hyphens, at most 40"
        ) from None


def _required(signing_key: KeySource | None, channel: str) -> KeySource:
    if signing_key is None:
        raise InvalidRequest(
            "The policy lets the pipeline sign, and there is no signing key.",
            where=f"channel {channel}",
            hint="Give the key's file.",
        )
    return signing_key
