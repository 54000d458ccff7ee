"""What a reviewer should know about a change that the policy allows: warnings, which refuse nothing."""

from collections.abc import Iterator, Mapping, Sequence

from softprompt.release.planning.facts import Change, PromptFacts
from softprompt.release.planning.policy import ChannelPolicy
from softprompt.release.planning.rules import DAY_SECONDS
from softprompt.release.statement import ChannelState, Served, parse_time

OLD_EVIDENCE_DAYS = 30
"""Evidence older than this is worth a word where the policy sets no age; where it does, half of that age."""
MOST_NAMES = 8
"""Shown in one line."""


def cautions(
    before: ChannelState,
    after: ChannelState,
    changes: Sequence[Change],
    facts: Mapping[str, PromptFacts],
    policy: ChannelPolicy,
    now: float,
) -> Iterator[str]:
    """Warnings about what a plan would change; the names that lack a base are listed for the whole channel.

    Args:
        before: What the channel serves now.
        after: What it would serve.
        changes: All names that were looked at.
        facts: By digest.
        policy: The channel's.
        now: Seconds since 1970.
    """
    for change in changes:
        old = before.prompts.get(change.name)
        if change.served is not None and change.served != old:
            yield from (f"{change.name}: {text}" for text in _of_name(old, change.served, facts, policy, now))
    yield from _names_without_base(after, policy)


def _of_name(
    old: Served | None, new: Served, facts: Mapping[str, PromptFacts], policy: ChannelPolicy, now: float
) -> Iterator[str]:
    added = new.digests - (old.digests if old else frozenset())
    for base, shares in sorted(new.bases.items()):
        champion = _champion(old, base)
        for share in shares:
            fact = facts.get(share.prompt)
            if share.prompt in added and fact:
                yield from _champion_changed(fact, champion)
        if len(shares) == 1 and shares[0].weight != 1:
            yield f"{shares[0].prompt[:12]} is alone on base {base[:12]}, so its weight {shares[0].weight} means nothing"
    for digest in sorted(added & facts.keys()):
        yield from _evidence(facts[digest], policy, now)
    for digest in sorted({*new.shadow, *new.pinnable} & facts.keys()):
        if facts[digest].base_fingerprint not in new.bases:
            base = facts[digest].base_fingerprint[:12]
            yield f"{digest[:12]} is for base {base}, on which this name serves nothing: no node will load it"


def _champion(served: Served | None, base: str) -> str:
    shares = served.bases.get(base, ()) if served else ()
    return max(shares, key=lambda share: share.weight).prompt if shares else ""


def _champion_changed(fact: PromptFacts, champion: str) -> Iterator[str]:
    if fact.evaluation is None or fact.evaluation.champion == champion or fact.digest == champion:
        return
    compared = fact.evaluation.champion[:12] or "no champion"
    serves = f"{champion[:12]} now" if champion else "none"
    yield f"{fact.digest[:12]} was compared with {compared}; the channel serves {serves}. Evaluate again to compare with that"


def _evidence(fact: PromptFacts, policy: ChannelPolicy, now: float) -> Iterator[str]:
    approval, digest = fact.approval, fact.digest[:12]
    if approval.verdict == "undecided":
        yield f"{digest} was left undecided by the evaluation gates"
    if not approval.evaluated:
        yield f"{digest} does not say when it was evaluated"
        return
    days = (now - parse_time(approval.evaluated)) / DAY_SECONDS
    if days > (policy.max_age_days / 2 or OLD_EVIDENCE_DAYS):
        yield f"{digest} was evaluated {days:.0f} days ago"


def _names_without_base(after: ChannelState, policy: ChannelPolicy) -> Iterator[str]:
    fleet = policy.bases or sorted({base for served in after.prompts.values() for base in served.bases})
    for base in fleet:
        lacking = sorted(name for name, served in after.prompts.items() if base not in served.bases)
        if lacking:
            more = f" and {len(lacking) - MOST_NAMES} more" if len(lacking) > MOST_NAMES else ""
            yield f"base {base[:12]} has no prompt for {', '.join(lacking[:MOST_NAMES])}{more}"
