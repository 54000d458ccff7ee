"""The object store that releases lie in: a few operations on S3, with the guarantees that the release protocol needs.

`create` is the commit of a release. Its reply can be lost after the server has done the work, and a client that then
simply repeats it is told 412 for its own success. So nothing here repeats it: an unclear answer is handed to the
caller, who reads the key and compares. Everything else is safe to repeat and is repeated.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol, TypeVar

from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.release.s3_client import (
    S3Access,
    error_code,
    failures,
    http_status,
    may_pass,
    never_happened,
    parse_s3_uri,
    s3_client,
    store_unavailable,
)

Creation = Literal["created", "refused", "unclear"]
"""`created`: the server said so. `refused`: 412, there is an object, perhaps ours. `unclear`: it may have happened."""

PROBE_KEY = "probe/conditional-write"
PROBE_BYTES = b"softprompt asks here whether this store honours If-None-Match\n"

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.2
_T = TypeVar("_T")


class ObjectStore(Protocol):
    """What the release protocol needs of a store; keys are relative to the store's own prefix."""

    @property
    def uri(self) -> str:
        """Where the store is, for messages."""

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """The object's bytes, None if there is no such object. VerificationFailed: larger than `max_bytes`."""

    def create(self, key: str, data: bytes) -> Creation:
        """Create the object unless the key is taken. StoreUnavailable only if it certainly has not happened."""

    def put(self, key: str, data: bytes) -> None:
        """Write the object, replacing what is there; for keys whose content never differs."""

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """The keys that begin with `prefix` and come after `start_after`, in the server's order."""

    def age_seconds(self, key: str) -> float | None:
        """How long ago the object was written, by the server's own clock; None if there is no such object."""


@dataclass(frozen=True)
class Found:
    """What the server says about an object, without its content."""

    num_bytes: int
    age_seconds: float
    """Since it was written, by the server's own clock."""
    version: str = ""
    """Where the bucket keeps versions: which one this is."""
    is_locked: bool = False
    """Whether Object Lock still holds it."""


class CollectableStore(ObjectStore, Protocol):
    """A store from which objects may be taken away: for garbage collection alone, which has an identity of its own."""

    def find(self, key: str) -> Found | None:
        """What is known about an object; None if there is none."""

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that begin with `prefix`, and the sizes of their objects in bytes."""

    def delete(self, key: str, *, version: str) -> None:
        """Take an object away; with a version only that one, so that what was written since stays."""


class S3Store:
    """An `ObjectStore` in an S3 bucket; threads may share it.

    Args:
        bucket: Its name.
        prefix: What all keys begin with, without slashes around it; empty: the whole bucket.
        client: From `s3_client`.
        encryption: `sse-s3`, `sse-kms`, or `sse-kms:` and a key; asked for with every write. Empty: as the bucket says.

    Raises:
        InvalidRequest: There is no such encryption.
    """

    def __init__(self, bucket: str, prefix: str, client: Any, encryption: str = "") -> None:
        self._bucket, self._prefix, self._client = bucket, f"{prefix}/" if prefix else "", client
        self._encryption = _encryption(encryption)

    @property
    def uri(self) -> str:
        """Endpoint and bucket, as in `http://127.0.0.1:9000 s3://bucket/prefix`."""
        return f"{self._client.meta.endpoint_url} s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """Read a whole object.

        Args:
            key: Which one.
            max_bytes: Larger objects are refused without being read.

        Returns:
            Its bytes; None only if the server said that there is no such key.

        Raises:
            StoreUnavailable: No answer, no right, no bucket.
            VerificationFailed: It is larger, or not what its checksum says each time that it is read.
        """
        return self._repeat(lambda: self._get_once(key, max_bytes), doing="read an object", key=key)

    def create(self, key: str, data: bytes) -> Creation:
        """Create an object, once, if its key is free; the caller resolves `refused` and `unclear` by reading the key.

        Raises:
            StoreUnavailable: It certainly did not happen: no connection, no right, no bucket, no such feature.
        """
        try:
            self._client.put_object(**self._written(key, data), IfNoneMatch="*")
        except failures() as error:
            if http_status(error) == 412:
                return "refused"
            if never_happened(error):
                raise self._unavailable(error, "create an object", key) from None
            return "unclear"
        return "created"

    def put(self, key: str, data: bytes) -> None:
        """Write an object whose content follows from its key, so that writing it twice is harmless.

        Raises:
            StoreUnavailable: It was not confirmed.
        """
        request = self._written(key, data)
        self._repeat(lambda: self._client.put_object(**request), doing="write an object", key=key)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Keys that begin with `prefix` and come after `start_after`.

        Raises:
            StoreUnavailable: No answer, no right to list, no bucket.
        """
        for entry in self._entries(prefix, start_after):
            yield entry["Key"].removeprefix(self._prefix)

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that begin with `prefix`, and the sizes of their objects in bytes. Raises as `list` does."""
        for entry in self._entries(prefix):
            yield entry["Key"].removeprefix(self._prefix), int(entry["Size"])

    def _entries(self, prefix: str, start_after: str = "") -> Iterator[dict[str, Any]]:
        page: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if start_after:
            page["StartAfter"] = self._prefix + start_after
        while True:
            found = self._repeat(lambda: self._client.list_objects_v2(**page), doing="list objects", key=prefix)
            yield from found.get("Contents", ())
            if not found.get("IsTruncated"):
                return
            page["ContinuationToken"] = found["NextContinuationToken"]

    def age_seconds(self, key: str) -> float | None:
        """Seconds since the object was written, None if it is not there.

        Raises:
            StoreUnavailable: No answer, no right.
        """
        found = self.find(key)
        return found.age_seconds if found else None

    def find(self, key: str) -> Found | None:
        """What is known about an object; None if there is none. Raises as `age_seconds` does."""
        return self._repeat(lambda: self._find_once(key), doing="look at an object", key=key)

    def delete(self, key: str, *, version: str) -> None:
        """Take an object away.

        Args:
            key: Which one; that it is gone already is no error.
            version: From `find`: only this one. Empty: the bucket keeps no versions, and whatever is there goes.

        Raises:
            StoreUnavailable: No answer, no right, or the object is locked.
        """
        request = self._address(key) | ({"VersionId": version} if version else {})
        self._repeat(lambda: self._client.delete_object(**request), doing="delete an object", key=key)

    def _get_once(self, key: str, max_bytes: int) -> bytes | None:
        from botocore.exceptions import ClientError

        try:
            found = self._client.get_object(**self._address(key))
        except ClientError as error:
            if error_code(error) == "NoSuchKey":
                return None
            raise
        length, body = int(found["ContentLength"]), found["Body"]
        # Not `with body`: that gives the stream below botocore, which checks neither length nor checksum.
        with closing(body):
            if length > max_bytes:
                raise VerificationFailed(
                    "An object is larger than it may be.",
                    where=f"{self.uri}, key {key}",
                    expected=f"<= {max_bytes} bytes",
                    actual=f"{length} bytes",
                )
            return bytes(body.read())

    def _find_once(self, key: str) -> Found | None:
        from botocore.exceptions import ClientError

        try:
            found = self._client.head_object(**self._address(key))
        except ClientError as error:
            if http_status(error) == 404:  # a reply to HEAD has no body, so no code
                return None
            raise
        date = found["ResponseMetadata"]["HTTPHeaders"].get("date", "")
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
        until = found.get("ObjectLockRetainUntilDate")
        return Found(
            num_bytes=int(found["ContentLength"]),
            age_seconds=max(0.0, now - float(found["LastModified"].timestamp())),
            version=str(found.get("VersionId") or ""),
            is_locked=found.get("ObjectLockLegalHoldStatus") == "ON" or bool(until and until.timestamp() > now),
        )

    def _repeat(self, request: Callable[[], _T], *, doing: str, key: str) -> _T:
        """Do what may be done twice, up to three times while it fails for reasons that pass."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return request()
            except failures() as error:
                if attempt == _ATTEMPTS or not may_pass(error):
                    raise self._lasting(error, doing, key) from None
                time.sleep(_PAUSE_SECONDS * attempt)
        raise AssertionError("the last attempt returned or raised")

    def _written(self, key: str, data: bytes) -> dict[str, Any]:
        """A write's arguments: the server checks the content's sha256 before it says yes."""
        return {**self._address(key), **self._encryption, "Body": data, "ChecksumSHA256": _checksum(data)}

    def _address(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _lasting(self, error: Exception, doing: str, key: str) -> StoreUnavailable | VerificationFailed:
        from botocore.exceptions import FlexibleChecksumError

        if isinstance(error, FlexibleChecksumError):
            return VerificationFailed("An object is not what was stored.", where=f"{self.uri}, key {key}", actual=str(error))
        return self._unavailable(error, doing, key)

    def _unavailable(self, error: Exception, doing: str, key: str) -> StoreUnavailable:
        return store_unavailable(error, doing=doing, where=f"{self.uri}, key {key}")


def open_store(uri: str, access: S3Access | None = None) -> S3Store:
    """The store at `s3://bucket` or `s3://bucket/prefix`; nothing is asked of the server yet.

    Args:
        uri: Bucket and prefix.
        access: Endpoint and keys; None: the usual AWS settings, and SOFTPROMPT_STORE_ENCRYPTION (see `settings`).

    Raises:
        InvalidRequest: Not an S3 URI, or no such encryption.
        StoreUnavailable: The AWS settings do not work.
    """
    bucket, prefix = parse_s3_uri(uri)
    encryption = os.environ.get("SOFTPROMPT_STORE_ENCRYPTION", "") if access is None else ""
    return S3Store(bucket, prefix, s3_client(access), encryption)


def probe_conditional_writes(store: ObjectStore) -> None:
    """Refuse a store in which two publishers could both win.

    Creates an object that is there already, with the bytes that it has: a store that honours the condition says 412 and
    nothing changes. One small constant object stays behind, for ever: taking it away would let two probes at the same
    time fool each other, and would need a right that publishers should not have. Readers never probe.

    Raises:
        StoreUnavailable: The store ignores the condition, or does not answer.
    """
    if store.get(PROBE_KEY, max_bytes=len(PROBE_BYTES)) is None:
        store.put(PROBE_KEY, PROBE_BYTES)
    for attempt in range(1, _ATTEMPTS + 1):
        answer = store.create(PROBE_KEY, PROBE_BYTES)
        if answer == "refused":
            return
        if answer == "created":
            raise StoreUnavailable(
                "This object store does not honour conditional writes, so two publishers could overwrite each other.",
                where=f"{store.uri}, key {PROBE_KEY}",
                expected="412 to If-None-Match: * on an object that is there",
                actual="success",
                hint="Use AWS S3, versitygw, MinIO or another server that honours If-None-Match on PutObject.",
            )
        time.sleep(_PAUSE_SECONDS * attempt)
    raise StoreUnavailable(
        "The object store does not say whether it honours conditional writes.",
        where=f"{store.uri}, key {PROBE_KEY}",
        actual=f"no clear answer, {_ATTEMPTS} times",
        hint="Try again; the server has a problem.",
    )


def _encryption(asked: str) -> dict[str, Any]:
    """The arguments of a write that ask for server-side encryption."""
    kind, _, key = asked.partition(":")
    if not asked:
        return {}
    if asked == "sse-s3":
        return {"ServerSideEncryption": "AES256"}
    if kind == "sse-kms":
        # A bucket key spares a call to the key service for each object.
        return {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True} | ({"SSEKMSKeyId": key} if key else {})
    raise InvalidRequest("There is no such encryption.", expected="sse-s3, sse-kms or sse-kms:KEY", actual=asked)


def _checksum(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
