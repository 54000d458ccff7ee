"""What the properties found: a publisher that comes back, and objects that read otherwise than they are."""

import os

import pytest

from softprompt.errors import PublishUnknown, StoreUnavailable
from softprompt.release.blobs import prompt_blobs
from softprompt.release.durable import open_lock, try_lock
from softprompt.release.layout import RENEW_SECONDS, blob_key, generation_key
from softprompt.release.statement import ChannelState
from tests.reliability.memory_store import Crash, Line
from tests.reliability.world import CHANNEL, approval, chain, changes, check_store, decision, meaning, prompt


def crash_after_the_commit(world, machine, seed, commit):
    """A publish that took effect and could not say so."""

    def leave(call):
        if call.commits:
            raise Crash

    line = Line(world.store, leave=leave)
    with pytest.raises(Crash):
        world.publish(machine, "greeting", prompt(seed), store=line, git_commit=commit)


def test_a_revert_is_not_taken_for_the_killed_publish_of_the_same_state(world):
    """Commit 1 states A and is killed; commit 2 states B elsewhere; commit 3 reverts to A: it has to be published."""
    crash_after_the_commit(world, "machine", 1, "1" * 40)
    world.publish("elsewhere", "greeting", prompt(2), git_commit="2" * 40)
    told = world.publish("machine", "greeting", prompt(1), git_commit="3" * 40)
    assert (told.outcome, told.generation) == ("published", 4)
    assert meaning(chain(world)[0], "greeting") == prompt(1).digest


def test_a_wish_of_today_is_not_taken_for_a_publish_killed_long_ago(world):
    crash_after_the_commit(world, "machine", 1, "")
    world.publish("elsewhere", "greeting", prompt(2))
    world.now += RENEW_SECONDS + 1
    assert world.publish("machine", "greeting", prompt(1)).generation == 4
    assert meaning(chain(world)[0], "greeting") == prompt(1).digest


def test_a_killed_publish_whose_request_is_still_on_its_way_is_made_once(world):
    """It is sent again with the same bytes: others would lose to it, and be published beside it."""

    def meet(call):
        return "delayed" if call.commits else "down" if world.store.in_flight else ""

    with pytest.raises(PublishUnknown):
        world.publish("machine", "greeting", prompt(1), store=Line(world.store, meet))
    landed = []

    def late(call):
        if call.commits and not landed:
            landed.append(world.store.deliver())
            world.publish("elsewhere", "greeting", prompt(2))
        return ""

    told = world.publish("machine", "greeting", prompt(1), store=Line(world.store, late))
    assert (told.outcome, told.generation) == ("published", 2)
    assert changes(check_store(world)) == [("greeting", prompt(1).digest), ("greeting", prompt(2).digest)]


def test_a_killed_publish_that_no_longer_follows_the_head_is_planned_again(world):
    def meet(call):
        return "lost request" if call.commits else "down" if call.number > 12 else ""

    with pytest.raises(PublishUnknown):
        world.publish("machine", "greeting", prompt(1), store=Line(world.store, meet))
    world.publish("elsewhere", "farewell", prompt(2))
    assert world.publish("machine", "greeting", prompt(1)).generation == 3
    assert len(changes(check_store(world))) == 2


@pytest.mark.parametrize("trouble", ["flipped", "stale"])
@pytest.mark.parametrize("at", [1, 2])
def test_one_bad_reading_of_the_head_undoes_nothing(world, trouble, at):
    """A publisher that passed over the newest generation would undo what it states, and name it in `skipped`."""
    for seed in range(3):
        world.publish("machine", "greeting", prompt(seed))
    world.publish("machine", "farewell", prompt(5), store=Line(world.store, lambda call: trouble if call.number == at else ""))
    links = check_store(world)
    assert [one["generation"] for one in links] == [5, 4, 3, 2, 1]
    assert meaning(links[0], "greeting") == prompt(2).digest


def test_readings_that_differ_each_time_are_no_reason_to_go_on(world):
    world.publish("machine", "greeting", prompt(1))
    line = Line(world.store, lambda call: "flipped" if call.name == "get" else "")
    with pytest.raises(StoreUnavailable, match="reads differently each time"):
        world.publish("machine", "farewell", prompt(5), store=line)
    assert len(check_store(world)) == 2


@pytest.mark.parametrize("number", [2, 3])
def test_a_publisher_does_not_go_on_where_an_envelope_is_missing(world, number):
    for seed in range(2):
        world.publish("machine", "greeting", prompt(seed))
    listed = Line(world.store)
    get = listed.get
    listed.get = lambda key, *, max_bytes: None if key == generation_key(CHANNEL, number) else get(key, max_bytes=max_bytes)
    with pytest.raises(StoreUnavailable, match=r"(?s)not in the store.*minimum_generation"):
        world.publish("machine", "farewell", prompt(5), store=listed)
    snapshot = world.reader("node", store=listed).refresh()
    assert snapshot.stale
    assert any("not in the store" in alarm for alarm in snapshot.alarms)


def test_a_raised_minimum_cuts_off_a_history_that_is_lost(world):
    for seed in range(3):
        world.publish("machine", "greeting", prompt(seed))
    del world.store.objects[generation_key(CHANNEL, 3)]
    with pytest.raises(StoreUnavailable):
        world.publish("machine", "farewell", prompt(5))
    trusted = world.trust.channels[CHANNEL].model_copy(update={"minimum_generation": 4})
    world.trust = world.trust.model_copy(update={"channels": world.trust.channels | {CHANNEL: trusted}})
    assert world.publish("machine", "farewell", prompt(5)).generation == 5
    assert world.reader("node").refresh().generation == 5


def test_blobs_of_the_newest_generation_are_not_asked_for(world):
    """Publishing one prompt of a thousand asks for its own blobs, not for three thousand."""
    seen = []
    files = {f"name-{seed}": prompt(seed) for seed in range(5)}
    for name, file in files.items():
        world.publish("machine", name, file)
    every = {}
    for file in [*files.values(), prompt(9)]:
        every |= prompt_blobs(file) | {approval(file).digest: approval(file).to_bytes()}

    def meet(call):
        seen.append((call.name, call.key))
        return ""

    publisher = world.publisher("machine", store=Line(world.store, meet))
    assert publisher.publish(decision("name-9", prompt(9)), blobs=every).generation == 7
    asked = {key for name, key in seen if name == "age_seconds"}
    mine = {blob_key(digest) for digest in (*prompt_blobs(prompt(9)), approval(prompt(9)).digest)}
    assert asked == mine


def test_a_new_node_reads_the_newest_and_the_one_before(world):
    """However long the history is."""
    for seed in range(12):
        world.publish("machine", "greeting", prompt(seed % 6))
    seen = []

    def meet(call):
        seen.append(call.key)
        return ""

    assert world.reader("node", store=Line(world.store, meet)).refresh().generation == 13
    assert sorted(key for key in seen if key.startswith("channels/") and key.endswith(".json")) == [
        generation_key(CHANNEL, 12),
        generation_key(CHANNEL, 13),
    ]


def test_a_journal_of_a_channel_that_was_begun_anew_is_not_sent_again(world):
    """Its bytes name a first generation that is not there any more."""

    def meet(call):
        return "lost request" if call.commits else "down" if call.number > 12 else ""

    with pytest.raises(PublishUnknown):
        world.publish("machine", "greeting", prompt(1), store=Line(world.store, meet))
    del world.store.objects[generation_key(CHANNEL, 1)]
    world.store.created.clear()
    world.publisher("init").begin(ChannelState())
    assert world.publish("machine", "greeting", prompt(1)).generation == 2
    assert len(check_store(world)) == 2


def test_a_publish_holds_its_machines_lock(world):
    held = []

    def meet(_):
        descriptor = open_lock(world.folder / "machine" / f"{CHANNEL}.lock")
        held.append(not try_lock(descriptor))
        os.close(descriptor)
        return ""

    world.publish("machine", "greeting", prompt(1), store=Line(world.store, meet))
    assert held
    assert all(held)
