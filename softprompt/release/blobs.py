"""Content-addressed blobs: whatever has the right sha256 is right, wherever it comes from.

A prompt is two of them, its manifest (whose sha256 is the prompt's identity) and the tensor that the manifest names.
"""

from collections.abc import Mapping
from pathlib import Path

from softprompt.artifact import Manifest, PromptFile, read_manifest
from softprompt.documents import sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.release.durable import read_if_there, write_durably
from softprompt.release.layout import GC_GRACE_SECONDS, blob_key
from softprompt.release.store import ObjectStore

MAX_EVIDENCE_BYTES = 64 * 1024 * 1024


class Blobs:
    """Reads blobs and believes none that does not have its sha256.

    Args:
        store: Where they are.
        folder: Where verified ones are kept, so that they need no store next time; None: nowhere.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store, self._folder = store, folder

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
                hint="Publish the prompt again, or roll back to one that is whole.",
            )
        if self._folder:
            write_durably(self._folder / digest, data)
        return data

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


def put_blobs(store: ObjectStore, blobs: Mapping[str, bytes]) -> None:
    """Make sure that blobs are in the store and stay there until a generation names them.

    One that is there already is written again once it is older than half of the grace that garbage collection gives to
    blobs without a generation: otherwise it could be collected between now and the commit.

    Raises:
        StoreUnavailable: One of them could not be written.
    """
    for digest in blobs:
        age = store.age_seconds(blob_key(digest))
        if age is None or age > GC_GRACE_SECONDS / 2:
            store.put(blob_key(digest), blobs[digest])
