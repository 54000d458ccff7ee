"""One review decision as a document, and what makes one from the store believable.

The signed bytes are an in-toto statement of a type of its own, signed with a key that the trust root lists for `audit` only: such
a key verifies no generation, and a publishing key no decision. Numbering and chaining are `audit`'s business.
"""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator
from securesystemslib.signer import Key

from softprompt.artifact import Sha256
from softprompt.documents import Document, sha256_hex
from softprompt.errors import VerificationFailed
from softprompt.names import Name
from softprompt.release import envelope
from softprompt.release.in_toto import StatementType
from softprompt.release.statement import MAX_SKIPPED, Identifier, Time
from softprompt.release.trust import TrustRoot

MOST_NOTE_CHARACTERS = 2000


class Judgement(Document):
    """What a reviewer decided about one registered version."""

    decision: Literal["approved", "rejected"]
    name: Name
    """Of the registered model."""
    model_version: str = Field(min_length=1, max_length=256)
    """In MLflow."""
    prompt: Sha256
    """Digest of the prompt's manifest."""
    report: Sha256 | Literal[""]
    """Digest of the gate report that the version had; empty: it had none."""
    reviewer: str = Field(min_length=1, max_length=256)
    """Who, by their own account; the key that signs is what proves it."""
    note: str = Field(max_length=MOST_NOTE_CHARACTERS)

    @property
    def version(self) -> tuple[str, str, str]:
        """What it is about: name, version, prompt."""
        return self.name, self.model_version, self.prompt


class AuditRecord(Document):
    """A judgement at its place in a channel's log."""

    schema_version: Literal[1] = 1
    channel: Name
    channel_id: Identifier
    """From the trust root; a channel of the same name elsewhere has another."""
    number: int = Field(ge=1, lt=10**12)
    judgement: Judgement
    record_id: Identifier
    """Random, never used twice."""
    decided: Time
    previous: Sha256 | Literal[""]
    """sha256 of the envelope of the newest record that verified before; empty for the first of a channel."""
    skipped: tuple[int, ...] = Field(default=(), max_length=MAX_SKIPPED)
    """Numbers since that one, taken by objects that do not verify."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.skipped != tuple(range(self.number - len(self.skipped), self.number)):
            raise ValueError("skipped: must be the numbers just before this one")
        if self.predecessor < 0 or (self.predecessor == 0) != (self.previous == ""):
            raise ValueError("previous: the first record has none, each other one has")
        return self

    @property
    def predecessor(self) -> int:
        """Number of the record that `previous` names; 0: there is none."""
        return self.number - len(self.skipped) - 1


STATEMENT = StatementType(
    predicate_type="urn:softprompt:review-decision:v1",
    document=AuditRecord,
    subjects=lambda record: (record.judgement.prompt,),
    name="review decision",
)


@dataclass(frozen=True)
class Recorded:
    """A verified record, the envelope that it came in, and the key that signed it."""

    record: AuditRecord
    data: bytes
    key_id: str
    holder: str
    """Whose key it is, by the trust root."""

    @property
    def digest(self) -> str:
        """sha256 of the envelope, which the next record names as `previous`."""
        return sha256_hex(self.data)


def verify_record(data: bytes, *, number: int, channel: str, trust: TrustRoot, source: str) -> Recorded:
    """The record in an envelope, if it may be believed apart from its predecessor.

    Args:
        data: The envelope.
        number: Which record it has to be.
        channel: Of which channel.
        trust: Whom to believe.
        source: Where it comes from, for messages.

    Raises:
        VerificationFailed: Altered, signed by a key that may not, or about another channel or number.
    """
    key = _signer_of(data, number, channel, trust, source)
    record = STATEMENT.read(envelope.verify(data, [key], source=source), source=source)
    trusted = trust.channel(channel)
    expected = f"channel {channel} ({trusted.id}), number {number}"
    actual = f"channel {record.channel} ({record.channel_id}), number {record.number}"
    if expected != actual:
        raise VerificationFailed("A review decision lies in another's place.", where=source, expected=expected, actual=actual)
    return Recorded(record, data, key.keyid, trust.audit_keys[key.keyid].holder)


def _signer_of(data: bytes, number: int, channel: str, trust: TrustRoot, source: str) -> Key:
    """The key that an envelope says it is signed with, if it may sign here."""
    named = envelope.signers(data, source=source)
    allowed = {key.keyid: key for key in trust.audit_keys_for(channel, number)}
    key = next((allowed[key_id] for key_id in named if key_id in allowed), None)
    if key is None:
        raise VerificationFailed(
            "A review decision is signed by a key that may not sign it.",
            where=source,
            expected=f"an audit key of channel {channel}: {', '.join(sorted(allowed)) or '(none)'}",
            actual=", ".join(_described(key_id, channel, trust) for key_id in named) or "nobody",
            hint="Do not believe it. If the key is new, use the trust root that lists it.",
        )
    return key


def _described(key_id: str, channel: str, trust: TrustRoot) -> str:
    if key_id in trust.publishing_keys:
        return f"{key_id} (a publishing key)"
    known = trust.audit_keys.get(key_id)
    if known is None:
        return f"{key_id} (unknown)"
    last = known.last_record.get(channel)
    why = f"whose last record here is number {last}" if channel in known.channels else "for other channels"
    return f"{key_id} ({known.holder}'s, {why})"
