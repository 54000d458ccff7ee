"""Copy a channel into another store: trust roots, review decisions, generations and blobs, verified, never overwriting.

Blobs go first and generations last, oldest first, so that whoever follows the new store meanwhile sees an older state, never a
torn one. Running it again goes on where it was stopped. What does not verify stays behind and is named. The channel keeps its
id, so nodes follow it in the new store, and their high-water marks hold; from then on only one of the two may be published to.
"""

from collections.abc import Callable, Iterable

from softprompt.artifact import MAX_TENSOR_BYTES
from softprompt.documents import Document, sha256_hex
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.audit.log import AuditLog
from softprompt.release.blobs import Blobs
from softprompt.release.care.history import reason_of_disbelief
from softprompt.release.care.references import References
from softprompt.release.channel import ChannelLog, Signed
from softprompt.release.commit import commit
from softprompt.release.layout import (
    MAX_ENVELOPE_BYTES,
    ROOTS_PREFIX,
    audit_key,
    blob_key,
    generation_key,
    root_key,
    root_version,
)
from softprompt.release.roots import RootChain
from softprompt.release.store import ObjectStore, probe_conditional_writes
from softprompt.release.trust import TrustRoot

_HINT = "Run the same restore again: it goes on where it was stopped."


class Restored(Document):
    """What a restore did."""

    channel: str
    generation: int
    """The newest, in both stores now."""
    expires: str
    """Until when nodes without state accept it."""
    num_objects: int
    """That the new store has of this channel."""
    copied: int
    """Of these, how many were written now."""
    left_behind: tuple[str, ...]
    """Objects that do not verify, and blobs that were collected: not copied."""


def restore_channel(
    source: ObjectStore, target: ObjectStore, channel: str, mounted: TrustRoot, *, tell: Callable[[str], None] = lambda _: None
) -> Restored:
    """Copy a channel.

    Args:
        source: Where it lies.
        target: Where to; honours conditional creates.
        channel: Name.
        mounted: Where trust begins.
        tell: Is told each key that is written.

    Raises:
        InvalidRequest: The source has no generation that verifies, or the target has another object in a key's place.
        VerificationFailed: A version of the trust root does not verify.
        StoreUnavailable, PublishUnknown: A store does not answer; run it again.
    """
    probe_conditional_writes(target)
    trust = RootChain(mounted, None).follow(source)
    log = ChannelLog(source, channel, trust)
    chain = list(log.walk())
    if not chain:
        raise InvalidRequest("There is no generation that verifies to restore.", where=f"{source.uri}, channel {channel}")
    copy = _Copy(source, target, tell)
    copy.blobs(chain)
    copy.roots(trust.version)
    copy.audit(AuditLog(source, channel, trust))
    whole = [*chain, *log.past(chain[-1].generation)]
    for signed in reversed(whole):
        copy.write(generation_key(channel, signed.generation.generation), signed.data)
    known = {signed.generation.generation for signed in whole}
    strange = [number for number in log.numbers() if number not in known]
    copy.left += [f"{generation_key(channel, number)}: {reason_of_disbelief(log, number)}" for number in strange]
    head = chain[0].generation
    return Restored(
        channel=channel,
        generation=head.generation,
        expires=head.expires,
        num_objects=copy.num_objects,
        copied=copy.copied,
        left_behind=tuple(copy.left),
    )


class _Copy:
    """Writes what is not there yet."""

    def __init__(self, source: ObjectStore, target: ObjectStore, tell: Callable[[str], None]) -> None:
        self._source, self._target, self._tell = source, target, tell
        self.num_objects, self.copied, self.left = 0, 0, list[str]()

    def blobs(self, chain: Iterable[Signed]) -> None:
        """Whatever a generation names and is still there; each is read and hashed, here and there."""
        references = References(self._source)
        named = frozenset().union(*(references.of(signed.generation.state) for signed in chain))
        for digest in sorted(named):
            try:
                if self._is_whole(digest):
                    self.num_objects += 1
                    continue
                data = Blobs(self._source).read(digest, max_bytes=MAX_TENSOR_BYTES)
            except VerificationFailed as error:
                self.left.append(f"{blob_key(digest)}: {error.actual or error.what}")
                continue
            self.write(blob_key(digest), data)

    def roots(self, newest: int) -> None:
        """Every version up to the one that was followed."""
        for version in sorted(filter(None, map(root_version, self._source.list(ROOTS_PREFIX)))):
            data = self._source.get(root_key(version), max_bytes=MAX_ENVELOPE_BYTES)
            if data is not None and version <= newest:
                self.write(root_key(version), data)

    def audit(self, log: AuditLog) -> None:
        """Review decisions that verify."""
        for number in log.numbers():
            try:
                self.write(audit_key(log.channel, number), log.read(number).data)
            except VerificationFailed as error:
                self.left.append(f"{audit_key(log.channel, number)}: {error.what}")

    def write(self, key: str, data: bytes) -> None:
        """Create an object; one that is there already has to be the same."""
        self.num_objects += 1
        if self._has(key, data):
            return
        if not commit(self._target, key, data, hint=_HINT, max_bytes=MAX_TENSOR_BYTES):
            raise InvalidRequest(
                "The new store has another object there; nothing is overwritten.",
                where=f"{self._target.uri}, key {key}",
                hint="Restore into an empty bucket or prefix.",
            )
        self.copied += 1
        self._tell(key)

    def _has(self, key: str, data: bytes) -> bool:
        try:
            return self._target.get(key, max_bytes=len(data)) == data
        except VerificationFailed:
            return False  # larger; writing it will be refused

    def _is_whole(self, digest: str) -> bool:
        """Whether the target has the blob already; one that is changed is refused when it is written."""
        data = self._target.get(blob_key(digest), max_bytes=MAX_TENSOR_BYTES)
        return data is not None and sha256_hex(data) == digest
