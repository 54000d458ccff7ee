"""The one conditional create that is a commit, and what to believe when its reply is lost.

Generations and review decisions both commit so. The trap: a refusal may be for our own success, whose reply was lost. So the key
is read, and equal bytes are ours, since every record carries an id that is never used twice.
"""

import time

from softprompt.errors import PublishUnknown, StoreUnavailable, VerificationFailed
from softprompt.release.layout import MAX_ENVELOPE_BYTES
from softprompt.release.store import ObjectStore

_SENDS = 5
_READINGS = 3
_PAUSE_SECONDS = 0.2


def commit(store: ObjectStore, key: str, data: bytes, *, hint: str, max_bytes: int = MAX_ENVELOPE_BYTES) -> bool:
    """Send the bytes until the key holds somebody's.

    Args:
        store: Where to; honours conditional creates.
        key: Which one.
        data: The same bytes each time; nobody else's are equal.
        hint: What to do if nobody can say what happened.
        max_bytes: Anything larger under the key is somebody else's.

    Returns:
        Whether the key holds these bytes.

    Raises:
        StoreUnavailable: It certainly did not happen.
        PublishUnknown: It may have happened.
    """
    for attempt in range(1, _SENDS + 1):
        try:
            answer = store.create(key, data)
        except StoreUnavailable as error:
            if attempt == 1:
                raise  # it certainly did not happen
            raise _unknown(store, key, error.actual, hint) from None
        if answer == "created":
            return True
        found = read_back(store, key, data, hint=hint, max_bytes=max_bytes)
        if found is not None:
            return found == data
        time.sleep(_PAUSE_SECONDS * attempt)
    raise _unknown(store, key, f"no answer and no object, {_SENDS} times", hint)


def read_back(store: ObjectStore, key: str, ours: bytes, *, hint: str, max_bytes: int = MAX_ENVELOPE_BYTES) -> bytes | None:
    """What the key of an unclear commit holds; None: nothing. PublishUnknown: the store does not say.

    Other bytes than ours are believed if they read twice alike: one bit that flips on the way makes ours another's.
    """
    readings = set[bytes]()
    for _ in range(_READINGS):
        try:
            found = store.get(key, max_bytes=max_bytes)
        except VerificationFailed as error:
            found = str(error).encode()  # too large to be ours, or spoilt
        except StoreUnavailable as error:
            raise _unknown(store, key, error.actual, hint) from None
        if found is None or found == ours or found in readings:
            return found
        readings.add(found)
    raise _unknown(store, key, f"it reads differently each time, {_READINGS} times", hint)


def _unknown(store: ObjectStore, key: str, actual: str, hint: str) -> PublishUnknown:
    return PublishUnknown(
        "The store did not confirm a publish, and could not be asked whether it took effect.",
        where=f"{store.uri}, key {key}",
        actual=actual,
        hint=hint,
    )
