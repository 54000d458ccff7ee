"""Which prompt a request means: a name, a pinned digest, its share of a canary."""

import hashlib
import math
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softprompt.errors import FingerprintMismatch, InvalidRequest
from softprompt.release.snapshot import Snapshot
from softprompt.release.statement import Share

_MODEL = re.compile(r"(?P<name>[a-z0-9-]{1,40})(@sha256:(?P<digest>[0-9a-f]{64}))?")


class UnknownPrompt(InvalidRequest):
    """The channel serves no such prompt; never answered by the bare base instead."""


class RevokedPrompt(UnknownPrompt):
    """It was served once and was taken back."""


@dataclass(frozen=True)
class Route:
    """What one request means.

    Attributes:
        name: The prompt's name.
        digest: The prompt's digest; empty: the bare base.
        snapshot: The generation that the request stays with, whatever is published meanwhile.
    """

    name: str
    digest: str
    snapshot: Snapshot


def everything(_: str) -> bool:
    """Whoever may ask every name."""
    return True


def route(model: str, snapshot: Snapshot, base: str, *, may_ask: Callable[[str], bool] = everything, sticky: str = "") -> Route:
    """The prompt that `NAME` or `NAME@sha256:DIGEST` means in a generation.

    Args:
        model: What was asked for.
        snapshot: The generation.
        base: Fingerprint of the base model that runs here.
        may_ask: Whether the caller may ask a name; what they may not, they learn nothing of.
        sticky: Whoever says the same again gets the same prompt of a canary, as long as the weights stay; empty: drawn each time.

    Raises:
        UnknownPrompt: None, or none that this caller may ask.
        RevokedPrompt: One that was taken back.
        FingerprintMismatch: One that was trained on another base model.
    """
    asked = _MODEL.fullmatch(model)
    served = snapshot.statement.state.prompts.get(asked["name"]) if asked else None  # with what was revoked since
    if asked is None or served is None or not may_ask(asked["name"]):
        raise unknown_prompt(model, snapshot, names_on(snapshot, base, may_ask))
    if base not in served.bases:
        raise FingerprintMismatch(
            "The channel serves this prompt on another base model only.",
            where=f"{model}, channel {snapshot.statement.channel}, generation {snapshot.generation}",
            expected=" or ".join(sorted(served.bases)),
            actual=base,
            hint="Use that base model, or tune the prompt for this one.",
        )
    shares = [share for share in served.bases[base] if share.prompt not in snapshot.revoked]
    digest = asked["digest"] or (choose(shares, f"{asked['name']}/{sticky}" if sticky else "") if shares else "")
    if not digest or digest in snapshot.revoked:
        raise RevokedPrompt("This prompt was revoked.", where=f"channel {snapshot.statement.channel}", actual=model)
    if digest not in (*(share.prompt for share in shares), *served.pinnable):
        raise unknown_prompt(model, snapshot, names_on(snapshot, base, may_ask))
    return Route(asked["name"], digest, snapshot)


def choose(shares: Sequence[Share], sticky: str = "") -> str:
    """One of a name's prompts, each as often as its weight says.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998): a key stays with its prompt when weights change, unless it has to
    move for the new shares to hold.
    """
    key = sticky or secrets.token_hex(8)
    return max(shares, key=lambda share: share.weight / -math.log(_fraction(key, share.prompt))).prompt


def names_on(snapshot: Snapshot, base: str, may_ask: Callable[[str], bool] = everything) -> list[str]:
    """Names that a caller may ask on a base, sorted."""
    return sorted(name for name, served in snapshot.prompts.items() if base in served.bases and may_ask(name))


def unknown_prompt(model: str, snapshot: Snapshot, names: Sequence[str]) -> UnknownPrompt:
    """The error for a name that a generation does not serve."""
    return UnknownPrompt(
        "The channel serves no such prompt.",
        where=f"channel {snapshot.statement.channel}, generation {snapshot.generation}",
        expected=f"one of {', '.join(names)}" if names else "any, but it serves none yet; publish one first",
        actual=model[:200],
    )


def _fraction(key: str, digest: str) -> float:
    """A number in (0, 1) that follows from key and digest."""
    number = int.from_bytes(hashlib.sha256(f"{key}/{digest}".encode("utf-8", "surrogatepass")).digest()[:6], "big")
    return (number + 0.5) / 2**48
