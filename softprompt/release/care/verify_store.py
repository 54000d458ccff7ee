"""Verify everything that lies in a store: the chain of trust roots, generations, review decisions, and every blob.

A *problem* is something that does not hold: a broken chain, a signature that does not verify, a blob that is not what its name
says, a blob missing that a generation still needs. A *note* is something odd that has been dealt with: a number that a later
generation names as skipped, or what a key signed that was revoked since.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import Field

from softprompt.artifact import MAX_TENSOR_BYTES
from softprompt.documents import Document, sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.report import examine_audit
from softprompt.release.blobs import Blobs
from softprompt.release.care.gc import KEPT_GENERATIONS
from softprompt.release.care.history import disbelief
from softprompt.release.care.references import References
from softprompt.release.channel import ChannelLog, Signed
from softprompt.release.layout import (
    BLOBS_PREFIX,
    MAX_ENVELOPE_BYTES,
    RETENTION_SECONDS,
    ROOTS_PREFIX,
    blob_digest,
    blob_key,
    generation_key,
    root_key,
    root_version,
)
from softprompt.release.statement import parse_time
from softprompt.release.store import ObjectStore
from softprompt.release.trust import TrustRoot, verify_successor, verify_trust_root

_READERS = 8
"""Requests at a time."""


class Finding(Document):
    """One thing that was found."""

    key: str
    """Of the object in the store."""
    what: str
    facts: dict[str, str] = Field(default_factory=dict)
    """Expected, actual, to do."""


class Verification(Document):
    """What was looked at, and what was found."""

    channels: tuple[str, ...]
    num_roots: int
    num_generations: int
    num_audit_records: int
    num_blobs: int
    num_bytes: int
    num_collected: int
    """Blobs that only old generations name, taken away since."""
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Whether everything holds."""
        return not self.problems


def verify_store(store: ObjectStore, mounted: TrustRoot, channels: Sequence[str], *, now: float) -> Verification:
    """Look at every object of some channels, and at every root and blob.

    Args:
        store: Where they lie.
        mounted: Where trust begins; what the store has has to go on from it.
        channels: Names, known to the trust root.
        now: Seconds since 1970: what was signed within the window for rolling back has to have its blobs.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    problems, notes = list[Finding](), list[Finding]()
    roots = _verify_roots(store, mounted, problems)
    trust = roots[-1] if roots and roots[-1].version > mounted.version else mounted
    chains = {channel: _verify_channel(ChannelLog(store, channel, trust), problems, notes) for channel in channels}
    records = sum(_verify_audit(AuditLog(store, channel, trust), problems, notes) for channel in channels)
    sizes = _verify_blobs(store, problems)
    collected = _verify_references(store, chains.values(), sizes.keys(), now, problems)
    return Verification(
        channels=tuple(channels),
        num_roots=len(roots),
        num_generations=sum(len(chain) for chain in chains.values()),
        num_audit_records=records,
        num_blobs=len(sizes),
        num_bytes=sum(sizes.values()),
        num_collected=collected,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _verify_roots(store: ObjectStore, mounted: TrustRoot, problems: list[Finding]) -> list[TrustRoot]:
    """The versions in the store, each the successor of the one before, the mounted one among them."""
    roots = list[TrustRoot]()
    for version in sorted(filter(None, map(root_version, store.list(ROOTS_PREFIX)))):
        key = root_key(version)
        before = roots[-1] if roots else mounted if version == mounted.version + 1 else None
        try:
            data = store.get(key, max_bytes=MAX_ENVELOPE_BYTES) or b""
            root = verify_successor(data, before, source=key) if before else verify_trust_root(data, source=key)
        except VerificationFailed as error:
            problems.append(_finding(key, error))
            return roots
        if version == mounted.version and root != mounted:
            problems.append(Finding(key=key, what="The store's trust root is not the one that is mounted here."))
            return roots
        roots.append(root)
    return roots


def _verify_channel(log: ChannelLog, problems: list[Finding], notes: list[Finding]) -> list[Signed]:
    """The chain of believed generations; what is not in it is a note where the chain passes over it, else a problem."""
    chain = _chain(log)
    numbers = {signed.generation.generation for signed in chain}
    skipped = {number for signed in chain for number in signed.generation.skipped}
    if chain and chain[-1].generation.predecessor:
        problems.extend(_end_of_chain(log, chain[-1], notes))
    lowest = min(numbers, default=0)
    for number in log.numbers():
        if number in numbers:
            continue
        error = disbelief(log, number)
        finding = _finding(error.where.rpartition("key ")[2] or generation_key(log.channel, number), error)
        (notes if number in skipped or number < lowest else problems).append(finding)
    if not chain:
        problems.append(Finding(key=generation_key(log.channel, 1), what="The channel has no generation that verifies."))
    return chain


def _chain(log: ChannelLog) -> list[Signed]:
    """The believed generations, newest first; where a reader would wait for a missing one, this looks on."""
    for number in reversed(log.numbers()):
        try:
            return list(log.walk_from(log.read(number)))
        except VerificationFailed:
            continue
    return []


def _end_of_chain(log: ChannelLog, oldest: Signed, notes: list[Finding]) -> Iterator[Finding]:
    """Why the chain goes no further back: a problem, unless the trust root itself says that it does not."""
    key = generation_key(log.channel, oldest.generation.predecessor)
    try:
        log.before(oldest.generation)
    except VerificationFailed as error:
        data = log.store.get(key, max_bytes=MAX_ENVELOPE_BYTES)
        if data is not None and sha256_hex(data) == oldest.generation.previous:
            notes.append(_finding(key, error))  # the very bytes that the chain names, not believed any more
        else:
            yield _finding(key, error)


def _verify_audit(log: AuditLog, problems: list[Finding], notes: list[Finding]) -> int:
    report = examine_audit(log)
    for problem in report.problems:
        finding = Finding(key=log.source(problem.number).rpartition("key ")[2], what=problem.what, facts=problem.facts)
        (notes if problem.passed_over else problems).append(finding)
    return len(report.entries)


def _verify_blobs(store: ObjectStore, problems: list[Finding]) -> dict[str, int]:
    """Every blob whose content is what its name says, with its size in bytes."""

    def look(digest: str) -> int | VerificationFailed:
        try:
            return len(Blobs(store).read(digest, max_bytes=MAX_TENSOR_BYTES))
        except VerificationFailed as error:
            return error

    digests = [digest for digest in map(blob_digest, store.list(BLOBS_PREFIX)) if digest]
    with ThreadPoolExecutor(_READERS) as readers:
        seen = dict(zip(digests, readers.map(look, digests), strict=True))
    problems.extend(_finding(blob_key(digest), error) for digest, error in seen.items() if isinstance(error, VerificationFailed))
    return {digest: size for digest, size in seen.items() if isinstance(size, int)}


def _verify_references(
    store: ObjectStore, chains: Iterable[list[Signed]], whole: Iterable[str], now: float, problems: list[Finding]
) -> int:
    """Whether each blob is there that generations need; how many are gone that only old ones name."""
    references, there = References(store), frozenset(whole)
    needed, named = dict[str, str](), set[str]()
    for chain in chains:
        for index, signed in enumerate(chain):
            blobs = references.of(signed.generation.state)
            named |= blobs
            if index < KEPT_GENERATIONS or now - parse_time(signed.generation.created) < RETENTION_SECONDS:
                by = f"{signed.generation.channel} generation {signed.generation.generation}"
                needed |= dict.fromkeys(blobs - needed.keys(), by)
    for digest in sorted(needed.keys() - there):
        if store.get(blob_key(digest), max_bytes=MAX_TENSOR_BYTES) is None:  # one that is changed has been named already
            problems.append(Finding(key=blob_key(digest), what="A blob is missing.", facts={"needed by": needed[digest]}))
    for chain in chains:
        problems.extend(_prompts_of_head(store, chain, there))
    return len(named - needed.keys() - there)


def _prompts_of_head(store: ObjectStore, chain: list[Signed], there: frozenset[str]) -> Iterator[Finding]:
    """What is served now has to be prompts, not only bytes of the right digest."""
    digests = sorted(chain[0].generation.state.digests & there) if chain else []

    def look(digest: str) -> VerificationFailed | None:
        try:
            Blobs(store).prompt(digest)
        except VerificationFailed as error:
            return error
        return None

    with ThreadPoolExecutor(_READERS) as readers:
        for digest, error in zip(digests, readers.map(look, digests), strict=True):
            if error and "missing" not in error.what:
                yield _finding(blob_key(digest), error)


def _finding(key: str, error: VerificationFailed) -> Finding:
    return Finding(key=key, what=error.what, facts={name: fact for name, fact in error.facts.items() if fact and name != "where"})
