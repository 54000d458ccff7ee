"""What an S3 request carries, as botocore sends it, and what becomes of a reply that changed on the way."""

import uuid

import pytest

from softprompt.errors import StoreUnavailable, VerificationFailed
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from tests.reliability.fault_proxy import Proxy


@pytest.fixture
def proxy(versitygw):
    proxy = Proxy(versitygw)
    yield proxy
    proxy.close()


@pytest.fixture
def store(proxy):
    return S3Store("softprompt", uuid.uuid4().hex, s3_client(proxy.access, read_timeout_seconds=2))


def test_every_write_carries_its_sha256_and_a_create_its_condition(store):
    seen = []
    store._client.meta.events.register("before-send.s3", lambda request, **_: seen.append(dict(request.headers)))
    store.put("a", b"x")
    store.create("b", b"x")
    assert all("x-amz-checksum-sha256" in headers for headers in seen)
    assert [headers.get("If-None-Match") for headers in seen] == [None, b"*"] or "If-None-Match" in seen[1]
    assert "If-None-Match" not in seen[0]


def test_a_bit_that_flips_on_the_way_to_the_server_stores_nothing_else(proxy, store):
    proxy.do("flip", "PUT", times=1)
    with pytest.raises(StoreUnavailable):
        store.put("a", b"content" * 20)
    assert store.get("a", max_bytes=1000) is None


def test_a_bit_that_flips_on_the_way_back_is_read_again(proxy, store):
    store.put("a", b"content" * 20)
    proxy.do("flip", "GET", times=1)
    assert store.get("a", max_bytes=1000) == b"content" * 20
    assert proxy.done == 1


def test_bits_that_flip_each_time_are_no_content(proxy, store):
    store.put("a", b"content" * 20)
    proxy.do("flip", "GET")
    with pytest.raises(VerificationFailed, match="not what was stored"):
        store.get("a", max_bytes=1000)


def test_a_reply_that_is_cut_is_read_again(proxy, store):
    store.put("a", b"content" * 20)
    proxy.do("truncate", "GET", times=1)
    assert store.get("a", max_bytes=1000) == b"content" * 20
    proxy.do("truncate", "GET")
    with pytest.raises(StoreUnavailable):
        store.get("a", max_bytes=1000)


@pytest.mark.parametrize(("old", "new"), [(b"-", b"-9"), (b"<Size>", b"<Size>x"), (b"</Key>", b"</Kez>")])
def test_a_list_that_cannot_be_is_asked_for_again(store, old, new):
    """A time, a number, a tag: botocore raises another error for each."""
    store.put("a", b"content")
    spoilt, times = [], 1
    send = store._client._endpoint.http_session.send

    def sending(request):
        answer = send(request)
        if len(spoilt) < times:
            start = answer.content.index(b"<Contents>")
            answer._content = answer.content[:start] + answer.content[start:].replace(old, new)
            spoilt.append(answer)
        return answer

    store._client._endpoint.http_session.send = sending
    assert list(store.list("")) == ["a"]
    times = 99
    with pytest.raises(StoreUnavailable):
        list(store.list(""))
