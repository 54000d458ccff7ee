"""Which blobs a channel's state needs: manifests, the tensors that they name, approvals, and evidence.

Garbage collection, restoring and verifying ask the same question and have to get the same answer.
"""

from softprompt.artifact import Manifest, read_manifest
from softprompt.errors import VerificationFailed
from softprompt.release.blobs import Blobs, at_once
from softprompt.release.statement import ChannelState
from softprompt.release.store import ObjectStore


class References:
    """Digests of the blobs that states need; each manifest is read once.

    Args:
        store: Where manifests are read, to learn which tensors they name.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._blobs = Blobs(store)
        self._parts: dict[str, frozenset[str]] = {}

    def of(self, state: ChannelState) -> frozenset[str]:
        """Every blob that a state needs. StoreUnavailable: a manifest cannot be asked for."""
        found = set[str]()
        at_once(self.of_prompt, [approval.prompt for approval in state.approvals.values() if approval.prompt not in self._parts])
        for approval in state.approvals.values():
            found |= {approval.digest, *approval.evidence.values()} | self.of_prompt(approval.prompt)
        return frozenset(found)

    def of_prompt(self, digest: str) -> frozenset[str]:
        """The blobs of one prompt; of one whose manifest is not whole, its manifest only. StoreUnavailable: no answer."""
        if digest not in self._parts:
            self._parts[digest] = self._read(digest)
        return self._parts[digest] | {digest}

    def _read(self, digest: str) -> frozenset[str]:
        try:
            manifest = self._blobs.read(digest, max_bytes=Manifest.max_bytes)
            return frozenset(part.sha256 for part in read_manifest(manifest, source=f"prompt {digest}").parts)
        except VerificationFailed:
            return frozenset()
