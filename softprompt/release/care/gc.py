"""Garbage collection: take away blobs that nothing names any more. Only blobs, never a generation, a root or a record.

Kept is what the last generations of every channel in the store name (all that were signed within the window for rolling back, and
some more), what an open proposal names, and what is younger than a grace period: a publisher puts its blobs before its
generation. Between looking and deleting somebody may publish, so the channels' newest generations and the blob's age are asked
for again before each delete; and where the bucket keeps versions, exactly the version that was looked at goes, so that a blob
which is put again at that very moment stays. The identity that does this is not the publisher's, who may delete nothing.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from softprompt.documents import Document
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release import envelope
from softprompt.release.blobs import Blobs
from softprompt.release.care.references import References
from softprompt.release.layout import (
    BLOBS_PREFIX,
    CHANNELS_PREFIX,
    GC_GRACE_SECONDS,
    MAX_ENVELOPE_BYTES,
    RETENTION_SECONDS,
    blob_digest,
    blob_key,
    channel_of,
    channel_prefix,
    generation_key,
    generation_number,
)
from softprompt.release.promotion.approvals import proposals
from softprompt.release.statement import Approval, Generation, from_statement, parse_time
from softprompt.release.store import CollectableStore
from softprompt.release.trust import TrustRoot

KEPT_GENERATIONS = 50


class Collection(Document):
    """What garbage collection found and did."""

    dry_run: bool
    channels: tuple[str, ...]
    num_blobs: int
    num_bytes: int
    """Of all blobs."""
    num_named: int
    """Blobs that something names."""
    num_young: int
    """Blobs that nothing names, within the grace period."""
    num_locked: int
    """Blobs that nothing names, held by Object Lock."""
    collected: tuple[str, ...]
    """Digests of the blobs that were taken away, or would be."""
    collected_bytes: int


def collect_garbage(
    store: CollectableStore,
    trust: TrustRoot,
    *,
    delete: bool,
    kept_generations: int = KEPT_GENERATIONS,
    kept_seconds: float = RETENTION_SECONDS,
    grace_seconds: float = GC_GRACE_SECONDS,
    clock: Callable[[], float] = time.time,
) -> Collection:
    """Take away the blobs that nothing names.

    Args:
        store: With the right to delete blobs, where that is asked for.
        trust: Tells a strange object that may be ignored from a generation of a newer softprompt, which may not.
        delete: Really; else only say what would go.
        kept_generations: How many of each channel's newest generations keep their blobs, at least.
        kept_seconds: Generations younger than this keep theirs, too.
        grace_seconds: Younger blobs stay; at least the grace that publishers count on.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: Too short a grace, no generation to keep, or a store without generations.
        VerificationFailed: A generation is believed and not understood: nothing is taken away.
        StoreUnavailable: The store does not answer, or refuses to delete.
    """
    if grace_seconds < GC_GRACE_SECONDS or kept_generations < 1:
        raise InvalidRequest(
            "Publishers count on a longer grace.",
            expected=f">= {GC_GRACE_SECONDS} seconds, and at least one generation",
            actual=f"{grace_seconds:.0f} seconds, {kept_generations} generations",
        )
    marks = _Marks(store, trust, kept_generations, clock() - kept_seconds)
    found = {blob_digest(key): size for key, size in store.sizes(BLOBS_PREFIX) if blob_digest(key)}
    young, locked, gone = 0, 0, []
    for digest in sorted(found.keys() - marks.named):
        if delete:
            marks.look_again()  # before the age: who publishes after this look has made sure that the blob is young
        seen = store.find(blob_key(digest))
        if seen is None:
            continue
        if digest in marks.named or seen.age_seconds < grace_seconds:
            young += digest not in marks.named
        elif seen.is_locked:
            locked += 1
        else:
            if delete:
                store.delete(blob_key(digest), version=seen.version)
            gone.append(digest)
    return Collection(
        dry_run=not delete,
        channels=tuple(sorted(marks.channels)),
        num_blobs=len(found),
        num_bytes=sum(found.values()),
        num_named=len(found.keys() & marks.named),
        num_young=young,
        num_locked=locked,
        collected=tuple(gone),
        collected_bytes=sum(found[digest] for digest in gone),
    )


class _Marks:
    """The blobs that generations and proposals name; grows while somebody publishes."""

    def __init__(self, store: CollectableStore, trust: TrustRoot, kept_generations: int, kept_since: float) -> None:
        self._store, self._trust, self._references = store, trust, References(store)
        self._newest: dict[str, int] = {}
        self.named = set[str]()
        for channel, numbers in self._numbers().items():
            self._newest[channel] = numbers[-1]
            self._mark_kept(channel, numbers, kept_generations, kept_since)
        if not self._newest:
            raise InvalidRequest(
                "There is no generation in this store, so everything would be garbage.",
                where=store.uri,
                hint="Check the bucket and the prefix.",
            )
        for digest in self._proposed():
            self.named |= digest

    @property
    def channels(self) -> frozenset[str]:
        """Every channel in the store."""
        return frozenset(self._newest)

    def look_again(self) -> None:
        """Mark what was published since the last look."""
        for channel, newest in self._newest.items():
            for key in self._store.list(channel_prefix(channel), start_after=generation_key(channel, newest)):
                number = generation_number(channel, key)
                if number:
                    self._mark(self._read(channel, number))
                    self._newest[channel] = number

    def _numbers(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key in self._store.list(CHANNELS_PREFIX):
            if (channel := channel_of(key)) and (number := generation_number(channel, key)):
                found.setdefault(channel, []).append(number)
        return {channel: sorted(numbers) for channel, numbers in found.items()}

    def _mark_kept(self, channel: str, numbers: list[int], kept_generations: int, kept_since: float) -> None:
        kept = 0
        for number in reversed(numbers):
            generation = self._read(channel, number)
            if generation and kept >= kept_generations and parse_time(generation.created) < kept_since:
                return
            kept += generation is not None
            self._mark(generation)

    def _mark(self, generation: Generation | None) -> None:
        if generation:
            self.named |= self._references.of(generation.state)

    def _read(self, channel: str, number: int) -> Generation | None:
        """A generation, whoever signed it: to keep too much is harmless. None: the object is none."""
        source = f"{self._store.uri}, key {generation_key(channel, number)}"
        try:
            data = self._store.get(generation_key(channel, number), max_bytes=MAX_ENVELOPE_BYTES) or b""
        except VerificationFailed:
            return None  # larger than any generation
        try:
            return from_statement(envelope.peek(data, source=source), source=source)
        except VerificationFailed as error:
            self._refuse_if_believed(data, channel, source, error)
            return None

    def _refuse_if_believed(self, data: bytes, channel: str, source: str, error: VerificationFailed) -> None:
        """A generation of a newer softprompt names blobs, too: to ignore it would take away what is served."""
        keys = self._trust.keys_for(channel)
        try:
            if keys:
                envelope.verify(data, keys, source=source)
            else:
                envelope.peek(data, source=source)
        except VerificationFailed:
            return
        raise error

    def _proposed(self) -> Iterator[frozenset[str]]:
        """What proposals name that Git may still take over."""
        blobs = Blobs(self._store)
        for proposal in (one for channel in self._newest for one in proposals(self._store, channel)):
            for share in proposal.desired.shares:
                yield self._references.of_prompt(share.prompt) | {share.approval}
                with suppress(VerificationFailed):  # gone already
                    data = blobs.read(share.approval, max_bytes=Approval.max_bytes)
                    yield frozenset(Approval.from_bytes(data, source=proposal.key).evidence.values())
