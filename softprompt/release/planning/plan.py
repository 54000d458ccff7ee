"""What a change would do to a channel and whether its policy allows it; pure, so it can be shown before it is done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from softprompt.documents import Document
from softprompt.release.planning.cautions import cautions
from softprompt.release.planning.facts import Change, PromptFacts
from softprompt.release.planning.policy import ChannelPolicy
from softprompt.release.planning.rules import refusals, revoked_in_use
from softprompt.release.statement import ChannelState, Served


class Plan(Document):
    """What would change, or why it may not."""

    max_bytes = 64 * 1024 * 1024

    outcome: Literal["change", "unchanged", "refused"]
    reasons: tuple[str, ...] = ()
    """Why it is refused."""
    warnings: tuple[str, ...] = ()
    """What a reviewer should know about it; refuses nothing."""
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
    served_lately: Callable[[], frozenset[str]] = frozenset,
) -> Plan:
    """Plan changes to what a channel serves now.

    Args:
        state: What it serves now.
        changes: New meanings of names; other names stay.
        facts: By digest, for every prompt in the changes that the channel does not serve yet.
        policy: The channel's. Its `revoked` and `numerics` become the channel's.
        now: Seconds since 1970.
        served_lately: Prompts that may come back without review, however old their evidence: rolling back. Asked only where it
            decides.
    """

    def lately(digest: str) -> bool:
        return digest in state.digests or digest in served_lately()

    changed = {change.name for change in changes}
    prompts = {name: served for name, served in state.prompts.items() if name not in changed}
    prompts |= {change.name: change.served for change in changes if change.served is not None}
    reasons = [
        *(reason for change in changes for reason in refusals(change, facts, policy, now, lately)),
        *revoked_in_use(prompts, policy),
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
    warnings = tuple(cautions(state, planned, changes, facts, policy, now))
    if planned == state:
        return Plan(outcome="unchanged", warnings=warnings, state=state)
    return Plan(outcome="change", warnings=warnings, differences=tuple(differences(state, planned)), state=planned)


def differences(before: ChannelState, after: ChannelState) -> Iterator[str]:
    """What changes between two states of a channel, a line each, for people."""
    for name in sorted(before.prompts.keys() | after.prompts.keys()):
        old, new = before.prompts.get(name), after.prompts.get(name)
        if old != new:
            yield f"{name}: {_shown(old)} -> {_shown(new)}"
        elif new and any(before.approvals[digest] != after.approvals[digest] for digest in new.digests):
            yield f"{name}: the same prompts, with other evidence"
    if before.revoked != after.revoked:
        yield f"revoked: {len(before.revoked)} -> {len(after.revoked)} prompts"
    if before.numerics != after.numerics:
        yield f"numerics: {', '.join(before.numerics) or '(none)'} -> {', '.join(after.numerics) or '(none)'}"


def _shown(served: Served | None) -> str:
    """What a name means, in one line for people."""
    if served is None:
        return "(nothing)"
    bases = (
        f"base {base[:12]}: " + ", ".join(f"{share.prompt[:12]} (weight {share.weight})" for share in shares)
        for base, shares in sorted(served.bases.items())
    )
    more = (("shadow", served.shadow), ("pinnable", served.pinnable))
    listed = (f"{key}: {', '.join(digest[:12] for digest in digests)}" for key, digests in more if digests)
    return "; ".join([*bases, *listed, *(["pinned"] if served.pinned else [])])
