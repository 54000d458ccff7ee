"""What a channel's policy refuses, and why: one sentence a reason, all reasons at once.

Three kinds of rule. What the fleet can serve (base, kind, numerics) and what was revoked hold always. What the evidence must
say (verdict, gates, age, review) holds for prompts that the channel has not served lately: whoever rolls back waits for nobody.
Who may have which names is the names' own.
"""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase

from softprompt.release.planning.facts import Change, PromptFacts
from softprompt.release.planning.policy import ChannelPolicy
from softprompt.release.statement import Served, parse_time

DAY_SECONDS = 24 * 3600


def refusals(
    change: Change,
    facts: Mapping[str, PromptFacts],
    policy: ChannelPolicy,
    now: float,
    served_lately: Callable[[str], bool],
) -> Iterator[str]:
    """Why a change may not be made; nothing: it may.

    Args:
        change: Of one name.
        facts: By digest.
        policy: The channel's.
        now: Seconds since 1970.
        served_lately: Whether the channel has served a prompt lately; asked only where it decides, since it may read history.
    """
    if change.served is None:
        return
    yield from _name_refusals(change, policy)
    for base, shares in change.served.bases.items():
        for share in shares:
            fact = facts.get(share.prompt)
            if fact and fact.base_fingerprint != base:
                trained_on = fact.base_fingerprint[:12]
                yield f"{change.name}: {share.prompt[:12]} was trained on base {trained_on}, not on {base[:12]}"
    for digest in sorted(change.served.digests & facts.keys()):
        reasons = [*_fleet_refusals(facts[digest], policy)]
        evidence = [*_evidence_refusals(facts[digest], policy, now)]
        reasons += evidence if evidence and not served_lately(digest) else []
        yield from (f"{change.name}: {digest[:12]} {reason}" for reason in reasons)


def revoked_in_use(prompts: Mapping[str, Served], policy: ChannelPolicy) -> Iterator[str]:
    """Names, changed or not, that use a prompt which the policy revokes."""
    for name, served in sorted(prompts.items()):
        for digest in sorted(served.digests & set(policy.revoked)):
            yield f"{name}: {digest[:12]} is revoked by the policy; take it out of this name too"


def _name_refusals(change: Change, policy: ChannelPolicy) -> Iterator[str]:
    if policy.names and not any(fnmatchcase(change.name, pattern) for pattern in policy.names):
        yield f"{change.name}: the policy allows only names like {', '.join(policy.names)}"
    if not policy.owners:
        return
    allowed = policy.owners_of(change.name)
    if not allowed:
        yield f"{change.name}: the policy lets nobody have this name; see its `owners`"
    elif change.file_owners is not None:
        others = [owner for owner in change.file_owners if owner not in allowed]
        if others or not change.file_owners:
            actual = ", ".join(change.file_owners) or "nobody"
            yield f"{change.name}: CODEOWNERS lets {actual} approve this file; the policy says {' or '.join(allowed)}"


def _fleet_refusals(fact: PromptFacts, policy: ChannelPolicy) -> Iterator[str]:
    approval = fact.approval
    if policy.bases and fact.base_fingerprint not in policy.bases:
        yield f"is for base {fact.base_fingerprint[:12]}, which the policy does not allow"
    if fact.kind not in policy.kinds:
        yield f"is a {fact.kind} prompt; the policy allows {' and '.join(policy.kinds)}"
    if approval.numerics not in policy.numerics:
        yield f"was measured in {approval.numerics}; the channel's fleet uses {' and '.join(policy.numerics)}"
    if approval.verdict == "rejected":
        yield "was rejected by the evaluation gates"


def _evidence_refusals(fact: PromptFacts, policy: ChannelPolicy, now: float) -> Iterator[str]:
    approval = fact.approval
    if approval.verdict == "undecided" and not policy.allow_undecided:
        yield "was left undecided by the evaluation gates, and the policy does not allow that"
    yield from _gate_refusals(fact, policy)
    if policy.review_required and fact.review_status != "approved":
        yield f"is not reviewed: review.status is {fact.review_status or 'not set'}, not approved"
    if policy.max_age_days and not approval.evaluated:
        yield f"does not say when it was evaluated; the policy allows evidence of {policy.max_age_days} days"
    elif policy.max_age_days and now - parse_time(approval.evaluated) > policy.max_age_days * DAY_SECONDS:
        yield f"was evaluated at {approval.evaluated}; the policy allows evidence of {policy.max_age_days} days"


def _gate_refusals(fact: PromptFacts, policy: ChannelPolicy) -> Iterator[str]:
    gates = fact.evaluation.gates if fact.evaluation else ()
    for pattern in policy.gates_required:
        meant = [gate for gate in gates if fnmatchcase(gate.name, pattern) or gate.kind == pattern]
        if not meant:
            yield f"has no gate {pattern} in its evaluation, which the policy requires"
        for gate in meant:
            if gate.status != "passed":
                yield f"did not pass the gate {gate.name} ({gate.status}), which the policy requires"
