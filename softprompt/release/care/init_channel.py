"""`release init`: keys, trust root and the first, empty generation of a channel.

May be killed at any moment and run again: each step looks whether it is done, and none undoes another. In production
the folder of keys is an offline machine's, the root key stays there, and the publishing key goes to a KMS or a Secret.
"""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from securesystemslib.signer import CryptoSigner, Signer

from softprompt.documents import Document
from softprompt.errors import InvalidRequest
from softprompt.names import Name
from softprompt.release.care.root_changes import change_trust_root, expiry, publish_trust_root, with_audit_key, with_channel
from softprompt.release.channel import ChannelLog
from softprompt.release.durable import file_lock, write_durably
from softprompt.release.publisher import Publisher
from softprompt.release.signers import KeySource, open_signer
from softprompt.release.statement import ChannelState
from softprompt.release.store import ObjectStore
from softprompt.release.trust import PublicKey, TrustRoot, load_signer, load_trust_root

ROOT_KEY_FILE = "root.pem"


class InitOutcome(Document):
    """What a channel has after `init_channel`."""

    channel: Name
    channel_id: str
    generation: int
    """The newest generation; 1 and empty if the channel is new."""
    created: bool
    """Whether this call made the first generation."""
    trust_root_version: int


def publishing_key_file(keys_dir: Path, channel: str) -> Path:
    """Where the private key lies that signs a channel."""
    return keys_dir / f"publish-{channel}.pem"


def audit_key_file(keys_dir: Path, channel: str) -> Path:
    """Where the private key lies that signs a channel's review decisions."""
    return keys_dir / f"audit-{channel}.pem"


def init_channel(
    channel: str,
    *,
    store: ObjectStore,
    keys_dir: Path,
    trust_root: Path,
    signing_key: KeySource | None = None,
    root_life_days: int = 0,
    clock: Callable[[], float] = time.time,
) -> InitOutcome:
    """Make what a channel needs before anything can be published to it; what is there already stays.

    Args:
        channel: Name.
        store: Where its generations will lie; must honour conditional writes.
        keys_dir: Folder of `root.pem` and `publish-<channel>.pem`, each readable by its owner only.
        trust_root: File to make, or to add the channel to (which takes the root key, and counts its version up).
        signing_key: A key that is there already, such as one in a key service; None: `publish-<channel>.pem`.
        root_life_days: How long a trust root that is made or changed here is good; 0: for ever.
        clock: Seconds since 1970.

    Raises:
        InvalidRequest: Not a channel's name, keys that do not fit the trust root, or a channel of another trust root.
        ServiceUnavailable: The key service does not sign.
        StoreUnavailable, PublishUnknown: The first generation could not be made; run it again.
    """
    try:
        TypeAdapter(Name).validate_python(channel)
    except ValidationError:
        raise InvalidRequest("This is not a channel's name.", where=channel, expected="[a-z0-9-], at most 40") from None
    with file_lock(keys_dir / "init.lock"):
        signer = open_signer(signing_key) if signing_key else _key(publishing_key_file(keys_dir, channel), trust_root, channel)
        changes = expiry(clock(), root_life_days) if root_life_days else {}
        root = _trust_root(trust_root, channel, keys_dir / ROOT_KEY_FILE, signer, changes)
        publish_trust_root(store, trust_root)
        log = ChannelLog(store, channel, root)
        created = not log.numbers()
        if created:
            Publisher(log=log, signer=signer, state_dir=keys_dir, clock=clock).begin(ChannelState())
    head = log.head()
    if head is None:
        raise InvalidRequest(
            "The store has generations of this channel, and none of them verifies with this trust root.",
            where=f"{log.store.uri}, channel {log.channel}",
            hint="Use the trust root that the channel was made with, or another store or channel.",
        )
    return InitOutcome(
        channel=channel,
        channel_id=root.channel(channel).id,
        generation=head.signed.generation.generation,
        created=created,
        trust_root_version=root.version,
    )


def allow_audit(channel: str, *, keys_dir: Path, trust_root: Path, holder: str) -> None:
    """Make a key for a channel's review decisions and list it in the trust root; what is there already stays.

    Args:
        channel: Name; the trust root knows it.
        keys_dir: Folder of `root.pem`; gets `audit-<channel>.pem`, readable by its owner only.
        trust_root: File to add the key to, which counts its version up.
        holder: Whose key it is, for people.

    Raises:
        InvalidRequest: The trust root does not know the channel, or relies on another root key, or the key publishes.
    """
    with file_lock(keys_dir / "init.lock"):
        old = load_trust_root(trust_root)
        old.channel(channel)
        path = audit_key_file(keys_dir, channel)
        if not path.exists():
            write_durably(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)
        public = load_signer(path).public_key
        if public.keyid in old.audit_keys:
            return
        if public.keyid in old.publishing_keys:
            raise InvalidRequest("A publishing key may not sign review decisions.", where=str(path), hint="Take that file away.")
        changes = with_audit_key(old, public.keyid, PublicKey.of(public), (channel,), holder)
        change_trust_root(trust_root, load_signer(keys_dir / ROOT_KEY_FILE), changes)


def _key(path: Path, trust_root: Path, channel: str = "") -> CryptoSigner:
    """The signer of a key file, which is made if it is missing and nobody relies on it yet."""
    if not path.exists():
        _refuse_lost_key(path, trust_root, channel)
        write_durably(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)
    return load_signer(path)


def _refuse_lost_key(path: Path, trust_root: Path, channel: str) -> None:
    if trust_root.exists() and (not channel or channel in load_trust_root(trust_root).channels):
        raise InvalidRequest(
            "A private key that the trust root relies on is missing.",
            where=str(path),
            hint=f"Bring it back from its backup. A new one would not be believed by whoever has {trust_root}.",
        )


def _trust_root(path: Path, channel: str, root_key: Path, signer: Signer, changes: dict[str, Any]) -> TrustRoot:
    """The trust root, with the channel and its key in it; only a new channel takes the root key."""
    old = load_trust_root(path) if path.exists() else None
    if old and channel in old.channels:
        return old
    root_signer = _key(root_key, path)
    public = signer.public_key
    added = with_channel(old, channel, uuid.uuid4().hex, PublicKey.of(public), public.keyid)
    return change_trust_root(path, root_signer, added | changes)
