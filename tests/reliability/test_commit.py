"""The conditional create, told by a line that lies in one answer."""

import pytest

from softprompt.errors import PublishUnknown, StoreUnavailable
from softprompt.release.commit import commit, read_back
from tests.reliability.memory_store import Line, MemoryStore

KEY = "channels/staging/000000000002.json"
OURS, THEIRS = b"ours" * 40, b"theirs" * 30


def through(store, **troubles):
    """A line on which the calls of these numbers (`at_0`) are in trouble."""
    return Line(store, lambda call: troubles.get(f"at_{call.number}", ""))


@pytest.mark.parametrize("trouble", ["lost reply", "duplicated", ""])
def test_it_won(trouble):
    store = MemoryStore()
    assert commit(through(store, at_0=trouble), KEY, OURS, hint="")
    assert store.objects[KEY] == OURS


@pytest.mark.parametrize("trouble", ["lost request", "lost reply", ""])
def test_it_lost(trouble):
    store = MemoryStore({KEY: THEIRS})
    assert not commit(through(store, at_0=trouble), KEY, OURS, hint="")
    assert store.objects[KEY] == THEIRS


def test_it_won_although_a_bit_of_the_reading_flipped():
    store = MemoryStore()
    assert commit(through(store, at_0="lost reply", at_1="flipped"), KEY, OURS, hint="")


def test_readings_that_differ_each_time_are_unknown():
    store = MemoryStore()
    with pytest.raises(PublishUnknown, match="reads differently each time"):
        commit(through(store, at_0="lost reply", at_1="flipped", at_2="flipped", at_3="flipped"), KEY, OURS, hint="")


def test_a_request_that_never_left_is_a_failure_and_a_second_one_is_not():
    store = MemoryStore()
    with pytest.raises(StoreUnavailable):
        commit(through(store, at_0="down"), KEY, OURS, hint="")
    with pytest.raises(PublishUnknown):  # the first one may still arrive
        commit(through(store, at_0="delayed", at_2="down"), KEY, OURS, hint="")


def test_a_store_that_cannot_be_asked_is_unknown():
    store = MemoryStore()
    with pytest.raises(PublishUnknown):
        commit(through(store, at_0="lost reply", at_1="down"), KEY, OURS, hint="")
    with pytest.raises(PublishUnknown):
        read_back(through(store, at_0="down"), KEY, OURS, hint="")


def test_a_request_that_arrives_late_meets_its_own_bytes():
    store = MemoryStore()
    assert commit(through(store, at_0="delayed"), KEY, OURS, hint="")
    store.deliver()
    assert store.objects[KEY] == OURS
    assert len(store.created) == 1
