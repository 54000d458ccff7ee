"""Signed envelopes: DSSE through securesystemslib, read strictly.

Ed25519 by default; ECDSA P-256 for cloud KMS signers, none of which has Ed25519. An ECDSA signer signs the same bytes
differently each time, so an envelope's bytes are kept, never made again. Which keys may
sign what is `trust`'s business.
Format: https://github.com/secure-systems-lab/dsse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, Signer

from softprompt.documents import Document, canonical_json
from softprompt.errors import VerificationFailed
from softprompt.release.layout import MAX_ENVELOPE_BYTES

STATEMENT_PAYLOAD = "application/vnd.in-toto+json"


class _Signature(Document):
    keyid: str
    sig: str


class _Form(Document):
    """The form of an envelope; nothing else may travel with it, since nobody would have signed it."""

    max_bytes = MAX_ENVELOPE_BYTES

    payload: str
    payloadType: str  # noqa: N815  (DSSE's name)
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True)
class Opened:
    """What a verified envelope holds."""

    payload: bytes
    key_ids: frozenset[str]
    """The keys whose signatures verify."""
    num_signatures: int
    """All that travel with it, also of keys that nobody asked about."""


def sign(payload: bytes, *signers: Signer, payload_type: str = STATEMENT_PAYLOAD) -> bytes:
    """The canonical JSON of a DSSE envelope over `payload`, signed by each signer."""
    envelope = Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(signer)
    return canonical_json(envelope.to_dict())


def verify(data: bytes, keys: Sequence[Key], *, source: str, payload_type: str = STATEMENT_PAYLOAD) -> bytes:
    """The payload of an envelope, if one of the keys signed it. Arguments and errors as `open_envelope` has them."""
    return open_envelope(data, keys, source=source, payload_type=payload_type).payload


def open_envelope(data: bytes, keys: Sequence[Key], *, source: str, payload_type: str = STATEMENT_PAYLOAD) -> Opened:
    """The payload of an envelope, and which of the keys signed it; one has to.

    Args:
        data: The envelope's bytes.
        keys: Public keys, any of which suffices.
        source: Where it comes from, for messages.
        payload_type: The only type accepted; it is part of what is signed.

    Raises:
        VerificationFailed: Not an envelope, not canonical (so that nothing unsigned travels with it), of another
            payload type, or signed by none of the keys.
    """
    envelope = _parse(data, source)
    if envelope.payload_type != payload_type:
        raise VerificationFailed(
            "A signed envelope is of another type.", where=source, expected=payload_type, actual=envelope.payload_type
        )
    try:
        accepted = envelope.verify(list(keys), 1)
    except (VerificationError, ValueError):  # ValueError: no keys
        allowed, named = sorted(key.keyid[:12] for key in keys), sorted(keyid[:12] for keyid in envelope.signatures)
        raise VerificationFailed(
            "A signature does not verify.",
            where=source,
            expected=f"signed by {' or '.join(allowed) or 'nobody: no key is trusted for this'}",
            actual=f"claims to be signed by {', '.join(named) or 'nobody'}",
            hint="Do not use it. If the publishing key changed, give this machine the new trust root.",
        ) from None
    return Opened(bytes(envelope.payload), frozenset(accepted), len(envelope.signatures))


def peek(data: bytes, *, source: str) -> bytes:
    """The payload of an envelope that nobody has verified yet: only to learn which key it asks to be verified with."""
    return bytes(_parse(data, source).payload)


def signers(data: bytes, *, source: str) -> tuple[str, ...]:
    """The ids of the keys that an envelope says it is signed with; nobody has verified it yet."""
    return tuple(_parse(data, source).signatures)


def _parse(data: bytes, source: str) -> Envelope:
    form = _Form.from_bytes(data, source=source)
    try:
        envelope = Envelope.from_dict(form.model_dump(mode="json"))
    except ValueError as error:  # not base64, or one key twice
        raise VerificationFailed("This is not a DSSE envelope.", where=source, actual=str(error)) from None
    if canonical_json(envelope.to_dict()) != data:
        raise VerificationFailed("A signed envelope is not in canonical form.", where=source)
    return envelope
