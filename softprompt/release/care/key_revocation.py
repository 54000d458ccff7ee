"""Up to where a key that is revoked is still believed, and what has to follow from revoking it."""

import re
from collections.abc import Iterator, Sequence

from softprompt.errors import InvalidRequest
from softprompt.release.care.history import signed_by
from softprompt.release.channel import ChannelLog
from softprompt.release.store import ObjectStore
from softprompt.release.trust import LastGood, TrustRoot

_ANSWER = re.compile(r"([a-z0-9-]+)=(head|[0-9]{1,12})(?::([0-9a-f]{64}))?")


def full_key_id(root: TrustRoot, key_id: str) -> str:
    """The id of a publishing or audit key that begins so. InvalidRequest: none or several do."""
    known = [one for one in (*root.publishing_keys, *root.audit_keys) if one.startswith(key_id)]
    if len(known) != 1 or len(key_id) < 8:
        raise InvalidRequest(
            "This is not one key of the trust root.",
            expected="a key's id, or its first digits, eight or more; `root show` lists them",
            actual=key_id,
        )
    return known[0]


def last_good_of(answers: Sequence[str], root: TrustRoot, store: ObjectStore | None) -> dict[str, LastGood]:
    """Channel -> the last generation that is believed of a key, from what a person said.

    Args:
        answers: `CHANNEL=NUMBER`, `CHANNEL=NUMBER:SHA256`, `CHANNEL=head`, or `CHANNEL=0`.
        root: The trust root before the change.
        store: Where the generations lie, to look their digests up; None: each number comes with its digest.

    Raises:
        InvalidRequest: An answer of another form, or a generation that is not believed now.
        StoreUnavailable: The store does not answer.
    """
    return dict(_last_good(answer, root, store) for answer in answers)


def last_record_of(answers: Sequence[str], root: TrustRoot) -> dict[str, int]:
    """Channel -> number of the last review decision that counts. InvalidRequest: an answer of another form."""
    found = {}
    for answer in answers:
        channel, _, number = answer.partition("=")
        root.channel(channel)
        if not number.isdecimal():
            raise InvalidRequest("This is not the number of a review decision.", expected="CHANNEL=NUMBER", actual=answer)
        found[channel] = int(number)
    return found


def _last_good(answer: str, root: TrustRoot, store: ObjectStore | None) -> tuple[str, LastGood]:
    match = _ANSWER.fullmatch(answer)
    if match is None:
        raise InvalidRequest("This is not a last good generation.", expected="CHANNEL=NUMBER, =head or =0", actual=answer)
    channel, number, digest = match[1], match[2], match[3]
    root.channel(channel)
    if number == "0" or digest:
        return channel, LastGood(generation=int(number), envelope=digest or "")
    if store is None:
        raise InvalidRequest(
            "Without the store the generation's digest has to be said, too.",
            where=answer,
            hint=f"`softprompt release history --channel {channel}` shows it: --last-good {channel}=NUMBER:SHA256.",
        )
    for signed in ChannelLog(store, channel, root).walk():
        if number in ("head", str(signed.generation.generation)):
            return channel, LastGood(generation=signed.generation.generation, envelope=signed.digest)
    raise InvalidRequest(
        "There is no such generation that is believed now.", where=f"{store.uri}, channel {channel}", actual=number
    )


def what_follows(before: TrustRoot, after: TrustRoot, key_id: str, store: ObjectStore | None) -> Iterator[str]:
    """What has to be done once a key is revoked, a sentence each.

    Args:
        before: The trust root in which the key counts.
        after: The one in which it does not.
        key_id: The key.
        store: To look at what the channels serve now; None: nobody looks.
    """
    yield "Put the new trust root into the store: softprompt release root publish."
    yield "Mount the new file wherever a node may start for the first time, so that it does not depend on the store for it."
    key = after.publishing_keys.get(key_id)
    for channel, last in key.last_good.items() if key else ():
        if not after.signing_keys_for(channel):
            yield f"{channel}: no key may sign it now. Add one (root add-key) before anything can be published."
        if store and _head_falls(ChannelLog(store, channel, before), key_id, last):
            yield (
                f"{channel}: its newest generation is not believed any more. Nodes that serve it go on and raise an alarm; those "
                "without state, and those that restart, are not ready. Publish again, with another key: the next generation "
                f"builds on number {last.generation}, and says what Git or the pipeline says now."
            )


def _head_falls(log: ChannelLog, key_id: str, last: LastGood) -> bool:
    head = log.head()
    return bool(head and signed_by(head.signed) == key_id and head.signed.digest != last.envelope)
