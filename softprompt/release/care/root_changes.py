"""New versions of the trust root: made where the root key is, and put into the store where the network is.

The two may be different machines. A change writes a file and needs the root key, no store; publishing carries the files to the
store and needs no key. Beside the file `root.json` lie all its versions (`roots/`), because a node follows them one by one.
Each change may be killed and made again: `root.json` is replaced last.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from securesystemslib.signer import Signer

from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.commit import commit
from softprompt.release.durable import file_lock, read_if_there, write_durably
from softprompt.release.layout import MAX_ENVELOPE_BYTES, ROOTS_PREFIX, root_key, root_version
from softprompt.release.statement import format_time
from softprompt.release.store import ObjectStore
from softprompt.release.trust import (
    AuditKey,
    ChannelTrust,
    LastGood,
    PublicKey,
    PublishingKey,
    TrustRoot,
    load_trust_root,
    sign_trust_root,
    verify_successor,
    verify_trust_root,
)

DAY_SECONDS = 24 * 3600
LIFE_DAYS = 365


def change_trust_root(path: Path, signer: Signer, changes: Mapping[str, Any], *, new_signer: Signer | None = None) -> TrustRoot:
    """Sign the next version of a trust root, and put it in the place of the one before.

    Args:
        path: The file; version 1 is made if there is none.
        signer: The root key of the version before.
        changes: Fields with their new values.
        new_signer: The new root key, where it is to change.

    Raises:
        InvalidRequest: Another root key, or changes that do not fit together.
    """
    with file_lock(path.with_name("roots.lock")):
        named = new_signer or signer
        root_fields = {"root_key_id": named.public_key.keyid, "root_key": PublicKey.of(named.public_key)}
        old = load_trust_root(path) if path.exists() else None
        if old:
            check_root_key(old, signer, path)
        before = dict(old) | {"version": old.version + 1} if old else {"version": 1}
        try:
            new = TrustRoot.model_validate(before | root_fields | dict(changes))
        except ValidationError as error:
            raise InvalidRequest(
                "The trust root cannot be changed so.", where=str(path), actual=error.errors()[0]["msg"]
            ) from None
        data = sign_trust_root(new, *([signer, new_signer] if new_signer else [signer]))
        write_durably(_version_file(path, new.version), data)
        write_durably(path, data)
        return new


def check_root_key(root: TrustRoot, signer: Signer, path: Path) -> None:
    """Refuse a key that is not a trust root's root key. InvalidRequest: it is another one."""
    if root.root_key != PublicKey.of(signer.public_key):
        raise InvalidRequest(
            "The root key is not the trust root's.",
            where=str(path),
            expected=root.root_key_id,
            actual=signer.public_key.keyid,
        )


def with_channel(root: TrustRoot | None, channel: str, channel_id: str, publishing: PublicKey, key_id: str) -> dict[str, Any]:
    """The changes that add a channel and its first publishing key."""
    channels, keys = (root.channels, root.publishing_keys) if root else ({}, {})
    return {
        "channels": channels | {channel: ChannelTrust(id=channel_id)},
        "publishing_keys": keys | {key_id: _publishing(keys.get(key_id), publishing, (channel,))},
    }


def with_publishing_key(root: TrustRoot, key_id: str, key: PublicKey, channels: tuple[str, ...]) -> dict[str, Any]:
    """The changes that let a key sign channels. InvalidRequest: it was revoked in one of them."""
    known = root.publishing_keys.get(key_id)
    for channel in channels:
        root.channel(channel)
        if known and channel in known.last_good:
            raise InvalidRequest("This key was revoked; make a new one.", where=f"channel {channel}", actual=key_id)
    return {"publishing_keys": root.publishing_keys | {key_id: _publishing(known, key, channels)}}


def with_audit_key(root: TrustRoot, key_id: str, key: PublicKey, channels: tuple[str, ...], holder: str) -> dict[str, Any]:
    """The changes that let a key sign the review decisions of channels."""
    for channel in channels:
        root.channel(channel)
    return {"audit_keys": root.audit_keys | {key_id: AuditKey(**key.model_dump(), channels=channels, holder=holder)}}


def without_publishing_key(root: TrustRoot, key_id: str, last_good: Mapping[str, LastGood]) -> dict[str, Any]:
    """The changes that revoke a publishing key: what it signed after its last good generation is not believed any more.

    Args:
        root: The trust root now.
        key_id: Which key.
        last_good: For each channel that it may sign.

    Raises:
        InvalidRequest: No such key, or a channel is missing.
    """
    key = root.publishing_keys.get(key_id)
    if key is None:
        raise InvalidRequest(
            "The trust root has no such publishing key.", expected=", ".join(root.publishing_keys), actual=key_id
        )
    if missing := sorted(set(key.channels) - last_good.keys() - key.last_good.keys()):
        raise InvalidRequest(
            "It has to be said up to which generation the key is believed.",
            where=f"key {key_id[:12]}, channels {', '.join(missing)}",
            hint=f"Add --last-good {missing[0]}=NUMBER (or `head`, where nothing is wrong with what it signed; 0 for nothing).",
        )
    revoked = PublishingKey.model_validate(dict(key) | {"last_good": key.last_good | dict(last_good)})
    return {"publishing_keys": root.publishing_keys | {key_id: revoked}}


def without_audit_key(root: TrustRoot, key_id: str, last_record: Mapping[str, int]) -> dict[str, Any]:
    """The changes after which an audit key counts on decisions up to a number only. InvalidRequest: a channel is missing."""
    key = root.audit_keys[key_id]
    if missing := sorted(set(key.channels) - last_record.keys()):
        raise InvalidRequest(
            "It has to be said up to which review decision the key counts.",
            where=f"key {key_id[:12]}, channels {', '.join(missing)}",
            hint=f"Add --last-good {missing[0]}=NUMBER, the number of its last good decision; 0 for none.",
        )
    out_of_use = AuditKey.model_validate(dict(key) | {"last_record": dict(last_record)})
    return {"audit_keys": root.audit_keys | {key_id: out_of_use}}


def with_minimum(root: TrustRoot, channel: str, generation: int) -> dict[str, Any]:
    """The changes after which no older generation of a channel is ever believed. InvalidRequest: it would fall."""
    trusted = root.channel(channel)
    if generation < trusted.minimum_generation:
        raise InvalidRequest(
            "A channel's minimum never falls.", where=channel, expected=f">= {trusted.minimum_generation}", actual=str(generation)
        )
    raised = ChannelTrust(id=trusted.id, minimum_generation=generation)
    return {"channels": root.channels | {channel: raised}}


def expiry(now: float, days: int) -> dict[str, Any]:
    """The changes after which a trust root expires in some days; 0: never."""
    return {"expires": format_time(now + days * DAY_SECONDS) if days else ""}


def publish_trust_root(store: ObjectStore, path: Path) -> tuple[int, ...]:
    """Put every version of a trust root that the store lacks into it, oldest first; returns which.

    Args:
        store: Where channels and roots lie.
        path: The newest version; the others lie beside it.

    Raises:
        InvalidRequest: There is no such file, or the store has another version of the same number, or a version between is lost.
        StoreUnavailable, PublishUnknown: Not all were written; run it again.
    """
    newest = load_trust_root(path)
    versions = {root_version(key) or 0 for key in store.list(ROOTS_PREFIX)}
    _check_newest(store, path, newest.version, max(versions, default=0))
    missing = [version for version in range(1, newest.version + 1) if version not in versions]
    links = [(version, data) for version in missing if (data := read_if_there(_version_file(path, version)))]
    _check_links(links, path)
    for version, data in links:
        hint = "Run `softprompt release root publish` again."
        if not commit(store, root_key(version), data, hint=hint):
            raise _another(store, version)
    return tuple(version for version, _ in links)


def _check_newest(store: ObjectStore, path: Path, ours: int, theirs: int) -> None:
    """Refuse to add to versions that are not ours: the newest one that both have has to be the same."""
    common = min(ours, theirs)
    data = read_if_there(_version_file(path, common)) if common else None
    if data and store.get(root_key(common), max_bytes=MAX_ENVELOPE_BYTES) != data:
        raise _another(store, common)


def _check_links(links: list[tuple[int, bytes]], path: Path) -> None:
    """Each version has to follow from the one before, or no node could follow it."""
    for (version, data), (following, successor) in pairwise(links):
        source = str(_version_file(path, following))
        if following != version + 1:
            raise InvalidRequest(
                "A version of the trust root is lost.", where=source, expected=f"version {version + 1} beside it"
            )
        try:
            verify_successor(successor, verify_trust_root(data, source=source), source=source)
        except VerificationFailed as error:
            raise InvalidRequest(
                "A version of the trust root does not follow the one before.", where=source, actual=error.what
            ) from None


def _another(store: ObjectStore, version: int) -> InvalidRequest:
    return InvalidRequest(
        "The store has another trust root of this version; somebody else has changed it.",
        where=f"{store.uri}, key {root_key(version)}",
        hint="Fetch it, look at it, and make the change again on top of it.",
    )


def _publishing(known: PublishingKey | None, key: PublicKey, channels: tuple[str, ...]) -> PublishingKey:
    """The key with further channels."""
    before = known.channels if known else ()
    last_good = known.last_good if known else {}
    every = tuple(sorted({*before, *channels}))
    return PublishingKey(scheme=key.scheme, public=key.public, channels=every, last_good=last_good)


def _version_file(path: Path, version: int) -> Path:
    return path.parent / root_key(version)
