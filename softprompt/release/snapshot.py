"""What a node serves: one believed generation, what of it is revoked since, and what somebody should look at."""

from dataclasses import dataclass
from typing import Literal

from softprompt.artifact import PromptFile
from softprompt.errors import InvalidRequest
from softprompt.release.blobs import MAX_EVIDENCE_BYTES, Blobs
from softprompt.release.statement import Generation, Served

AlarmReason = Literal["kept_copy", "store", "root", "envelope", "time", "base", "prompt", "node", "disk", "expired", "revoked"]
"""What went wrong: with what this node kept, the store, the trust root, a generation's envelope; why a generation that verifies
is not activated: its times, no prompt for this base, a prompt that does not verify, the node's own checks, the disk; or with what
is served: it has expired, a newer generation revokes a prompt of it."""


class Alarm(str):
    """What somebody should look at, in words.

    Args:
        text: The words.
        reason: Its kind.
    """

    __slots__ = ("reason",)

    reason: AlarmReason

    def __new__(cls, text: str, reason: AlarmReason) -> "Alarm":
        """A string with a reason."""
        alarm = super().__new__(cls, text)
        alarm.reason = reason
        return alarm


@dataclass(frozen=True)
class Snapshot:
    """What a node serves from now on, until the next snapshot."""

    statement: Generation
    stale: bool
    """Whether there may be a newer one: the store did not answer, the newest was refused, or this one has expired."""
    alarms: tuple[Alarm, ...]
    """What somebody should look at."""
    _blobs: Blobs
    revoked: frozenset[str] = frozenset()
    """Prompts of this generation that a newer one, which cannot be activated here, revokes."""

    @property
    def generation(self) -> int:
        """Its number."""
        return self.statement.generation

    @property
    def prompts(self) -> dict[str, Served]:
        """Name -> prompts by base fingerprint, shadow, pinned, pinnable; without what is revoked."""
        prompts = self.statement.state.prompts
        if not self.revoked:
            return prompts
        left = {name: served.without(self.revoked) for name, served in prompts.items()}
        return {name: served for name, served in left.items() if served}

    @property
    def created(self) -> str:
        """When it was signed, RFC 3339."""
        return self.statement.created

    @property
    def expires(self) -> str:
        """Until when it is fresh, RFC 3339."""
        return self.statement.expires

    def load(self, digest: str) -> PromptFile:
        """The verified prompt file of a digest that this generation serves.

        Raises:
            InvalidRequest: The generation does not name it, or it is revoked.
            VerificationFailed, StoreUnavailable: It is not kept here any more, and cannot be had again.
        """
        if digest in self.revoked:
            raise InvalidRequest("This prompt is revoked.", where=f"generation {self.generation}", actual=digest)
        if digest not in self.statement.state.digests:
            raise InvalidRequest("The channel does not serve this prompt.", where=f"generation {self.generation}", actual=digest)
        return self._blobs.prompt(digest)

    def evidence(self, digest: str, file_name: str) -> bytes:
        """A verified evidence file about a prompt that this generation serves.

        Raises:
            InvalidRequest: There is no such evidence.
            VerificationFailed, StoreUnavailable: It cannot be had.
        """
        approval = self.statement.state.approvals.get(digest)
        blob = approval.evidence.get(file_name) if approval else None
        if blob is None:
            raise InvalidRequest(
                "There is no such evidence about this prompt.",
                where=f"generation {self.generation}, prompt {digest}",
                expected=file_name,
                actual=", ".join(approval.evidence) if approval else "a prompt that is not served",
            )
        return self._blobs.read(blob, max_bytes=MAX_EVIDENCE_BYTES)
