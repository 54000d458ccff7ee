"""The object store against two real servers, and through a network that loses things."""

import dataclasses
import threading
import time
from collections import Counter

import pytest

from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.store import PROBE_KEY, S3Store, open_store, probe_conditional_writes

LOST = [("lose_reply", True), ("lose_request", False), ("409", False), ("500", False)]


def test_what_is_written_is_read(any_store):
    any_store.put("blobs/a", b"bytes \x00\xff")
    assert any_store.get("blobs/a", max_bytes=8) == b"bytes \x00\xff"


def test_a_missing_object_is_none(any_store):
    assert any_store.get("nothing", max_bytes=8) is None
    assert any_store.age_seconds("nothing") is None


def test_an_object_larger_than_asked_for_is_refused(any_store):
    any_store.put("big", b"123456789")
    with pytest.raises(VerificationFailed, match=r"(?s)larger.*<= 8 bytes.*9 bytes"):
        any_store.get("big", max_bytes=8)


def test_create_makes_an_object_once(any_store):
    assert any_store.create("key", b"first") == "created"
    assert any_store.create("key", b"second") == "refused"
    assert any_store.get("key", max_bytes=10) == b"first"


def test_of_eight_writers_one_wins(any_store):
    for round_number in range(5):
        barrier, answers = threading.Barrier(8), {}

        def write(writer, key=f"race/{round_number}", barrier=barrier, answers=answers):
            barrier.wait()
            answers[writer] = any_store.create(key, f"writer {writer}".encode())

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = Counter(answers.values())
        assert counts["created"] == 1
        assert counts["created"] + counts["refused"] + counts["unclear"] == 8
        winner = next(writer for writer, answer in answers.items() if answer == "created")
        assert any_store.get(f"race/{round_number}", max_bytes=100) == f"writer {winner}".encode()


def test_list_is_ordered_pages_and_starts_after_a_key(any_store):
    any_store._client = _PagesOfTwo(any_store._client)
    for number in range(5):
        any_store.put(f"list/{number}", b"x")
    any_store.put("other", b"x")
    assert list(any_store.list("list/")) == [f"list/{number}" for number in range(5)]
    assert list(any_store.list("list/", start_after="list/2")) == ["list/3", "list/4"]


def test_a_prefix_keeps_stores_apart(any_store):
    inner = S3Store("softprompt", f"{any_store._prefix}inner", any_store._client)
    inner.put("key", b"inner")
    assert list(inner.list("")) == ["key"]
    assert any_store.get("inner/key", max_bytes=10) == b"inner"


def test_age_is_measured_by_the_servers_clock(any_store, monkeypatch):
    any_store.put("key", b"x")
    late = time.time() + 10**6
    monkeypatch.setattr(time, "time", lambda: late)
    age = any_store.age_seconds("key")
    assert age is not None
    assert 0 <= age < 60


@pytest.mark.parametrize(("what", "applied"), LOST)
def test_a_create_without_an_answer_is_unclear_and_never_repeated(proxy, proxied, what, applied):
    proxied.put("warm-up", b"x")
    proxy.seen.clear()
    proxy.do(what, "PUT", times=1)
    assert proxied.create("key", b"mine") == "unclear"
    assert len(proxy.seen) == 1
    assert proxied.get("key", max_bytes=10) == (b"mine" if applied else None)


def test_a_create_that_times_out_is_unclear(store):
    with _Silent() as silent:
        access = dataclasses.replace(S3Access(access_key_id="k", secret_access_key="s"), endpoint_url=silent.url)
        waiting = S3Store("softprompt", "", s3_client(access, read_timeout_seconds=0.3))
        assert waiting.create("key", b"mine") == "unclear"


@pytest.mark.parametrize("status", ["403", "501"])
def test_a_create_that_was_refused_certainly_did_not_happen(proxy, proxied, status):
    proxy.do(status, "PUT")
    with pytest.raises(StoreUnavailable, match="did not create"):
        proxied.create("key", b"mine")


@pytest.mark.parametrize("what", ["lose_reply", "lose_request", "500"])
def test_reads_and_puts_are_repeated(proxy, proxied, what):
    for method in ("PUT", "GET", "HEAD"):
        proxy.do(what, method, times=2)
        proxied.put("key", b"x")
        assert proxied.get("key", max_bytes=1) == b"x"
        assert list(proxied.list("")) == ["key"]
        assert proxied.age_seconds("key") is not None


def test_a_server_that_stays_broken_is_reported(proxy, proxied):
    proxy.do("500", "GET")
    with pytest.raises(StoreUnavailable, match=r"(?s)did not read an object.*key some/key.*InternalError.*server has a problem"):
        proxied.get("some/key", max_bytes=1)


def test_forbidden_is_an_error_and_never_missing(proxy, proxied):
    for method, call in (
        ("GET", lambda: proxied.get("key", max_bytes=1)),
        ("GET", lambda: list(proxied.list(""))),
        ("HEAD", lambda: proxied.age_seconds("key")),
        ("PUT", lambda: proxied.put("key", b"x")),
    ):
        proxy.do("403", method)
        with pytest.raises(StoreUnavailable, match=r"(?s)AccessDenied.*Ask for the right"):
            call()


def test_wrong_keys_are_named_by_a_server_that_checks_them(versitygw):
    store = open_store("s3://softprompt", dataclasses.replace(versitygw, secret_access_key="wrong"))
    with pytest.raises(StoreUnavailable, match="AWS_SECRET_ACCESS_KEY"):
        store.get("key", max_bytes=1)


@pytest.mark.parametrize("server", ["ministack", "versitygw"])
def test_a_missing_bucket_is_an_error_and_never_a_missing_object(request, server):
    store = open_store("s3://no-such-bucket", request.getfixturevalue(server))
    with pytest.raises(StoreUnavailable, match=r"(?s)s3://no-such-bucket.*Create the bucket"):
        store.get("key", max_bytes=1)
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        store.create("key", b"x")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid:9000"])
def test_a_server_that_is_not_there_is_reported_quickly(endpoint):
    store = open_store("s3://bucket", S3Access(endpoint_url=endpoint, access_key_id="k", secret_access_key="s"))
    for call in (
        lambda: store.get("key", max_bytes=1),
        lambda: store.create("key", b"x"),
        lambda: list(store.list("")),
    ):
        start = time.perf_counter()
        with pytest.raises(StoreUnavailable, match=r"(?s)s3://bucket.*Is the server running"):
            call()
        assert time.perf_counter() - start < 5


def test_missing_credentials_are_named(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = open_store("s3://bucket", S3Access(endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StoreUnavailable, match="Set AWS_ACCESS_KEY_ID"):
        store.create("key", b"x")


def test_the_usual_settings_are_read_when_a_store_is_opened(ministack, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", ministack.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ministack.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ministack.secret_access_key)
    store = open_store("s3://softprompt/by-environment")
    store.put("key", b"x")
    assert store.get("key", max_bytes=1) == b"x"
    assert store.uri == f"{ministack.endpoint_url} s3://softprompt/by-environment"


def test_a_proxy_for_the_world_is_not_asked_about_this_machine(ministack, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert open_store("s3://softprompt", ministack).get("nothing", max_bytes=1) is None


def test_an_endpoint_that_is_no_url_is_named():
    with pytest.raises(StoreUnavailable, match="settings do not work"):
        open_store("s3://bucket", S3Access(endpoint_url="localhost:9000"))


@pytest.mark.parametrize("uri", ["bucket", "s3://", "https://bucket/x", "s3://bucket?x=1"])
def test_what_is_no_s3_uri_is_refused(uri):
    with pytest.raises(InvalidRequest, match="not an S3 URI"):
        open_store(uri)


def test_secrets_are_not_shown():
    assert "hush" not in repr(S3Access(access_key_id="k", secret_access_key="hush"))


def test_the_probe_passes_and_leaves_one_constant_object(any_store):
    for _ in range(2):
        probe_conditional_writes(any_store)
    assert list(any_store.list("")) == [PROBE_KEY]


def test_a_store_that_ignores_conditions_is_refused(proxy, proxied):
    if proxy.access.access_key_id != "softprompt":
        pytest.skip("this server would notice the changed request by its signature")
    proxy.do("ignore_condition", "PUT")
    with pytest.raises(StoreUnavailable, match="does not honour conditional writes"):
        probe_conditional_writes(proxied)


def test_a_store_that_knows_no_conditions_is_refused(proxy, proxied):
    proxied.put(PROBE_KEY, b"x")
    proxy.do("501", "PUT")
    with pytest.raises(StoreUnavailable, match="Use an S3 server that knows conditional writes"):
        probe_conditional_writes(proxied)


class _PagesOfTwo:
    """A client that lists two keys at a time."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    def list_objects_v2(self, **request):
        return self._client.list_objects_v2(**request, MaxKeys=2)


class _Silent:
    """A server that takes connections and never says anything."""

    def __enter__(self):
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    def __exit__(self, *_):
        self._socket.close()


@pytest.mark.parametrize(
    ("asked", "headers"),
    [
        ("", {}),
        ("sse-s3", {"x-amz-server-side-encryption": "AES256"}),
        (
            "sse-kms:alias/k",
            {
                "x-amz-server-side-encryption": "aws:kms",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/k",
                "x-amz-server-side-encryption-bucket-key-enabled": "true",
            },
        ),
    ],
)
def test_every_write_asks_for_the_encryption_and_carries_its_sha256(store, asked, headers):
    sent = []
    client = store._client
    client.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(dict(request.headers)))
    encrypted = S3Store("softprompt", f"{store._prefix}sse", client, asked)
    encrypted.put("put", b"x")
    assert encrypted.create("created", b"x") == "created"
    assert encrypted.get("created", max_bytes=1) == b"x"
    for request in sent[-2:]:
        found = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.items()}
        assert found["x-amz-checksum-sha256"] == "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="  # sha256 of x, base64
        assert headers.items() <= found.items()
        assert headers or "x-amz-server-side-encryption" not in found


def test_encryption_comes_from_the_environment_and_an_unknown_one_is_refused(monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_STORE_ENCRYPTION", "sse-kms:key")
    assert open_store("s3://b")._encryption["SSEKMSKeyId"] == "key"
    monkeypatch.setenv("SOFTPROMPT_STORE_ENCRYPTION", "sse-kms")
    assert open_store("s3://b")._encryption == {"ServerSideEncryption": "aws:kms", "BucketKeyEnabled": True}
    monkeypatch.setenv("SOFTPROMPT_STORE_ENCRYPTION", "rot13")
    with pytest.raises(InvalidRequest, match=r"(?s)no such encryption.*sse-s3, sse-kms.*rot13"):
        open_store("s3://b")


def test_what_differs_from_its_sha256_is_not_stored(versitygw):
    """The server compares; ministack (1.4.21) does not."""
    from botocore.exceptions import ClientError

    store = S3Store("softprompt", "sha256", s3_client(versitygw))
    with pytest.raises(ClientError, match=r"BadDigest|checksum"):
        store._client.put_object(
            **store._address("key"), Body=b"other", ChecksumSHA256="LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="
        )
    assert store.get("key", max_bytes=10) is None


def test_time_outs_are_explicit_and_the_client_never_repeats():
    config = s3_client(S3Access(endpoint_url="http://127.0.0.1:9", access_key_id="k", secret_access_key="s")).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3.0, 20.0)
    assert config.retries["total_max_attempts"] == 1


def test_sizes_and_what_is_known_about_an_object(any_store):
    any_store.put("list/a", b"12345")
    any_store.put("list/b", b"")
    assert dict(any_store.sizes("list/")) == {"list/a": 5, "list/b": 0}
    found = any_store.find("list/a")
    assert (found.num_bytes, found.is_locked) == (5, False)
    assert any_store.find("list/c") is None
    any_store.delete("list/a", version="")
    any_store.delete("list/a", version="")
    assert any_store.find("list/a") is None
