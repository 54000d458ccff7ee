"""Publish a channel's next generation: blobs, then the journal, then the one conditional create that is the commit.

Publishers race on the key of the next number and one wins; a loser plans again from what the winner made. A reply that
was lost is resolved by reading the key. What cannot be resolved is reported as unknown, never as failed, and stays in
the journal for the next run, which recognises its own. So running a publish again, after whatever happened to it,
never makes a second one.
"""

import random
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from securesystemslib.signer import Signer

from softprompt.documents import Document
from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.names import Name
from softprompt.release import envelope
from softprompt.release.blobs import mend_blobs, named_blobs, put_blobs
from softprompt.release.channel import ChannelLog, Head, Signed, verify_generation
from softprompt.release.commit import commit, read_back
from softprompt.release.durable import file_lock, read_if_there, remove_durably, write_durably
from softprompt.release.layout import (
    CLOCK_SKEW_SECONDS,
    LAST_NUMBER,
    LIFE_SECONDS,
    MAX_ENVELOPE_BYTES,
    RENEW_SECONDS,
    generation_key,
)
from softprompt.release.planning.plan import Plan
from softprompt.release.statement import MAX_SKIPPED, ChannelState, Generation, format_time, parse_time, to_statement
from softprompt.release.store import probe_conditional_writes
from softprompt.release.trust import PublicKey

_RACES = 20
_PAUSE_SECONDS = 0.2

Decision = Callable[[Generation], Plan]
"""What to state next, given the newest generation; asked again whenever another publisher was faster."""


class Published(Document):
    """What became of a publish."""

    outcome: Literal["published", "unchanged", "refused"]
    generation: int
    """The generation that states it now; if refused, the newest."""
    reasons: tuple[str, ...] = ()
    """Why it was refused, or what else is worth knowing."""
    differences: tuple[str, ...] = ()
    """What changed, for people."""


class _Journal(Document):
    """The envelope that a publisher is about to create or has just created."""

    max_bytes = 2 * MAX_ENVELOPE_BYTES

    channel: Name
    generation: int
    envelope: str


class Publisher:
    """Publishes to one channel; one at a time on a machine, racing fairly with those on others.

    Args:
        log: The channel.
        signer: A key that the trust root allows for it.
        state_dir: Folder of journals; the same one next time, so that a killed publish is recognised.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: The trust root does not allow this key for this channel.
    """

    def __init__(self, *, log: ChannelLog, signer: Signer, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        _check_key(log, signer)
        self._log, self._signer, self._clock = log, signer, clock
        self._journal = state_dir / f"{log.channel}.journal.json"
        self._lock = state_dir / f"{log.channel}.lock"
        self._hint = f"Run the same publish again with the same state folder ({state_dir}): it finds out."

    def publish(self, decide: Decision, *, blobs: Mapping[str, bytes], git_commit: str = "") -> Published:
        """State what `decide` plans, unless the channel states it already.

        Args:
            decide: Plans from the newest generation.
            blobs: What the planned state needs, by sha256; written before the commit, and put back if they were lost.
            git_commit: What the plan was computed from, where Git is the authority.

        Raises:
            InvalidRequest: The channel has no generation, or this machine's clock is behind.
            PublishUnknown: Nobody can say whether it took effect; run it again.
            StoreUnavailable: It did not take effect.
            VerificationFailed: Nor did it here: what is read is each time another thing than was stored.
        """
        with file_lock(self._lock):
            done = self._recover(decide, git_commit)
            if done:
                return done
            for attempt in range(_RACES):
                head = self._head()
                number = head.signed.generation.generation
                plan = decide(head.signed.generation)
                if plan.outcome == "refused":
                    return Published(outcome="refused", generation=number, reasons=plan.reasons)
                if plan.outcome == "unchanged" and attempt == 0:
                    mend_blobs(self._log.store, blobs)
                if plan.outcome == "unchanged" and not self._is_old(head.signed.generation):
                    return Published(outcome="unchanged", generation=number)
                if attempt == 0:
                    probe_conditional_writes(self._log.store)
                    kept = named_blobs(head.signed.generation.state, blobs)  # garbage collection leaves them alone
                    put_blobs(self._log.store, blobs, kept=kept)
                generation = self._next(head, plan.state, git_commit)
                if self._commit(generation):
                    return _published(generation, plan)
                time.sleep(random.uniform(0, _PAUSE_SECONDS))  # so that losers do not meet again
        raise StoreUnavailable(
            f"Other publishers were faster {_RACES} times.",
            where=f"{self._log.store.uri}, channel {self._log.channel}",
            hint="Try again.",
        )

    def begin(self, state: ChannelState) -> None:
        """State the first generation of a channel that has none, unless somebody is faster; for `init_channel`.

        Raises:
            PublishUnknown, StoreUnavailable: As `publish` does.
        """
        with file_lock(self._lock):
            probe_conditional_writes(self._log.store)
            self._commit(self._generation(number=1, previous="", skipped=(), state=state, created=self._clock()))

    def _head(self) -> Head:
        head = self._log.head()
        if head is None:
            raise InvalidRequest(
                "The channel has no generation that verifies in this store.",
                where=f"{self._log.store.uri}, channel {self._log.channel}",
                hint="Run `softprompt release init` for it, or check store and trust root.",
            )
        return head

    def _is_old(self, generation: Generation) -> bool:
        return self._clock() - parse_time(generation.created) > RENEW_SECONDS

    def _next(self, head: Head, state: ChannelState, git_commit: str) -> Generation:
        """The successor of `head`, at the lowest number that is free: a stray object far above costs no numbers."""
        before = head.signed.generation
        created, now = parse_time(before.created), self._clock()
        if now < created - CLOCK_SKEW_SECONDS:
            raise InvalidRequest(
                "This machine's clock is behind that of the last publisher.",
                where=f"channel {before.channel}, generation {before.generation}",
                expected=f"not before {before.created}",
                actual=format_time(now),
                hint="Set the clock.",
            )
        first = before.generation + 1
        number = next(number for number in range(first, LAST_NUMBER) if number not in head.taken)
        if number - first > MAX_SKIPPED:
            raise StoreUnavailable(
                f"More than {MAX_SKIPPED} objects that do not verify follow the newest generation.",
                where=f"{self._log.store.uri}, channel {before.channel}, after generation {before.generation}",
                hint="Somebody writes to this channel who should not. Find out who, and take the objects away.",
            )
        return self._generation(
            number=number,
            previous=head.signed.digest,
            skipped=tuple(range(first, number)),
            state=state,
            created=max(now, created),
            git_commit=git_commit,
        )

    def _generation(
        self,
        *,
        number: int,
        previous: str,
        skipped: tuple[int, ...],
        state: ChannelState,
        created: float,
        git_commit: str = "",
    ) -> Generation:
        return Generation(
            channel=self._log.channel,
            channel_id=self._log.trust.channel(self._log.channel).id,
            generation=number,
            state=state,
            git_commit=git_commit,
            publish_id=uuid.uuid4().hex,
            created=format_time(created),
            expires=format_time(created + LIFE_SECONDS),
            previous=previous,
            skipped=skipped,
        )

    def _commit(self, generation: Generation) -> bool:
        """Create the generation; whether its key is ours now."""
        data = envelope.sign(to_statement(generation), self._signer)
        journal = _Journal(channel=generation.channel, generation=generation.generation, envelope=data.decode())
        write_durably(self._journal, journal.to_bytes())
        won = commit(self._log.store, generation_key(generation.channel, generation.generation), data, hint=self._hint)
        remove_durably(self._journal)
        return won

    def _recover(self, decide: Decision, git_commit: str) -> Published | None:
        """Resolve what a killed publish left; the result, if it did what is asked for now."""
        written = read_if_there(self._journal)
        if written is None:
            return None
        left = self._left(written)
        done = left is not None and self._is_asked_for(left.generation, git_commit) and self._finish(left, decide)
        remove_durably(self._journal)
        if left is None or not done:
            return None
        reason = "An earlier run began this and was stopped before it could say how it ended."
        return Published(outcome="published", generation=left.generation.generation, reasons=(reason,))

    def _left(self, written: bytes) -> Signed | None:
        """What a journal says was about to be created; None: nobody can use it, and the head says what is so."""
        try:
            journal = _Journal.from_bytes(written, source=str(self._journal))
            data = journal.envelope.encode()
            generation = verify_generation(
                data,
                number=journal.generation,
                channel=self._log.channel,
                trust=self._log.trust,
                source=str(self._journal),
            )
        except VerificationFailed:
            return None
        return Signed(generation, data)

    def _is_asked_for(self, left: Generation, git_commit: str) -> bool:
        """Whether it can be this very publish: the same state stated long ago, or from another commit, is another one."""
        return left.git_commit == git_commit and not self._is_old(left)

    def _finish(self, left: Signed, decide: Decision) -> bool:
        """Whether the key holds the journalled bytes and they do what is asked for; they are sent again if it is free.

        A request of the killed run may still be on its way. Other bytes would lose to it, and be published beside it.
        """
        number = left.generation.generation
        key = generation_key(self._log.channel, number)
        found = read_back(self._log.store, key, left.data, hint=self._hint)
        if found is None and self._follows_head(left.generation, decide):
            probe_conditional_writes(self._log.store)
            found = left.data if commit(self._log.store, key, left.data, hint=self._hint) else b""
        return found == left.data and decide(left.generation).outcome == "unchanged"

    def _follows_head(self, left: Generation, decide: Decision) -> bool:
        head = self._head()
        plan = decide(head.signed.generation)
        return left.previous == head.signed.digest and plan.outcome == "change" and plan.state == left.state


def _check_key(log: ChannelLog, signer: Signer) -> None:
    key = signer.public_key
    allowed = {trusted.keyid: PublicKey.of(trusted) for trusted in log.trust.signing_keys_for(log.channel)}
    if allowed.get(key.keyid) != PublicKey.of(key):
        raise InvalidRequest(
            f"The trust root does not allow this key to sign the channel {log.channel}.",
            expected=" or ".join(sorted(allowed)) or "no key at all",
            actual=key.keyid,
            hint="Use the channel's publishing key, or a trust root that allows this one.",
        )


def _published(generation: Generation, plan: Plan) -> Published:
    signed_again = ("Nothing changed; the same state was signed again because the last signature was getting old.",)
    skipped = (f"The numbers {generation.skipped} are taken by objects that do not verify.",) if generation.skipped else ()
    return Published(
        outcome="published",
        generation=generation.generation,
        reasons=(signed_again if plan.outcome == "unchanged" else ()) + skipped,
        differences=plan.differences,
    )
