"""Publishers, nodes, a network and an attacker do whatever they like, in any order, and the invariants hold after each step.

The model beside the real thing is small: what was acknowledged, what was wished for how often, what each node served last.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from softprompt.errors import PublishUnknown, SoftpromptError, StoreUnavailable
from softprompt.release import publisher as publisher_module
from softprompt.release.layout import CLOCK_SKEW_SECONDS, LIFE_SECONDS
from softprompt.release.statement import format_time
from tests.reliability.forgery import next_generation, put_next, signed
from tests.reliability.kills import generation_before_blobs, undone
from tests.reliability.memory_store import Call, Crash, Line, MemoryStore
from tests.reliability.world import CHANNEL, World, chain, changes, check_store, meaning, prompt

MACHINES, NODES = st.sampled_from(["a", "b"]), st.sampled_from(["node-1", "node-2"])
NAMES, SEEDS = st.sampled_from(["greeting", "farewell"]), st.integers(0, 3)
TROUBLES = st.sampled_from(["down", "lost request", "lost reply", "delayed", "duplicated", "stale", "flipped"])
CALLS = st.integers(0, 18)


class Release(RuleBasedStateMachine):
    """One channel, two machines that publish, two nodes that follow."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.world = World(MemoryStore(), Path(self.folder.name))
        self.readers, self.snapshots = {}, {}
        self.wishes = []
        self.acknowledged = {}

    def teardown(self):
        self.folder.cleanup()

    def publish(self, machine, name, seed, line=None):
        """A wish, and what is known of it."""
        key = 0 if machine == "a" else 1
        self.wishes.append((name, prompt(seed).digest))
        try:
            told = self.world.publish(machine, name, prompt(seed), store=line or Line(self.world.store), key=key)
        except (PublishUnknown, Crash, StoreUnavailable):
            return None
        links = {one["generation"]: one for one in chain(self.world)}
        assert told.generation in links, "what was acknowledged is there"
        assert meaning(links[told.generation], name) == prompt(seed).digest, "it is what it was told to be"
        self.acknowledged[told.generation] = links[told.generation]["publish_id"]
        return told

    @rule(machine=MACHINES, name=NAMES, seed=SEEDS)
    def publish_and_hear_of_it(self, machine, name, seed):
        assert self.publish(machine, name, seed) is not None, "nothing is in its way"

    @precondition(lambda self: len(self.world.envelopes()) > 2)
    @rule(machine=MACHINES, data=st.data())
    def roll_back(self, machine, data):
        served = sorted(set(changes(chain(self.world))))
        if served:
            name, digest = data.draw(st.sampled_from(served))
            self.publish(machine, name, next(seed for seed in range(4) if prompt(seed).digest == digest))

    @rule(machine=MACHINES, name=NAMES, seed=SEEDS, at=CALLS, after=st.booleans())
    def publish_and_crash(self, machine, name, seed, at, after):
        def end(call: Call):
            if call.number == at:
                raise Crash
            return ""

        line = Line(self.world.store, leave=end) if after else Line(self.world.store, end)
        self.publish(machine, name, seed, line)

    @rule(machine=MACHINES, name=NAMES, seed=SEEDS, trouble=TROUBLES, at=CALLS, times=st.sampled_from([1, 2, 99]))
    def publish_through_trouble(self, machine, name, seed, trouble, at, times):
        self.publish(machine, name, seed, Line(self.world.store, lambda call: trouble if at <= call.number < at + times else ""))

    @rule(machine=MACHINES, name=NAMES, seed=SEEDS, others=st.lists(SEEDS, min_size=1, max_size=2), at=CALLS)
    def publish_while_the_other_machine_does_too(self, machine, name, seed, others, at):
        other = "b" if machine == "a" else "a"
        left = list(others)

        def meet(call: Call):
            if call.number >= at and left:
                self.publish(other, name, left.pop())
            return ""

        self.publish(machine, name, seed, Line(self.world.store, meet))

    @precondition(lambda self: self.world.store.in_flight)
    @rule(data=st.data())
    def a_request_arrives_late(self, data):
        self.world.store.deliver(data.draw(st.integers(0, len(self.world.store.in_flight) - 1)))

    @rule(node=NODES, trouble=st.one_of(st.just(""), TROUBLES), at=st.integers(0, 4))
    def a_node_looks(self, node, trouble, at):
        self.look(node, Line(self.world.store, lambda call: trouble if call.number >= at and call.name != "list" else ""))

    @rule(node=NODES)
    def a_node_looks_at_an_old_list(self, node):
        self.look(node, Line(self.world.store, lambda _: "stale"), may_miss=True)

    @rule(node=NODES)
    def a_node_starts_again(self, node):
        self.readers.pop(node, None)
        self.look(node, Line(self.world.store))

    def look(self, node, line, *, may_miss=False):
        if node not in self.readers:
            self.readers[node] = self.world.reader(node, store=line)
        reader = self.readers[node]
        reader._log.store = reader._blobs._store = line
        try:
            snapshot = reader.refresh()
        except SoftpromptError:
            assert node not in self.snapshots or reader._active is None, "what was good is not given up"
            return
        before = self.snapshots.get(node)
        assert before is None or snapshot.generation >= before.generation, "I4"
        newest = chain(self.world)[0]
        fresh = format_time(self.world.now - CLOCK_SKEW_SECONDS) <= snapshot.expires
        assert snapshot.stale or may_miss or snapshot.generation == newest["generation"], f"I8 {snapshot.alarms}"
        assert snapshot.stale or fresh, "I8"
        self.snapshots[node] = snapshot

    @rule(hours=st.sampled_from([1, 60, 100]))
    def time_passes(self, hours):
        self.world.now += hours * 3600

    @rule()
    def everything_expires(self):
        self.world.now += LIFE_SECONDS + CLOCK_SKEW_SECONDS + 1

    @rule(keep=st.integers(0, 1))
    def the_other_key_is_taken_out_of_the_trust_root(self, keep):
        """After the one that stays has signed the newest generation, as the runbook says."""
        machine = "ab"[keep]
        self.world.now += LIFE_SECONDS // 2  # old enough to be signed again
        head = chain(self.world)[0]
        name = next(iter(head["state"]["prompts"]), "greeting")
        seed = next((seed for seed in range(4) if prompt(seed).digest == meaning(head, name)), 0)
        for _ in range(2):
            if self.publish(machine, name, seed) is None:
                return
        newest = self.world.log().head().signed
        expelled = self.world.signers[1 - keep]
        if f'"{self.world.signers[keep].public_key.keyid}"'.encode() not in newest.data:
            return
        number = newest.generation.generation
        trusted = self.world.trust.channels[CHANNEL].model_copy(update={"minimum_generation": number})
        self.world.trust = self.world.trust.model_copy(update={"channels": self.world.trust.channels | {CHANNEL: trusted}})
        self.world.rotate(keep)
        if keep == 1:
            self.world.signers.reverse()
        for node in list(self.readers):
            self.readers.pop(node)
        put_next(self.world, signed(self.world, next_generation(self.world), expelled))

    @rule(key=st.integers(0, 1), steals=st.booleans())
    def a_key_is_stolen_and_revoked(self, key, steals):
        """What it signed before stays good; what the thief signs then is not believed."""
        stolen = self.world.revoke(key)
        self.readers.clear()
        if steals:
            put_next(self.world, signed(self.world, next_generation(self.world), stolen))

    @rule(what=st.sampled_from(["junk", "older", "another channel's"]))
    def somebody_writes_into_the_channel(self, what):
        if what == "junk":
            put_next(self.world, b"junk")
        elif what == "older":
            put_next(self.world, self.world.envelopes()[chain(self.world)[-1]["generation"]])
        else:
            put_next(self.world, signed(self.world, next_generation(self.world, channel_id="d0" * 16)))

    @invariant()
    def the_store_keeps_the_protocol(self):
        links = check_store(self.world)
        ids = {one["generation"]: one["publish_id"] for one in links}
        low = min(ids)
        for number, publish_id in self.acknowledged.items():
            assert number < low or ids.get(number) == publish_id, f"acknowledged generation {number} is in the chain"
        done = changes(links)
        for wish in set(done):
            assert done.count(wish) <= self.wishes.count(wish), "no wish is granted twice"

    @invariant()
    def what_nodes_serve_was_approved_and_is_whole(self):
        for snapshot in self.snapshots.values():
            for digest in snapshot.statement.state.digests:
                assert snapshot.load(digest).digest == digest

    @invariant()
    def every_number_keeps_its_bytes(self):
        for key, data in self.world.store.created:
            assert self.world.store.objects[key] == data, "I3"


def overwrites():
    """A null control: whoever comes last wins."""
    publisher_module.commit = lambda store, key, data, **_: store.put(key, data) or True


def believes_what_is_unclear():
    """A null control: no answer is taken for a good one."""
    publisher_module.commit = lambda store, key, data, **_: store.create(key, data) != "refused"


SHORT = settings(
    max_examples=12, stateful_step_count=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def test_the_invariants_hold_after_each_step():
    run_state_machine_as_test(Release, settings=SHORT)


@pytest.mark.slow
def test_the_invariants_hold_after_each_step_for_long():
    run_state_machine_as_test(Release, settings=settings(SHORT, max_examples=400, stateful_step_count=40))


@pytest.mark.parametrize("fault", [generation_before_blobs, overwrites, believes_what_is_unclear])
def test_the_machine_finds_a_publisher_with_a_known_fault(fault):
    bounded = settings(SHORT, max_examples=200, derandomize=True, database=None, phases=[Phase.generate], print_blob=False)
    with undone():
        fault()
        with pytest.raises(AssertionError):
            run_state_machine_as_test(Release, settings=bounded)
