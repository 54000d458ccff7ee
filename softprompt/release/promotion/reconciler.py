"""Where Git is the authority: make a channel serve what a checkout of `environments/` says, all of it or nothing.

Names without a file stay as they are: a truncated checkout unpublishes nothing, and taking a name away needs `removed:
true`. A generation states the commit that it was computed from, and never replaces one whose commit is not an ancestor
of its own.
"""

import time
from collections.abc import Callable
from pathlib import Path

from softprompt.release.channel import ChannelLog, newest
from softprompt.release.planning.facts import ReviewLookup, not_reviewed
from softprompt.release.planning.plan import Plan
from softprompt.release.promotion.desire import Desire
from softprompt.release.promotion.plan_report import ChannelPlan
from softprompt.release.publish_prompt import PublishOutcome
from softprompt.release.publisher import Publisher
from softprompt.release.roots import current_trust_root
from softprompt.release.signers import KeySource, open_signer
from softprompt.release.statement import Generation
from softprompt.release.store import ObjectStore

RESTATED = "nothing but the commit: the files changed and say the same again, and no older commit may come after this one"


def plan_channel(
    environments: Path,
    channel: str,
    *,
    store: ObjectStore,
    trust_root: Path,
    review_status: ReviewLookup = not_reviewed,
    clock: Callable[[], float] = time.time,
) -> ChannelPlan:
    """What publishing a checkout would change in a channel, or why it may not; writes nothing.

    Args:
        environments: The folder that holds `<channel>/`, in a Git checkout.
        channel: Name.
        store: Where the channel lies.
        trust_root: The trust root's file.
        review_status: Asks the registry; used only where the policy requires a review.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest, VerificationFailed: As `Desire` does.
        StoreUnavailable: The store does not answer.
    """
    log = ChannelLog(store, channel, current_trust_root(trust_root, store, folder=None, now=clock()))
    desire = Desire(environments, log, review_status=review_status, clock=clock)
    generation = newest(log).signed.generation
    return ChannelPlan.of(channel, desire.commit, generation, desire.plan(generation))


def apply_channel(
    environments: Path,
    channel: str,
    *,
    store: ObjectStore,
    trust_root: Path,
    signing_key: KeySource,
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
        signing_key: PEM file, or a key service's URI, of a key that may sign this channel.
        state_dir: For journals.
        review_status: Asks the registry; used only where the policy requires a review.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest, VerificationFailed: As `Desire` does.
        StoreUnavailable, PublishUnknown: As `Publisher.publish` does.
    """
    log = ChannelLog(store, channel, current_trust_root(trust_root, store, folder=state_dir / "roots", now=clock()))
    desire = Desire(environments, log, review_status=review_status, clock=clock)
    publisher = Publisher(log=log, signer=open_signer(signing_key), state_dir=state_dir, clock=clock)
    plans: list[Plan] = []

    def decide(head: Generation) -> Plan:
        plans.append(desire.plan(head))
        if plans[-1].outcome == "unchanged" and desire.restates(head):
            return plans[-1].model_copy(update={"outcome": "change", "differences": (RESTATED,)})
        return plans[-1]

    done = publisher.publish(decide, blobs=desire.blobs, git_commit=desire.commit)
    return PublishOutcome(
        outcome=done.outcome,
        channel=channel,
        generation=0 if done.outcome == "refused" else done.generation,
        prompt_digest="",
        reasons=done.reasons,
        warnings=plans[-1].warnings,
        differences=done.differences,
    )
