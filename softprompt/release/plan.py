"""What a change would do to a channel and whether its policy allows it; pure, so it can be shown before it is done."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from softprompt.documents import Document
from softprompt.recipe import PromptKind
from softprompt.release.policy import ChannelPolicy
from softprompt.release.statement import Approval, ChannelState, Served, parse_time


@dataclass(frozen=True)
class PromptFacts:
    """What was verified about one prompt."""

    digest: str
    kind: PromptKind
    base_fingerprint: str
    approval: Approval
    review_status: str
    """The tag `review.status` of its version in MLflow; only `approved` counts."""


@dataclass(frozen=True)
class Change:
    """What one name should mean from now on; None takes it away."""

    name: str
    served: Served | None


class Plan(Document):
    """What would change, or why it may not."""

    outcome: Literal["change", "unchanged", "refused"]
    reasons: tuple[str, ...] = ()
    """Why it is refused."""
    differences: tuple[str, ...] = ()
    """What would change, for people."""
    state: ChannelState
    """What the channel would serve; if refused, what it serves now."""


def plan_changes(
    state: ChannelState,
    changes: Sequence[Change],
    facts: Mapping[str, PromptFacts],
    policy: ChannelPolicy,
    *,
    now: float,
    served_lately: frozenset[str] = frozenset(),
) -> Plan:
    """Plan changes to what a channel serves now.

    Args:
        state: What it serves now.
        changes: New meanings of names; other names stay.
        facts: By digest, for every prompt in the changes that the channel does not serve yet.
        policy: The channel's. Its `revoked` and `numerics` become the channel's.
        now: Seconds since 1970.
        served_lately: Prompts that may come back without review, however old their evidence: rolling back.
    """
    changed = {change.name for change in changes}
    prompts = {name: served for name, served in state.prompts.items() if name not in changed}
    prompts |= {change.name: change.served for change in changes if change.served is not None}
    reasons = [
        *(reason for change in changes for reason in _refusals(change, facts, policy, now, served_lately)),
        *_revoked_in_use(prompts, policy),
    ]
    if reasons:
        return Plan(outcome="refused", reasons=tuple(dict.fromkeys(reasons)), state=state)
    approvals = state.approvals | {digest: fact.approval for digest, fact in facts.items()}
    in_use = frozenset[str]().union(*(served.digests for served in prompts.values()))
    planned = ChannelState(
        prompts=prompts,
        approvals={digest: approvals[digest] for digest in in_use},
        revoked=tuple(sorted(set(policy.revoked))),
        numerics=tuple(sorted(set(policy.numerics))),
    )
    if planned == state:
        return Plan(outcome="unchanged", state=state)
    return Plan(outcome="change", differences=tuple(_differences(state, planned)), state=planned)


def _refusals(
    change: Change, facts: Mapping[str, PromptFacts], policy: ChannelPolicy, now: float, served_lately: frozenset[str]
) -> Iterator[str]:
    if change.served is None:
        return
    if policy.names and not any(fnmatchcase(change.name, pattern) for pattern in policy.names):
        yield f"{change.name}: the policy allows only names like {', '.join(policy.names)}"
    for base, shares in change.served.bases.items():
        for share in shares:
            fact = facts.get(share.prompt)
            if fact and fact.base_fingerprint != base:
                trained_on = fact.base_fingerprint[:12]
                yield f"{change.name}: {share.prompt[:12]} was trained on base {trained_on}, not on {base[:12]}"
    for digest in sorted(change.served.digests & facts.keys()):
        for reason in _prompt_refusals(facts[digest], policy, now, lately=digest in served_lately):
            yield f"{change.name}: {digest[:12]} {reason}"


def _prompt_refusals(fact: PromptFacts, policy: ChannelPolicy, now: float, *, lately: bool) -> Iterator[str]:
    approval = fact.approval
    if policy.bases and fact.base_fingerprint not in policy.bases:
        yield f"is for base {fact.base_fingerprint[:12]}, which the policy does not allow"
    if fact.kind not in policy.kinds:
        yield f"is a {fact.kind} prompt; the policy allows {' and '.join(policy.kinds)}"
    if approval.verdict == "rejected":
        yield "was rejected by the evaluation gates"
    if approval.verdict == "undecided" and not policy.allow_undecided:
        yield "was left undecided by the evaluation gates, and the policy does not allow that"
    if approval.numerics not in policy.numerics:
        yield f"was measured in {approval.numerics}; the channel's fleet uses {' and '.join(policy.numerics)}"
    if lately:
        return
    if policy.review_required and fact.review_status != "approved":
        yield f"is not reviewed: review.status is {fact.review_status or 'not set'}, not approved"
    if policy.max_age_days and not approval.evaluated:
        yield f"does not say when it was evaluated; the policy allows evidence of {policy.max_age_days} days"
    elif policy.max_age_days and now - parse_time(approval.evaluated) > policy.max_age_days * 24 * 3600:
        yield f"was evaluated at {approval.evaluated}; the policy allows evidence of {policy.max_age_days} days"


def _revoked_in_use(prompts: Mapping[str, Served], policy: ChannelPolicy) -> Iterator[str]:
    for name, served in sorted(prompts.items()):
        for digest in sorted(served.digests & set(policy.revoked)):
            yield f"{name}: {digest[:12]} is revoked by the policy; take it out of this name too"


def _differences(before: ChannelState, after: ChannelState) -> Iterator[str]:
    for name in sorted(before.prompts.keys() | after.prompts.keys()):
        old, new = before.prompts.get(name), after.prompts.get(name)
        if old != new:
            yield f"{name}: {_shown(old)} -> {_shown(new)}"
        elif new and any(before.approvals[digest] != after.approvals[digest] for digest in new.digests):
            yield f"{name}: the same prompts, with other evidence"
    if before.revoked != after.revoked:
        yield f"revoked: {len(before.revoked)} -> {len(after.revoked)} prompts"
    if before.numerics != after.numerics:
        yield f"numerics: {', '.join(before.numerics) or '(none)'} -> {', '.join(after.numerics)}"


def _shown(served: Served | None) -> str:
    if served is None:
        return "(nothing)"
    bases = (
        f"base {base[:12]}: " + ", ".join(f"{share.prompt[:12]} (weight {share.weight})" for share in shares)
        for base, shares in sorted(served.bases.items())
    )
    more = (("shadow", served.shadow), ("pinnable", served.pinnable))
    listed = (f"{key}: {', '.join(digest[:12] for digest in digests)}" for key, digests in more if digests)
    return "; ".join([*bases, *listed, *(["pinned"] if served.pinned else [])])
