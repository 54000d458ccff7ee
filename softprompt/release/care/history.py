"""What a channel has served: each generation, who signed it, when, from which commit, and what it changed."""

from softprompt.artifact import Sha256
from softprompt.documents import Document, sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.names import Name
from softprompt.release import envelope
from softprompt.release.channel import ChannelLog, Signed
from softprompt.release.layout import generation_key
from softprompt.release.planning.plan import differences
from softprompt.release.statement import ChannelState


class HistoryEntry(Document):
    """One generation that is believed."""

    generation: int
    envelope: Sha256
    """sha256 of its envelope."""
    signed_by: str
    """Id of the key."""
    created: str
    expires: str
    git_commit: str
    """What it was computed from; empty where Git is not the authority."""
    num_prompts: int
    changes: tuple[str, ...]
    """What differs from the believed generation before it; empty: signed again, unchanged."""


class Disbelieved(Document):
    """A number that something else has taken."""

    generation: int
    reason: str


class History(Document):
    """A channel's generations, newest first."""

    channel: Name
    channel_id: str
    entries: tuple[HistoryEntry, ...]
    disbelieved: tuple[Disbelieved, ...]
    """Newest first; those between and above the entries."""


def read_history(log: ChannelLog, *, most: int = 0) -> History:
    """The generations of a channel that are believed, and what else lies between them.

    Args:
        log: The channel.
        most: How many of the newest; 0: all.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    chain: list[Signed] = []
    for signed in log.walk():
        chain.append(signed)
        if most and len(chain) > most:  # one more, to say what the last one shown has changed
            break
    shown = chain[:most] if most else chain
    states = [signed.generation.state for signed in chain[1:]] + [ChannelState()]
    believed = {signed.generation.generation for signed in chain}
    lowest = shown[-1].generation.generation if most and len(chain) > most else 0
    others = [number for number in reversed(log.numbers(after=max(0, lowest - 1))) if number not in believed]
    return History(
        channel=log.channel,
        channel_id=log.trust.channel(log.channel).id,
        entries=tuple(_entry(signed, before) for signed, before in zip(shown, states, strict=False)),
        disbelieved=tuple(Disbelieved(generation=number, reason=reason_of_disbelief(log, number)) for number in others),
    )


def signed_by(signed: Signed) -> str:
    """Id of the key that signed a verified generation."""
    return ", ".join(envelope.signers(signed.data, source=f"generation {signed.generation.generation}"))


def disbelief(log: ChannelLog, number: int) -> VerificationFailed:
    """Why a number that is not in the chain of the newest generation is not believed. StoreUnavailable: no answer."""
    try:
        signed = log.read(number)
    except VerificationFailed as error:
        return error
    where = f"{log.store.uri}, key {generation_key(log.channel, number)}"
    return VerificationFailed("No later generation names it as the one before.", where=where, actual=f"sha256 {signed.digest}")


def reason_of_disbelief(log: ChannelLog, number: int) -> str:
    """The same in one line."""
    error = disbelief(log, number)
    facts = "; ".join(f"{name}: {fact}" for name, fact in error.facts.items() if fact and name in ("expected", "actual"))
    return f"{error.what} {facts}".strip()


def _entry(signed: Signed, before: ChannelState) -> HistoryEntry:
    generation = signed.generation
    return HistoryEntry(
        generation=generation.generation,
        envelope=sha256_hex(signed.data),
        signed_by=signed_by(signed),
        created=generation.created,
        expires=generation.expires,
        git_commit=generation.git_commit,
        num_prompts=len(generation.state.prompts),
        changes=tuple(differences(before, generation.state)),
    )
