"""The trust root: whom a node believes, about which channels; a file mounted on each node.

It is signed by an offline root key that it names, so that the next version can be signed by the same hand, as TUF does
(https://theupdateframework.github.io/specification/). The file on a node is where trust begins, hence its own
signature only shows that nobody changed it since. Publishing keys introduce no keys. How a node gets from its file to the
newest version is `roots`' business, making a new version `root_changes`', and keys in a key service `signers`'.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.names import Name
from softprompt.release import envelope
from softprompt.release.durable import read_if_there
from softprompt.release.layout import CLOCK_SKEW_SECONDS
from softprompt.release.statement import Identifier, OptionalTime, parse_time

ROOT_PAYLOAD = "application/vnd.softprompt.trust-root+json"


class PublicKey(Document):
    """A key by which signatures are checked."""

    scheme: Literal["ed25519", "ecdsa-sha2-nistp256"]
    """Ed25519, or ECDSA P-256 for KMS signers that have no Ed25519."""
    public: str = Field(max_length=1024)
    """Raw hexadecimal digits (Ed25519) or PEM (ECDSA)."""

    key_types: ClassVar[dict[str, str]] = {"ed25519": "ed25519", "ecdsa-sha2-nistp256": "ecdsa"}

    @classmethod
    def of(cls, key: Key) -> Self:
        """The document of a securesystemslib key. InvalidRequest: of a scheme that is not accepted."""
        if key.scheme not in cls.key_types:
            raise InvalidRequest(
                "A key is of a scheme that is not accepted.", expected=" or ".join(cls.key_types), actual=key.scheme
            )
        return cls.model_validate({"scheme": key.scheme, "public": key.keyval["public"]})

    def key(self, key_id: str) -> SSlibKey:
        """The securesystemslib key."""
        return SSlibKey(key_id, self.key_types[self.scheme], self.scheme, {"public": self.public})


class _Grown(Document):
    """A document to which fields were added: empty ones are left out, so that what was signed before keeps its bytes."""

    added: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_empty(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        return {name: value for name, value in content.items() if value or name not in self.added}


class LastGood(Document):
    """The last generation that is believed of a key which was revoked; older ones are history, and not activated any more."""

    generation: int = Field(ge=0)
    """Its number; 0: nothing that the key signed is believed."""
    envelope: Sha256 | Literal[""] = ""
    """sha256 of its envelope, so that whoever has the key cannot put another one in its place."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.generation == 0) != (self.envelope == ""):
            raise ValueError("envelope: generation 0 has none, every other one has")
        return self


class PublishingKey(PublicKey, _Grown):
    """A key that may sign generations, and of which channels."""

    added = frozenset({"last_good"})

    channels: tuple[Name, ...]
    last_good: dict[Name, LastGood] = Field(default_factory=dict)
    """Channel -> up to where the key counts there: it was revoked."""


class AuditKey(PublicKey):
    """A key that may sign review decisions (`audit`), and of which channels; never a generation."""

    channels: tuple[Name, ...]
    holder: str = Field(default="", max_length=256)
    """Whose key it is, as the owner of the root key knows them."""
    last_record: dict[Name, int] = Field(default_factory=dict)
    """Channel -> number of the last decision that it may have signed: a key goes out of use, and its past decisions stay."""

    def may_sign(self, channel: str, number: int) -> bool:
        """Whether this key's signature counts on a channel's review decision."""
        return channel in self.channels and number <= self.last_record.get(channel, number)


class ChannelTrust(Document):
    """What is known about one channel before anything of it was read."""

    id: Identifier
    minimum_generation: int = Field(default=1, ge=1)
    """Older generations are never believed."""


class TrustRoot(_Grown):
    """Which keys may sign which channels."""

    added = frozenset({"audit_keys", "expires"})

    schema_version: Literal[1] = 1
    version: int = Field(ge=1)
    root_key_id: Sha256
    root_key: PublicKey
    """Signs this document and the next version."""
    channels: dict[Name, ChannelTrust] = Field(default_factory=dict)
    publishing_keys: dict[Sha256, PublishingKey] = Field(default_factory=dict)
    """Key id -> key."""
    audit_keys: dict[Sha256, AuditKey] = Field(default_factory=dict)
    """Key id -> key; none of them publishes, and no publishing key is one."""
    expires: OptionalTime = ""
    """From then on nothing new is believed until there is a newer version; empty: never."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, keys in (("publishing_keys", self.publishing_keys), ("audit_keys", self.audit_keys)):
            unknown = {channel for key in keys.values() for channel in key.channels} - self.channels.keys()
            if unknown:
                raise ValueError(f"{field}: name unknown channels {sorted(unknown)}")
        # By what they are, not by the id that the root gives them.
        publishing, audit = (
            {(key.scheme, key.public) for key in keys.values()} for keys in (self.publishing_keys, self.audit_keys)
        )
        if publishing & audit:
            raise ValueError("audit_keys: one is also a publishing key")
        return self

    def channel(self, name: str) -> ChannelTrust:
        """What is known about a channel. InvalidRequest: nothing."""
        if name not in self.channels:
            raise InvalidRequest(
                "The trust root does not know this channel.",
                where=name,
                expected=f"one of {', '.join(sorted(self.channels)) or '(none)'}",
                hint="Run `softprompt release init` for it, or use the trust root that names it.",
            )
        return self.channels[name]

    def keys_for(self, channel: str) -> tuple[Key, ...]:
        """The keys that may sign this channel's generations, and those that were allowed to once: see `last_good`."""
        return tuple(key.key(key_id) for key_id, key in self.publishing_keys.items() if channel in key.channels)

    def signing_keys_for(self, channel: str) -> tuple[Key, ...]:
        """The keys that may sign this channel's next generation."""
        return tuple(key for key in self.keys_for(channel) if self.last_good(channel, key.keyid) is None)

    def last_good(self, channel: str, key_id: str) -> LastGood | None:
        """Up to where a revoked key counts in a channel; None: it is not revoked there."""
        key = self.publishing_keys.get(key_id)
        return key.last_good.get(channel) if key else None

    def has_expired(self, now: float) -> bool:
        """Whether there should be a newer version by now (seconds since 1970)."""
        return bool(self.expires) and now > parse_time(self.expires) + CLOCK_SKEW_SECONDS

    def audit_keys_for(self, channel: str, number: int) -> tuple[Key, ...]:
        """The keys that may have signed a channel's review decision of this number."""
        return tuple(key.key(key_id) for key_id, key in self.audit_keys.items() if key.may_sign(channel, number))


def sign_trust_root(root: TrustRoot, *signers: Signer) -> bytes:
    """The file's bytes: signed by the root key that it names and, where that is a new one, by the one before."""
    return envelope.sign(root.to_bytes(), *signers, payload_type=ROOT_PAYLOAD)


def load_trust_root(path: Path) -> TrustRoot:
    """Read a trust root and check that it is signed by the root key that it names.

    Raises:
        InvalidRequest: There is no such file.
        VerificationFailed: It does not verify.
    """
    data = read_if_there(path)
    if data is None:
        raise InvalidRequest(
            "There is no trust root.",
            where=str(path),
            hint="Run `softprompt release init`, or mount the fleet's trust root here.",
        )
    return verify_trust_root(data, source=str(path))


def verify_trust_root(data: bytes, *, source: str) -> TrustRoot:
    """The trust root in an envelope, if the root key that it names signed it. VerificationFailed: it did not."""
    # Which key to check with stands inside, so the payload is read once before it is believed.
    claimed = TrustRoot.from_bytes(envelope.peek(data, source=source), source=source)
    key = claimed.root_key.key(claimed.root_key_id)
    payload = envelope.verify(data, [key], source=source, payload_type=ROOT_PAYLOAD)
    root = TrustRoot.from_bytes(payload, source=source)
    if root.to_bytes() != payload:
        raise VerificationFailed("A trust root is not in canonical form.", where=source)
    return root


def verify_successor(data: bytes, before: TrustRoot, *, source: str) -> TrustRoot:
    """The next version of a trust root: signed by the root key of the version before and by the one that it names.

    Args:
        data: The envelope.
        before: The version before, which is believed.
        source: Where the envelope comes from, for messages.

    Raises:
        VerificationFailed: One of the signatures is missing, or it is another version.
    """
    envelope.verify(data, [before.root_key.key(before.root_key_id)], source=source, payload_type=ROOT_PAYLOAD)
    root = verify_trust_root(data, source=source)
    if root.version != before.version + 1:
        raise VerificationFailed(
            "A trust root is not the next version.", where=source, expected=str(before.version + 1), actual=str(root.version)
        )
    return root


def load_signer(path: Path) -> CryptoSigner:
    """The signer of a PEM file with an unencrypted PKCS #8 private key.

    Raises:
        InvalidRequest: No such file, or not such a key. The message never holds any of the file's content.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = read_if_there(path)
    if data is None:
        raise InvalidRequest(
            "There is no signing key.", where=str(path), hint="Run `softprompt release init`, or mount the key here."
        )
    try:
        private: Any = load_pem_private_key(data, password=None)
        signer = CryptoSigner(private)
        PublicKey.of(signer.public_key)
    except (ValueError, TypeError, InvalidRequest):
        raise InvalidRequest(
            "A file is not a usable signing key.",
            where=str(path),
            expected="PEM, PKCS #8, not encrypted, Ed25519 or ECDSA P-256",
        ) from None
    return signer
