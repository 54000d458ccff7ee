"""A channel in another store: whole, resumable, and nothing there is overwritten."""

import dataclasses
import os
import signal
import uuid

import pytest

from softprompt.errors import InvalidRequest, StoreUnavailable
from softprompt.release.care.restore import restore_channel
from softprompt.release.care.verify_store import verify_store
from softprompt.release.layout import blob_key, generation_key
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from softprompt.release.trust import load_trust_root


@pytest.fixture
def served(channel, make_prompt):
    """A channel at generation 4, whose number 3 is taken by garbage."""
    channel.publish(make_prompt(1))
    channel.store.put(generation_key("staging", 3), b"garbage")
    channel.publish(make_prompt(2))
    return channel


@pytest.fixture
def target(channel):
    return S3Store("softprompt", uuid.uuid4().hex, channel.store._client)


def restore(channel, target, **options):
    return restore_channel(channel.store, target, "staging", load_trust_root(channel.trust_root), **options)


def contents(store):
    return {key: store.get(key, max_bytes=10**7) for key in store.list("") if not key.startswith("probe/")}


def test_everything_that_verifies_is_copied_byte_by_byte(served, target, make_prompt):
    done = restore(served, target)
    expected = contents(served.store)
    del expected[generation_key("staging", 3)]
    assert contents(target) == expected
    assert (done.generation, done.copied) == (4, len(expected))
    assert [line.partition(":")[0] for line in done.left_behind] == [generation_key("staging", 3)]
    found = verify_store(target, load_trust_root(served.trust_root), ["staging"], now=served.clock())
    assert found.whole
    moved = dataclasses.replace(served, store=target)
    assert moved.reader("there").refresh().load(make_prompt(2).digest) == make_prompt(2)
    assert moved.publish(make_prompt(3)).generation == 5


def test_a_node_goes_on_in_the_copy_where_it_was(served, target):
    assert served.reader().refresh().generation == 4
    restore(served, target)
    snapshot = dataclasses.replace(served, store=target).reader().refresh()
    assert (snapshot.generation, snapshot.alarms, snapshot.stale) == (4, (), False)


def test_again_it_writes_nothing_and_finds_what_is_new(served, target, make_prompt):
    restore(served, target)
    assert restore(served, target).copied == 0
    served.publish(make_prompt(3))
    assert restore(served, target).copied > 0
    assert contents(target)[generation_key("staging", 5)] == contents(served.store)[generation_key("staging", 5)]


@pytest.mark.parametrize("key", [generation_key("staging", 2), "blob"])
def test_nothing_in_the_target_is_overwritten(served, target, make_prompt, key):
    key = blob_key(make_prompt(1).digest) if key == "blob" else key
    target.put(key, b"somebody else's")
    with pytest.raises(InvalidRequest, match="nothing is overwritten"):
        restore(served, target)
    assert target.get(key, max_bytes=100) == b"somebody else's"


def test_a_changed_blob_is_left_behind_and_verifying_the_copy_says_so(served, target, make_prompt):
    served.store.put(blob_key(make_prompt(2).digest), b"changed")
    done = restore(served, target)
    assert any(line.startswith(blob_key(make_prompt(2).digest)) for line in done.left_behind)
    assert not verify_store(target, load_trust_root(served.trust_root), ["staging"], now=served.clock()).whole


def test_a_restore_killed_at_any_write_shows_no_torn_channel_and_goes_on(served, ministack, make_prompt):
    client = s3_client(ministack)
    killed = 0
    for step in range(0, 40, 5):
        target = S3Store("softprompt", uuid.uuid4().hex, client)
        child = os.fork()
        if child == 0:
            left = [step]

            def die(key, left=left):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            mine = S3Store("softprompt", target._prefix.rstrip("/"), s3_client(ministack))
            source = S3Store("softprompt", served.store._prefix.rstrip("/"), s3_client(ministack))
            restore_channel(source, mine, "staging", load_trust_root(served.trust_root), tell=die)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        moved = dataclasses.replace(served, store=target)
        if moved.log.numbers():
            assert moved.reader(f"there-{step}").refresh().alarms == ()
        restore(served, target)
        assert moved.reader(f"after-{step}").refresh().load(make_prompt(2).digest) == make_prompt(2)
        if not os.WIFSIGNALED(status):
            break
    assert killed > 1, "the steps were counted"


@pytest.mark.parametrize("what", ["lose_reply", "lose_request", "500"])
def test_a_target_behind_a_bad_network_is_whole_in_the_end(served, proxied, proxy, what):
    proxy.do(what, "PUT", times=2)
    for _ in range(5):
        try:
            restore(served, proxied)
            break
        except StoreUnavailable:
            continue
    expected = contents(served.store)
    del expected[generation_key("staging", 3)]
    assert contents(proxied) == expected


def test_a_channel_without_a_generation_is_refused(channel, target):
    with pytest.raises(InvalidRequest, match="no generation that verifies to restore"):
        restore_channel(target, channel.store, "staging", load_trust_root(channel.trust_root))
