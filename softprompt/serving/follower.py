"""Follow one channel, and say which prompt a request means."""

import logging
import re
from dataclasses import dataclass

from softprompt.errors import FingerprintMismatch, InvalidRequest, SoftpromptError
from softprompt.release.reader import Reader, Snapshot

_log = logging.getLogger(__name__)
_MODEL = re.compile(r"(?P<name>[a-z0-9-]{1,40})(@sha256:(?P<digest>[0-9a-f]{64}))?")


class UnknownPrompt(InvalidRequest):
    """The channel serves no such prompt; never answered by the bare base instead."""


@dataclass(frozen=True)
class Route:
    """What one request means.

    Attributes:
        name: The prompt's name.
        digest: The prompt's digest.
        snapshot: The generation that the request stays with, whatever is published meanwhile.
    """

    name: str
    digest: str
    snapshot: Snapshot


class Follower:
    """Keeps the newest believed generation of a channel; a refresh swaps one reference.

    Args:
        reader: Of the channel.
        base_fingerprint: The base model that runs here.
    """

    def __init__(self, reader: Reader, base_fingerprint: str) -> None:
        self._reader, self._base = reader, base_fingerprint
        self.snapshot: Snapshot = reader.refresh()

    def refresh(self) -> None:
        """Look for a newer generation. A bad update never evicts the good one: what fails leaves the snapshot as it is."""
        try:
            self.snapshot = self._reader.refresh()
        except SoftpromptError as error:
            _log.warning("looking for a newer generation failed: %s", error)

    @property
    def names(self) -> list[str]:
        """Prompts that can be asked for on this base, sorted."""
        return sorted(name for name, served in self.snapshot.prompts.items() if self._base in served.bases)

    def route(self, model: str) -> Route:
        """The prompt that `NAME` or `NAME@sha256:DIGEST` means now.

        Raises:
            UnknownPrompt: None.
            FingerprintMismatch: One that was trained on another base model.
        """
        snapshot = self.snapshot
        asked = _MODEL.fullmatch(model)
        served = snapshot.prompts.get(asked["name"]) if asked else None
        if asked is None or served is None:
            raise unknown_prompt(model, snapshot, self.names)
        if self._base not in served.bases:
            raise FingerprintMismatch(
                "The channel serves this prompt on another base model only.",
                where=f"{model}, channel {snapshot.statement.channel}, generation {snapshot.generation}",
                expected=" or ".join(sorted(served.bases)),
                actual=self._base,
                hint="Use that base model, or tune the prompt for this one.",
            )
        digests = [share.prompt for share in sorted(served.bases[self._base], key=lambda share: -share.weight)]
        digest = asked["digest"] or digests[0]
        if digest not in (*digests, *served.pinnable):
            raise unknown_prompt(model, snapshot, self.names)
        return Route(asked["name"], digest, snapshot)


def unknown_prompt(model: str, snapshot: Snapshot, names: list[str]) -> UnknownPrompt:
    """The error for a name that a generation does not serve."""
    return UnknownPrompt(
        "The channel serves no such prompt.",
        where=f"channel {snapshot.statement.channel}, generation {snapshot.generation}",
        expected=f"one of {', '.join(names)}" if names else "any, but it serves none yet; publish one first",
        actual=model[:200],
    )
