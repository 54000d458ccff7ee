"""A reviewer's decision about a version: a signed record in the store first, then the tags in MLflow.

In that order, so that no tag speaks of a decision that nobody signed. Stopped in between, doing the same again finds the record
and sets the tags.
"""

import getpass
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from softprompt.errors import InvalidRequest
from softprompt.registry_review import ReviewedVersion, set_review, version_to_review, versions_to_review
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.record import MOST_NOTE_CHARACTERS, Judgement, Recorded
from softprompt.release.audit.report import AuditReport, examine_audit
from softprompt.release.signers import KeySource, open_signer
from softprompt.release.store import open_store
from softprompt.settings import Settings
from softprompt.trusted import newest_trust_root

BY_HAND = ", by the tags in MLflow"
"""Behind the reviewer of a decision that was made there: the name may be left from an earlier one, or missing."""


@dataclass(frozen=True)
class Decided:
    """What became of a decision."""

    version: ReviewedVersion
    """As it was before."""
    recorded: Recorded
    made: bool
    """Whether the record is new; not where the same decision was there already."""


def decide(
    settings: Settings,
    version: str,
    decision: Literal["approved", "rejected"],
    *,
    note: str,
    reviewer: str,
    channel: str = "",
    key: str = "",
    clock: Callable[[], float] = time.time,
) -> Decided:
    """Record a decision and set the version's tags.

    Args:
        settings: Where registry, store, trust root and keys are.
        version: `NAME@VERSION`.
        decision: Which.
        note: Why.
        reviewer: Who.
        channel: In whose log; empty: of the channel that the version's run meant it for.
        key: The reviewer's private key, a file or a key service's URI; empty: this machine's for the channel.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: No such version, no key, or one that the trust root does not list.
        TrackingUnavailable, StoreUnavailable: A service does not answer.
        PublishUnknown: Nobody can say whether it was recorded; do it again.
    """
    found = version_to_review(settings.tracking_uri, *parse_version(version))
    log = _log(settings, channel or found.channel)
    signer = open_signer(_key(settings, log.channel, key))
    judgement = _judgement(found, decision, reviewer, note)
    recorded, made = log.record(judgement, signer, since=found.created, clock=clock)
    record = f"{log.channel}/{recorded.record.number}"
    set_review(settings.tracking_uri, found, status=decision, reviewer=reviewer, note=note, record=record)
    return Decided(found, recorded, made)


def record_by_hand(settings: Settings, *, name: str = "", channel: str = "", key: str = "") -> list[Decided]:
    """Record decisions that were made by setting tags in MLflow; the key vouches for having seen the tag, not for who set it.

    Args:
        settings: Where registry, store, trust root and keys are.
        name: Of one registered model; empty: of all.
        channel: In whose log; empty: of the channel that each version's run meant it for.
        key: As for `decide`.

    Raises:
        InvalidRequest, TrackingUnavailable, StoreUnavailable, PublishUnknown: As `decide` does.
    """
    done = []
    for found in versions_to_review(settings.tracking_uri, name=name, every=True):
        if found.is_decided and not found.is_signed:
            decision: Literal["approved", "rejected"] = "approved" if found.status == "approved" else "rejected"
            version, who = f"{found.name}@{found.version}", (found.reviewer or "somebody").removesuffix(BY_HAND) + BY_HAND
            note = found.note[:MOST_NOTE_CHARACTERS]
            done.append(decide(settings, version, decision, note=note, reviewer=who, channel=channel, key=key))
    return done


def decisions(settings: Settings, channel: str) -> AuditReport:
    """Every decision of a channel, and what is broken in its log.

    Raises:
        InvalidRequest: There is no trust root, or it does not know the channel.
        StoreUnavailable: The store does not answer.
    """
    return examine_audit(_log(settings, channel))


def parse_version(given: str) -> tuple[str, str]:
    """Name and number of `NAME@VERSION`. InvalidRequest: it is something else."""
    found = re.fullmatch(r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)@([0-9]{1,9})", given)
    if not found:
        raise InvalidRequest("This does not name a version.", where=repr(given), expected="NAME@VERSION, as in support-triage@3")
    return found[1], found[2]


def reviewer_here() -> tuple[str, str]:
    """Who sits at this machine, by Git's configuration or else the user's name, and which of them said so."""
    asked = [_git_config(key) for key in ("user.name", "user.email")]
    if asked[0]:
        return f"{asked[0]} <{asked[1]}>" if asked[1] else asked[0], "git config"
    return getpass.getuser(), "the user's name"


def _log(settings: Settings, channel: str) -> AuditLog:
    if not channel:
        raise InvalidRequest("The version does not say which channel it is for.", hint="Name one with --channel.")
    store = open_store(settings.store)
    return AuditLog(store, channel, newest_trust_root(settings, store))


def _key(settings: Settings, channel: str, key: str) -> KeySource:
    if ":" in key:
        return key
    path = Path(key) if key else settings.audit_key(channel)
    if not path.is_file():
        raise InvalidRequest(
            "There is no key to sign the decision with.",
            where=str(path),
            hint="Name yours with --key. The trust root lists whose decisions count, under audit_keys.",
        )
    return path


def _judgement(found: ReviewedVersion, decision: str, reviewer: str, note: str) -> Judgement:
    content = {
        "decision": decision,
        "name": found.name,
        "model_version": found.version,
        "prompt": found.prompt,
        "report": found.report,
        "reviewer": reviewer,
        "note": note,
    }
    try:
        return Judgement.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            "The decision cannot be recorded.",
            where=f"{found.name}@{found.version}, {'.'.join(str(part) for part in first['loc'])}",
            expected=f"a reviewer of 1 to 256 characters, a note of at most {MOST_NOTE_CHARACTERS}",
            actual=first["msg"],
        ) from None


def _git_config(key: str) -> str:
    try:
        done = subprocess.run(["git", "config", "--get", key], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
