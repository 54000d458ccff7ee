"""Content-addressed blobs: whatever has the right sha256 is right, wherever it comes from.

A prompt is two of them, its manifest (whose sha256 is the prompt's identity) and the tensor that the manifest names.
"""

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from softprompt.artifact import Manifest, PromptFile, read_manifest
from softprompt.documents import sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.release.durable import flush, read_if_there, write_durably
from softprompt.release.layout import GC_GRACE_SECONDS, blob_key
from softprompt.release.statement import ChannelState
from softprompt.release.store import ObjectStore

MAX_EVIDENCE_BYTES = 64 * 1024 * 1024

_REQUESTS_AT_ONCE = 8
"""Fewer than the connections that boto3 keeps open (10)."""
_T = TypeVar("_T")


class Blobs:
    """Reads blobs and believes none that does not have its sha256.

    Args:
        store: Where they are.
        folder: Where verified ones are kept, so that they need no store next time; None: nowhere. They are on the disk once
            `flush` was called; one that a power cut tore before is noticed and read from the store again.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store, self._folder = store, folder
        self._unflushed: list[Path] = []

    def read(self, digest: str, *, max_bytes: int) -> bytes:
        """The blob with this sha256.

        Raises:
            StoreUnavailable: It is not kept here, and the store does not answer.
            VerificationFailed: The store does not have it, or has something else under its name.
        """
        kept = read_if_there(self._folder / digest) if self._folder else None
        if kept is not None and sha256_hex(kept) == digest:
            return kept
        data = self._store.get(blob_key(digest), max_bytes=max_bytes)
        actual = "no such object" if data is None else sha256_hex(data)
        if data is None or actual != digest:
            raise VerificationFailed(
                "A blob is missing or is not what its name says.",
                where=f"{self._store.uri}, key {blob_key(digest)}",
                expected=f"sha256 {digest}",
                actual=actual,
                hint="Publish the same prompt again: that puts its blobs back, also where the channel serves it already. Or roll "
                "back to a whole one. `softprompt release restore` from a copy of the channel brings back what is missing, too.",
            )
        if self._folder:
            write_durably(self._folder / digest, data, flushed=False)
            self._unflushed.append(self._folder / digest)
        return data

    def flush(self) -> None:
        """Bring what is kept onto the disk, all at once. InvalidRequest: the disk does not take it."""
        written = tuple(self._unflushed)
        flush([path for path in written if path.exists()])  # one that was taken away is read from the store again
        del self._unflushed[: len(written)]

    def kept(self) -> frozenset[str]:
        """Names of the files in the folder: sha256 of blobs that were verified when they were put there."""
        return frozenset(os.listdir(self._folder)) if self._folder and self._folder.is_dir() else frozenset()

    def prompt(self, digest: str) -> PromptFile:
        """The verified prompt with this identity. Raises as `read` does."""
        source = f"{self._store.uri}, prompt {digest}"
        manifest = self.read(digest, max_bytes=Manifest.max_bytes)
        part = read_manifest(manifest, source=source).parts[0]
        tensor = self.read(part.sha256, max_bytes=part.length_bytes)
        return PromptFile.from_bytes(manifest, tensor, source=source, expected_digest=digest)


def prompt_blobs(prompt: PromptFile) -> dict[str, bytes]:
    """The blobs of a prompt, by sha256."""
    return {prompt.digest: prompt.manifest.to_bytes(), prompt.manifest.parts[0].sha256: prompt.tensor}


def put_blobs(store: ObjectStore, blobs: Mapping[str, bytes], *, kept: Collection[str] = ()) -> None:
    """Make sure that blobs are in the store and stay there until a generation names them.

    One that is there already is written again once it is older than half of the grace that garbage collection gives to
    blobs without a generation: otherwise it could be collected between now and the commit.

    Args:
        store: Where to.
        blobs: By sha256.
        kept: Those that need no look, since a generation names them.

    Raises:
        StoreUnavailable: One of them could not be written.
    """

    def put(digest: str) -> None:
        age = store.age_seconds(blob_key(digest))
        if age is None or age > GC_GRACE_SECONDS / 2:
            store.put(blob_key(digest), blobs[digest])

    at_once(put, [digest for digest in blobs if digest not in kept])


def mend_blobs(store: ObjectStore, blobs: Mapping[str, bytes]) -> None:
    """Put back whatever of these is missing in the store or has changed there, for a state that is not published anew.

    Args:
        store: Where to.
        blobs: By sha256.

    Raises:
        StoreUnavailable: One of them could not be read or written.
    """
    there = Blobs(store)

    def mend(digest: str) -> None:
        try:
            there.read(digest, max_bytes=len(blobs[digest]))
        except VerificationFailed:
            store.put(blob_key(digest), blobs[digest])

    at_once(mend, blobs)


def named_blobs(state: ChannelState, at_hand: Mapping[str, bytes]) -> frozenset[str]:
    """The blobs that a generation's state names.

    Args:
        state: Of a generation that is retained: garbage collection leaves these blobs alone.
        at_hand: Blobs by sha256. A state names a tensor through its manifest only, so one whose manifest is missing here
            is missing in the result.
    """
    manifests = (at_hand[digest] for digest in state.digests if digest in at_hand)
    tensors = {part.sha256 for data in manifests for part in read_manifest(data, source="a manifest at hand").parts}
    approvals = state.approvals.values()
    evidence = {digest for approval in approvals for digest in approval.evidence.values()}
    return state.digests | tensors | evidence | {approval.digest for approval in approvals}


def at_once(work: Callable[[_T], object], items: Collection[_T]) -> None:
    """Do something to each item, several at a time; after the first error, which is raised, nothing more is begun."""
    if len(items) <= 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(min(_REQUESTS_AT_ONCE, len(items))) as pool:
        for _ in pool.map(work, items):
            pass
