"""A channel's review decisions in the store: immutable, signed, numbered, each naming the one before it.

A decision is recorded as a generation is published: a signed statement, created under the next number on the condition that the
number is free. A record shows that the holder of a key said so about this prompt at this place in the order; it publishes
nothing. What the chain cannot show is that its newest records were taken away again: that nobody may delete is the store's
business.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from securesystemslib.signer import Signer

from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.release import envelope
from softprompt.release.audit.record import STATEMENT, AuditRecord, Judgement, Recorded, verify_record
from softprompt.release.commit import commit
from softprompt.release.layout import CLOCK_SKEW_SECONDS, MAX_ENVELOPE_BYTES, audit_key, audit_number, audit_prefix
from softprompt.release.statement import MAX_SKIPPED, format_time, parse_time
from softprompt.release.store import ObjectStore, probe_conditional_writes
from softprompt.release.trust import PublicKey, TrustRoot

_RACES = 20
_PAUSE_SECONDS = 0.2
_HINT = "Do the same again: a decision that was recorded is recognised."


class AuditLog:
    """The review decisions of one channel.

    Args:
        store: Where they lie.
        channel: Name.
        trust: Whom to believe.

    Raises:
        InvalidRequest: The trust root does not know the channel.
    """

    def __init__(self, store: ObjectStore, channel: str, trust: TrustRoot) -> None:
        trust.channel(channel)
        self.store, self.channel, self.trust = store, channel, trust

    def numbers(self) -> list[int]:
        """Numbers that are taken, by whatever object, ascending. StoreUnavailable: no right to list."""
        found = (audit_number(self.channel, key) for key in self.store.list(audit_prefix(self.channel)))
        return sorted(number for number in found if number is not None)

    def read(self, number: int) -> Recorded:
        """One record, verified apart from its predecessor.

        Raises:
            StoreUnavailable: It cannot be read.
            VerificationFailed: It does not verify, or is not there.
        """
        return self.verify(number, self.envelope(number))

    def envelope(self, number: int) -> bytes | None:
        """What lies under a number; None: nothing. VerificationFailed: more than an envelope can be."""
        return self.store.get(audit_key(self.channel, number), max_bytes=MAX_ENVELOPE_BYTES)

    def verify(self, number: int, data: bytes | None) -> Recorded:
        """The record in an envelope, if it may be believed apart from its predecessor. VerificationFailed: it may not."""
        source = self.source(number)
        if data is None:
            raise VerificationFailed("A review decision is missing.", where=source, hint="Somebody took it away.")
        return verify_record(data, number=number, channel=self.channel, trust=self.trust, source=source)

    def _newest_first(self, numbers: Sequence[int]) -> Iterator[Recorded]:
        """Verified decisions of these numbers; what does not verify is passed over. StoreUnavailable: one cannot be read."""
        for number in sorted(numbers, reverse=True):
            try:
                yield self.read(number)
            except VerificationFailed:
                continue

    def record(
        self, judgement: Judgement, signer: Signer, *, since: float, clock: Callable[[], float] = time.time
    ) -> tuple[Recorded, bool]:
        """Record a decision, unless it is already the newest about its version.

        Args:
            judgement: What was decided.
            signer: A key that the trust root lists for the audit of this channel.
            since: When the version was made, seconds since 1970: nothing older is about it.
            clock: Seconds since 1970.

        Returns:
            The record, and whether it was made now.

        Raises:
            InvalidRequest: The key may not sign here, or this machine's clock is behind.
            PublishUnknown: Nobody can say whether it was recorded; do it again.
            StoreUnavailable: It was not recorded.
        """
        probe_conditional_writes(self.store)
        for _ in range(_RACES):
            numbers = self.numbers()  # once: whoever records after this look takes the number that we are about to ask for
            known = self._newest_about(judgement.version, since, numbers)
            if known and known.record.judgement == judgement:
                return known, False
            made = self._next(judgement, signer, clock(), numbers)
            if commit(self.store, audit_key(self.channel, made.record.number), made.data, hint=_HINT):
                return made, True
            time.sleep(random.uniform(0, _PAUSE_SECONDS))  # so that losers do not meet again
        raise StoreUnavailable(
            f"Other reviewers were faster {_RACES} times.",
            where=f"{self.store.uri}, audit of channel {self.channel}",
            hint="Try again.",
        )

    def source(self, number: int) -> str:
        """Where a record lies, for messages."""
        return f"{self.store.uri}, key {audit_key(self.channel, number)}"

    def _newest_about(self, version: tuple[str, str, str], since: float, numbers: Sequence[int]) -> Recorded | None:
        for found in self._newest_first(numbers):
            if parse_time(found.record.decided) < since - CLOCK_SKEW_SECONDS:
                return None
            if found.record.judgement.version == version:
                return found
        return None

    def _next(self, judgement: Judgement, signer: Signer, now: float, numbers: Sequence[int]) -> Recorded:
        """The successor of the newest record that verifies, at the lowest number that is free, signed."""
        newest = next(self._newest_first(numbers), None)
        before = newest.record if newest else None
        first, taken = before.number + 1 if before else 1, set(numbers)
        number = next(number for number in count(first) if number not in taken)
        if number - first > MAX_SKIPPED:
            raise StoreUnavailable(
                f"More than {MAX_SKIPPED} objects that do not verify follow the newest review decision.",
                where=self.source(first),
                hint="Somebody writes to this log who should not. Find out who, and take the objects away.",
            )
        key_id, holder = self._check_signer(signer, number)
        record = AuditRecord(
            channel=self.channel,
            channel_id=self.trust.channel(self.channel).id,
            number=number,
            judgement=judgement,
            record_id=uuid.uuid4().hex,
            decided=format_time(self._time_after(before, now)),
            previous=newest.digest if newest else "",
            skipped=tuple(range(first, number)),
        )
        return Recorded(record, envelope.sign(STATEMENT.write(record), signer), key_id, holder)

    def _time_after(self, before: AuditRecord | None, now: float) -> float:
        decided = parse_time(before.decided) if before else now
        if before and now < decided - CLOCK_SKEW_SECONDS:
            raise InvalidRequest(
                "This machine's clock is behind that of the last reviewer.",
                where=self.source(before.number),
                expected=f"not before {before.decided}",
                actual=format_time(now),
                hint="Set the clock.",
            )
        return max(now, decided)

    def _check_signer(self, signer: Signer, number: int) -> tuple[str, str]:
        """Id and holder of the key, if it may sign this number here."""
        key = signer.public_key
        allowed = {known.keyid: PublicKey.of(known) for known in self.trust.audit_keys_for(self.channel, number)}
        if allowed.get(key.keyid) != PublicKey.of(key):
            raise InvalidRequest(
                f"The trust root does not list this key for review decisions of the channel {self.channel}.",
                expected=" or ".join(sorted(allowed)) or "no key at all",
                actual=key.keyid,
                hint="Use a key that it lists under audit_keys, or ask the owner of the root key to list this one.",
            )
        return key.keyid, self.trust.audit_keys[key.keyid].holder
