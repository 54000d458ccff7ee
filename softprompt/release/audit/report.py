"""A channel's review decisions as a document, with what is broken in their chain."""

from collections.abc import Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from softprompt.artifact import Sha256
from softprompt.documents import Document, sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.names import Name
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.record import AuditRecord, Recorded
from softprompt.release.statement import parse_time

_READERS = 8
"""Requests at a time."""


class AuditEntry(Document):
    """One decision that verifies by itself."""

    record: AuditRecord
    envelope: Sha256
    """sha256 of its envelope; the next record names it."""
    key: Sha256
    """Id of the key that signed it."""
    holder: str
    """Whose key it is, by the trust root."""


class AuditProblem(Document):
    """Something in the log that cannot be believed."""

    number: int
    what: str
    """In one sentence."""
    facts: dict[str, str]
    """Where, expected, actual, to do."""
    passed_over: bool
    """Whether a later record names the number as skipped: the chain goes on without it."""


class AuditReport(Document):
    """Everything in a channel's log."""

    schema_version: Literal[1] = 1
    channel: Name
    entries: tuple[AuditEntry, ...]
    problems: tuple[AuditProblem, ...]

    @property
    def whole(self) -> bool:
        """Whether every decision in the chain can be believed, and none between them is missing."""
        return all(problem.passed_over for problem in self.problems)


@dataclass(frozen=True)
class _Object:
    """What lies under a number."""

    digest: str
    """Of its bytes; empty where there are none, or too many."""
    result: Recorded | VerificationFailed


def examine_audit(log: AuditLog) -> AuditReport:
    """Read and verify every review decision of a channel.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    numbers = log.numbers()
    with ThreadPoolExecutor(_READERS) as readers:
        objects = dict(zip(numbers, readers.map(lambda number: _look(log, number), numbers), strict=True))
    found = {number: seen.result for number, seen in objects.items() if isinstance(seen.result, Recorded)}
    # Up to the newest that verifies only: whoever may write can put a stray object at the last number there is.
    objects |= {number: _look(log, number) for number in range(1, max(found, default=0)) if number not in objects}
    failed = {number: seen.result for number, seen in objects.items() if isinstance(seen.result, VerificationFailed)}
    failed |= {number: error for number, recorded in found.items() if (error := _broken_link(log, recorded, objects))}
    skipped = {number for recorded in found.values() for number in recorded.record.skipped}
    return AuditReport(
        channel=log.channel,
        entries=tuple(_entry(recorded) for recorded in found.values()),
        problems=tuple(_problem(number, error, skipped) for number, error in sorted(failed.items())),
    )


def _look(log: AuditLog, number: int) -> _Object:
    data = None
    try:
        data = log.envelope(number)
        return _Object(sha256_hex(data or b""), log.verify(number, data))
    except VerificationFailed as error:
        return _Object(sha256_hex(data) if data is not None else "", error)


def _broken_link(log: AuditLog, recorded: Recorded, objects: Mapping[int, _Object]) -> VerificationFailed | None:
    """What is wrong between a record and those before it."""
    record, source = recorded.record, log.source(recorded.record.number)
    before = objects.get(record.predecessor)
    digest = before.digest if before else ""
    if digest != record.previous:
        return VerificationFailed(
            "A review decision follows another one than the one before it.",
            where=source,
            expected=f"previous {digest or '(nothing)'} (number {record.predecessor})",
            actual=f"previous {record.previous or '(nothing)'}",
        )
    if before and isinstance(before.result, Recorded):
        decided = before.result.record.decided
        if parse_time(record.decided) < parse_time(decided):
            return VerificationFailed(
                "A review decision is older than the one before it.",
                where=source,
                expected=f"not before {decided}",
                actual=record.decided,
            )
    passed_over = [number for number in record.skipped if isinstance(objects[number].result, Recorded)]
    if passed_over:
        return VerificationFailed(
            "A review decision passes over others that verify.",
            where=source,
            actual=f"numbers {', '.join(map(str, passed_over))}",
            hint="The trust root that its signer had may have lacked their keys.",
        )
    return None


def _entry(recorded: Recorded) -> AuditEntry:
    return AuditEntry(record=recorded.record, envelope=recorded.digest, key=recorded.key_id, holder=recorded.holder)


def _problem(number: int, error: VerificationFailed, skipped: Set[int]) -> AuditProblem:
    facts = {name: fact for name, fact in error.facts.items() if fact}
    return AuditProblem(number=number, what=error.what, facts=facts, passed_over=number in skipped)
