"""A channel's generations in the store, and which of them may be believed; publishers and readers share this.

A generation verifies if a key that the trust root allows for this channel signed it, it is about this channel (name
and id), its number is the one in its key, and the generation that it names as its predecessor is the one in the store.
Whether a verified generation may be *activated* (expiry, base, blobs) is the reader's question.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from softprompt.documents import sha256_hex
from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.release import envelope
from softprompt.release.layout import MAX_ENVELOPE_BYTES, channel_prefix, generation_key, generation_number
from softprompt.release.statement import Generation, from_statement, parse_time
from softprompt.release.store import ObjectStore
from softprompt.release.trust import TrustRoot

_READINGS = 3


class Missing(VerificationFailed):
    """An envelope is not there that has to be: somebody took it away, or the store shows an old state of itself."""


@dataclass(frozen=True)
class Signed:
    """A verified generation and the envelope that it came in."""

    generation: Generation
    data: bytes
    """The envelope, as it lies in the store."""

    @property
    def digest(self) -> str:
        """sha256 of the envelope, which the next generation names as `previous`."""
        return sha256_hex(self.data)


@dataclass(frozen=True)
class Head:
    """The newest generation that verifies, and the numbers above it that are taken by objects that do not."""

    signed: Signed
    taken: frozenset[int]


class ChannelLog:
    """The generations of one channel.

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

    def numbers(self, *, after: int = 0) -> list[int]:
        """Numbers above `after` that are taken, by whatever object, ascending. StoreUnavailable: no right to list."""
        start = generation_key(self.channel, after) if after else ""
        keys = self.store.list(channel_prefix(self.channel), start_after=start)
        found = (generation_number(self.channel, key) for key in keys)
        return sorted(number for number in found if number is not None and number > after)

    def read(self, number: int, *, known: Mapping[int, str] | None = None, history: bool = False) -> Signed:
        """One generation, verified.

        Args:
            number: Which one.
            known: Envelope digests that are remembered by number; they outrank what the store says now.
            history: As `verify_generation` has it.

        Raises:
            StoreUnavailable: It cannot be read, or reads differently each time.
            Missing: It, or the one that it follows, is not there.
            VerificationFailed: It does not verify, twice in the same way: a bit that flipped on the way makes no object bad.
        """
        before: list[str] = []
        for _ in range(_READINGS):
            readings: list[str] = []
            try:
                return self._read_once(number, known or {}, readings, history=history)
            except VerificationFailed:
                if readings == before:
                    raise
                before = readings
        raise StoreUnavailable(
            f"A generation reads differently each time, {_READINGS} times.",
            where=self._source(number),
            hint="Something between here and the store changes what passes. Try again, or find it.",
        )

    def head(self) -> Head | None:
        """The newest generation that verifies; None if none does.

        Raises:
            StoreUnavailable: The store does not answer, or an envelope is missing. A publisher that passed over a missing
                one would undo what it states.
        """
        taken: list[int] = []
        for number in reversed(self.numbers()):
            try:
                return Head(self.read(number), frozenset(taken))
            except Missing as error:
                raise StoreUnavailable(error.what, **error.facts) from None
            except VerificationFailed:
                taken.append(number)
        return None

    def is_history(self, signed: Signed) -> bool:
        """Whether the key of a verified generation was revoked after it: it is the past of what follows, and not activated."""
        if not any(self.trust.last_good(self.channel, key_id) for key_id in self.trust.publishing_keys):
            return False  # no key was revoked: nothing to open a large envelope for again
        number, source = signed.generation.generation, self._source(signed.generation.generation)
        lasts = [self.trust.last_good(self.channel, key_id) for key_id in envelope.signers(signed.data, source=source)]
        return all(last is not None and number < last.generation for last in lasts)

    def walk(self) -> Iterator[Signed]:
        """The generations that are believed, newest first: the head, and what each one names as the one before it.

        Ends where the store has no more, or what a key signed that is not believed there.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        head = self.head()
        if head:
            yield from self.walk_from(head.signed)

    def walk_from(self, signed: Signed) -> Iterator[Signed]:
        """The same, from a generation that is believed."""
        yield signed
        while signed.generation.predecessor:
            try:
                signed = self.before(signed.generation)
            except VerificationFailed:
                return
            yield signed

    def before(self, generation: Generation) -> Signed:
        """The generation that a believed one names as its predecessor.

        Raises:
            StoreUnavailable: It cannot be read.
            VerificationFailed: It is not there, is another one, or a key signed it that is not believed there.
        """
        number, source = generation.predecessor, self._source(generation.predecessor)
        data = self._envelope(number, [])
        if sha256_hex(data) != generation.previous:
            raise VerificationFailed(
                "A generation is not the one that the next one names.",
                where=source,
                expected=f"sha256 {generation.previous}",
                actual=f"sha256 {sha256_hex(data)}",
            )
        before = verify_generation(data, number=number, channel=self.channel, trust=self.trust, source=source, history=True)
        return Signed(before, data)

    def served_since(self, seconds: float) -> frozenset[str]:
        """Digests of all prompts that believed generations created after a time (seconds since 1970) have named.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        digests: set[str] = set()
        for signed in self.walk():
            if parse_time(signed.generation.created) < seconds:
                break
            digests |= signed.generation.state.digests
        return frozenset(digests)

    def past(self, generation: Generation) -> Iterator[Signed]:
        """What lies before a believed generation by the digests alone, newest first: no longer believed, and unchanged.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        while number := generation.predecessor:
            try:
                data, source = self._envelope(number, []), self._source(number)
                if sha256_hex(data) != generation.previous:
                    return
                generation = from_statement(envelope.peek(data, source=source), source=source)
            except VerificationFailed:
                return
            yield Signed(generation, data)

    def _read_once(self, number: int, known: Mapping[int, str], readings: list[str], *, history: bool) -> Signed:
        data, source = self._envelope(number, readings), self._source(number)
        generation = verify_generation(
            data, number=number, channel=self.channel, trust=self.trust, source=source, history=history
        )
        self._check_link(generation, known, readings)
        return Signed(generation, data)

    def _check_link(self, generation: Generation, known: Mapping[int, str], readings: list[str]) -> None:
        before = generation.predecessor
        if before < self.trust.channel(self.channel).minimum_generation:
            return  # there is none, or the trust root has cut it off
        digest = known.get(before) or sha256_hex(self._envelope(before, readings))
        if digest != generation.previous:
            raise VerificationFailed(
                "A generation follows another one than the one before it.",
                where=self._source(generation.generation),
                expected=f"previous {digest} (generation {before})",
                actual=f"previous {generation.previous}",
            )

    def _envelope(self, number: int, readings: list[str]) -> bytes:
        try:
            data = self.store.get(generation_key(self.channel, number), max_bytes=MAX_ENVELOPE_BYTES)
        except VerificationFailed as error:
            readings.append(str(error))
            raise
        readings.append(sha256_hex(data) if data is not None else "missing")
        if data is None:
            raise Missing(
                "A generation is not in the store.",
                where=self._source(number),
                hint="Try again. If it stays away, bring it back from the bucket's versions or a copy, or raise "
                "minimum_generation in the trust root above it.",
            )
        return data

    def _source(self, number: int) -> str:
        return f"{self.store.uri}, key {generation_key(self.channel, number)}"


def verify_generation(
    data: bytes, *, number: int, channel: str, trust: TrustRoot, source: str, history: bool = False
) -> Generation:
    """The generation in an envelope, if it may be believed apart from its predecessor.

    Args:
        data: The envelope.
        number: Which generation it has to be.
        channel: Of which channel.
        trust: Whom to believe.
        source: Where it comes from, for messages.
        history: Believe also what a revoked key signed before its last good generation, which is no longer activated. Only for
            what a believed generation names as the one before it, or what was believed here before.

    Raises:
        VerificationFailed: Signature, revoked key, statement, channel, number, or older than the trust root allows.
    """
    opened = envelope.open_envelope(data, trust.keys_for(channel), source=source)
    if opened.num_signatures != 1:  # nothing unsigned may travel with it
        raise VerificationFailed("A generation is signed more than once.", where=source, expected="one signature")
    generation = from_statement(opened.payload, source=source)
    trusted = trust.channel(channel)
    expected = f"channel {channel} ({trusted.id}), generation {number}"
    actual = f"channel {generation.channel} ({generation.channel_id}), generation {generation.generation}"
    if expected != actual:
        raise VerificationFailed("A signed generation lies in another's place.", where=source, expected=expected, actual=actual)
    if number < trusted.minimum_generation:
        raise VerificationFailed(
            "A generation is older than the trust root allows.",
            where=source,
            expected=f">= {trusted.minimum_generation}",
            actual=str(number),
        )
    _check_revoked(opened.key_ids, number, sha256_hex(data), channel, trust, source=source, history=history)
    return generation


def _check_revoked(
    key_ids: frozenset[str], number: int, digest: str, channel: str, trust: TrustRoot, *, source: str, history: bool
) -> None:
    """Whether one of the keys that signed counts there: not revoked, or revoked after this very generation."""
    for key_id in key_ids:
        last = trust.last_good(channel, key_id)
        if last is None or (number, digest) == (last.generation, last.envelope) or (history and number < last.generation):
            return
    revoked = min(key_ids)
    last = trust.last_good(channel, revoked)
    raise VerificationFailed(
        "A generation is signed by a key that was revoked.",
        where=source,
        expected=f"at most generation {last.generation} by the key {revoked[:12]}" if last else "",
        actual=f"generation {number}, sha256 {digest}",
        hint="Publish again, with a key that the trust root allows.",
    )


def newest(log: ChannelLog) -> Head:
    """The newest generation that verifies.

    Raises:
        InvalidRequest: None does: the channel was never begun here, or store and trust root do not belong together.
        StoreUnavailable: The store does not answer.
    """
    head = log.head()
    if head is None:
        raise InvalidRequest(
            "The channel has no generation that verifies in this store.",
            where=f"{log.store.uri}, channel {log.channel}",
            hint="Run `softprompt release init` for it, or check store and trust root.",
        )
    return head
