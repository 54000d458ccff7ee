"""The invariants of the release protocol, I1 to I11, each as a property."""

import base64
import itertools
import json
import os
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from softprompt.documents import canonical_json
from softprompt.errors import InvalidRequest, PublishUnknown, SoftpromptError, StoreUnavailable, VerificationFailed
from softprompt.release.layout import CLOCK_SKEW_SECONDS, LIFE_SECONDS, generation_key
from softprompt.release.planning.plan import Plan
from softprompt.release.promotion.checkout import Checkout, check_order
from softprompt.release.statement import format_time
from tests.reliability.forgery import next_generation, put_next, signed, state_of
from tests.reliability.memory_store import Call, Crash, Line, MemoryStore
from tests.reliability.turns import Turns, crash_at
from tests.reliability.world import (
    BASE,
    CHANNEL,
    NOW,
    World,
    chain,
    changes,
    check_served,
    check_store,
    decision,
    fresh_folder,
    meaning,
    prompt,
)

DAY = 24 * 3600
NAMES = st.sampled_from(["greeting", "farewell"])
SEEDS = st.integers(0, 5)
examples = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def begun(folder, *seeds):
    """A channel in which `greeting` has meant some prompts one after the other."""
    world = World(MemoryStore(), folder)
    for seed in seeds:
        world.publish("machine", "greeting", prompt(seed))
    return world


def flip(data, position, mask):
    position %= max(1, len(data))
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :] if data else b"x"


@given(data=st.data())
@examples
def test_i1_no_torn_prompt(data):
    """Whatever happens to blobs, what a node serves has the length and sha256 that its manifest and generation state."""
    with fresh_folder() as folder:
        world = begun(folder, 0, 1, 2)
        whole = dict(world.store.objects)
        for key in data.draw(st.lists(st.sampled_from(sorted(world.store.list("blobs/"))), min_size=1, max_size=4)):
            how = data.draw(st.sampled_from(["flip", "cut", "swap", "delete", "grow"]))
            old, other = world.store.objects.get(key, b""), data.draw(st.sampled_from(sorted(whole)))
            changed = {"flip": flip(old, data.draw(st.integers(0, 10**4)), 1), "cut": old[:-1], "swap": whole[other]}
            world.store.objects[key] = changed.get(how, old + b"x")
            if how == "delete":
                del world.store.objects[key]
        reader = world.reader("node")
        try:
            snapshot = reader.refresh()
        except VerificationFailed:
            snapshot = None
        world.store.objects = whole
        if snapshot:
            check_served(world, snapshot)
        assert reader.refresh().generation == 4


@given(data=st.data())
@examples
def test_i2_only_what_a_trusted_key_signed_for_this_channel_is_served(data):
    """Any leaf of the signed statement changed, or signed by anybody else: not served."""
    with fresh_folder() as folder:
        world = begun(folder, 0)
        reader = world.reader("node")
        assert reader.refresh().generation == 2
        honest = signed(world, next_generation(world, state=state_of(0)))
        if data.draw(st.booleans()):
            bad = signed(world, next_generation(world, state=state_of(0)), CryptoSigner.generate_ed25519())
        else:
            form = json.loads(honest)
            payload = json.loads(base64.b64decode(form["payload"]))
            _change_a_leaf(payload, data)
            bad = canonical_json(form | {"payload": base64.b64encode(canonical_json(payload)).decode()})
        number = put_next(world, bad)
        snapshot = reader.refresh()
        assert (snapshot.generation, len(snapshot.alarms)) == (2, 1)
        check_served(world, snapshot)
        world.store.put(generation_key(CHANNEL, number), honest)
        assert reader.refresh().generation == 3, "the honest one is served, so the property is not about nothing"


def _change_a_leaf(content, data):
    """Another value somewhere in a document, of the same type."""
    where = content
    while True:
        key = data.draw(st.sampled_from(sorted(where) if isinstance(where, dict) else list(range(len(where)))))
        if not isinstance(where[key], dict | list) or not where[key]:
            break
        where = where[key]
    old = where[key]
    if isinstance(old, bool) or old is None:
        where[key] = not old
    elif isinstance(old, int):
        where[key] = old + data.draw(st.integers(1, 5))
    elif isinstance(old, str):
        where[key] = flip(old.encode(), data.draw(st.integers(0, 100)), 1).decode()
    else:
        where[key] = ["x"]


@given(
    choices=st.lists(st.integers(0, 2), max_size=80),
    troubles=st.lists(st.sampled_from(["", "", "", "lost reply", "lost request", "duplicated", "delayed"]), max_size=60),
)
@examples
def test_i3_one_winner(choices, troubles):
    """Three publishers in any order, with replies and requests lost: each number is committed once, none of them twice."""
    with fresh_folder() as folder:
        world = begun(folder)
        left, bad = iter(choices), iter(troubles)

        def work(who):
            def run(wait):
                def meet(call):
                    wait(call)
                    return next(bad, "") if call.commits else ""

                world.publish(f"machine-{who}", "greeting", prompt(who), store=Line(world.store, meet))

            return run

        raised = Turns(lambda running: running[next(left, 0) % len(running)]).run([work(who) for who in range(3)])
        while world.store.in_flight:
            world.store.deliver()
        links = check_store(world)
        assert all(error is None or isinstance(error, PublishUnknown) for error in raised), raised
        done = changes(links)
        assert len(set(done)) == len(done), "none twice"
        for who, error in enumerate(raised):
            assert error or ("greeting", prompt(who).digest) in done, "what was acknowledged is there"


@given(data=st.data())
@examples
def test_i4_a_nodes_generation_never_falls(data):
    """Across restarts, stores that fall back to an older state, and objects taken away; nor below the root's minimum."""
    with fresh_folder() as folder:
        world = begun(folder, 0)
        old_states, served, minimum = [dict(world.store.objects)], 0, 1
        reader = world.reader("node")
        for _ in range(data.draw(st.integers(1, 12))):
            step = data.draw(st.sampled_from(["publish", "refresh", "restart", "fall back", "take away", "raise minimum"]))
            if step == "publish" and chain(world):
                world.publish("machine", "greeting", prompt(data.draw(SEEDS)))
                old_states.append(dict(world.store.objects))
            elif step == "restart":
                reader = world.reader("node")
            elif step == "fall back":
                world.store.objects = dict(data.draw(st.sampled_from(old_states)))
            elif step == "take away" and len(world.envelopes()) > 1:
                del world.store.objects[generation_key(CHANNEL, max(world.envelopes()))]
            elif step == "raise minimum":
                minimum = data.draw(st.integers(minimum, minimum + 1))
                trusted = world.trust.channels[CHANNEL].model_copy(update={"minimum_generation": minimum})
                world.trust = world.trust.model_copy(update={"channels": world.trust.channels | {CHANNEL: trusted}})
                reader = world.reader("node")
            try:
                generation = reader.refresh().generation
            except SoftpromptError:
                continue
            assert generation >= max(served, minimum)
            served = generation


@given(targets=st.lists(st.tuples(NAMES, SEEDS), min_size=2, max_size=8), crash=st.integers(0, 30))
@examples
def test_i5_every_record_is_another_one(targets, crash):
    """States come back, records do not: no publish_id and no envelope is ever there twice."""
    with fresh_folder() as folder:
        world = begun(folder)
        meet, leave = crash_at(crash, after=True)
        line = Line(world.store, meet, leave)
        for name, seed in targets:
            try:
                world.publish("machine", name, prompt(seed), store=line)
            except Crash:
                world.publish("machine", name, prompt(seed))
        links = check_store(world)
        assert len(set(world.envelopes().values())) == len(links)
        name, seed = targets[-1]
        assert meaning(links[0], name) == prompt(seed).digest


@given(data=st.data())
@examples
def test_i6_a_crash_at_any_point_leaves_old_or_new_and_running_again_converges(data):
    """Before or after any store call or local write."""
    with fresh_folder() as folder:
        world = begun(folder, 0)
        _crash_somewhere(world, data)
        links = check_store(world)
        assert [meaning(one, "greeting") for one in links][:1] in ([prompt(0).digest], [prompt(1).digest])
        snapshot = world.reader("node").refresh()
        assert (snapshot.generation, snapshot.alarms) == (links[0]["generation"], ())
        named = _named(links)
        left = {key for key in world.store.objects if key.startswith("blobs/") and key[13:] not in named}
        again = world.publish("machine", "greeting", prompt(1))
        assert (again.generation, len(check_store(world))) == (3, 3)
        assert {key[13:] for key in left} <= _named(check_store(world)), "what was left over is what the next run needs"
        assert world.publish("machine", "greeting", prompt(1)).outcome == "unchanged"


def _crash_somewhere(world, data):
    """A publish that ends before or after a store call, or before or after a local write."""
    after, number = data.draw(st.booleans()), data.draw(st.integers(0, 16))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):
            meet, leave = crash_at(number, after=after)
            line = Line(world.store, meet, leave)
        else:
            line, write = Line(world.store), data.draw(st.sampled_from(["write_durably", "remove_durably"]))
            from softprompt.release import publisher

            real = getattr(publisher, write)

            def crashing(*arguments):
                if after:
                    real(*arguments)
                raise Crash

            patch.setattr(publisher, write, crashing)
        try:
            world.publish("machine", "greeting", prompt(1), store=line)
        except Crash:
            return


def _named(links):
    """Digests that generations name, and the tensors of their prompts."""
    named = set()
    for predicate in links:
        for digest, approved in predicate["state"]["approvals"].items():
            part = next(prompt(seed).manifest.parts[0] for seed in range(6) if prompt(seed).digest == digest)
            named |= {digest, part.sha256}
            named |= {_approval_digest(approved)}
    return named


def _approval_digest(approved):
    import hashlib

    return hashlib.sha256(canonical_json(approved)).hexdigest()


TROUBLES = st.sampled_from(["", "", "down", "lost request", "lost reply", "delayed", "duplicated", "stale", "flipped"])


@given(troubles=st.lists(TROUBLES, min_size=1, max_size=24), between=st.booleans(), late=st.booleans())
@settings(examples, max_examples=80)
def test_i7_what_is_acknowledged_is_there_once_and_what_is_not_known_is_called_unknown(troubles, between, late):
    """Any call in trouble; another machine may publish before this one runs again, and requests may arrive late."""
    with fresh_folder() as folder:
        world = begun(folder, 0)
        mine = ("greeting", prompt(1).digest)
        line = Line(world.store, lambda call: troubles[call.number] if call.number < len(troubles) else "")
        try:
            told = world.publish("machine", "greeting", prompt(1), store=line)
            assert told.outcome == "published"
            assert mine in changes(check_store(world))
        except PublishUnknown:
            told = None
        except StoreUnavailable:
            told = None
            assert mine not in changes(check_store(world)), "a failure is one"
            assert not [key for key, _ in world.store.in_flight if key.startswith("channels/")]
        while world.store.in_flight and not late:
            world.store.deliver()
        if between:
            world.publish("elsewhere", "greeting", prompt(2))
        again = world.publish("machine", "greeting", prompt(1))
        while world.store.in_flight:
            world.store.deliver()
        done = changes(check_store(world))
        if told is None or not between:  # else the second run is a wish of its own: to undo the other's
            assert done.count(mine) == 1, (told, again)
        assert again.outcome in ("published", "unchanged")


@given(data=st.data())
@settings(examples, max_examples=40)
def test_i8_a_node_serves_the_newest_or_says_that_it_may_be_stale(data):
    """With the store away, half there, showing old objects, or with flipped bits; and when a generation expires."""
    with fresh_folder() as folder:
        world = begun(folder, 0)
        trouble = ""

        def meet(call: Call):
            # A list that is consistently old cannot be told from a channel where nothing happened: that is what expiry is for.
            return "" if trouble == "stale" and call.name == "list" else trouble

        reader = world.reader("node", store=Line(world.store, meet))
        assert not reader.refresh().stale
        for _ in range(data.draw(st.integers(1, 10))):
            step = data.draw(st.sampled_from(["publish", "wait", "trouble", "restart", "junk"]))
            if step == "publish":
                world.publish("machine", "greeting", prompt(data.draw(SEEDS)))
            elif step == "wait":
                world.now += data.draw(st.sampled_from([3600, 2 * DAY, LIFE_SECONDS + CLOCK_SKEW_SECONDS + 1]))
            elif step == "trouble":
                trouble = data.draw(st.sampled_from(["", "down", "stale", "flipped"]))
            elif step == "restart":
                reader = world.reader("node", store=Line(world.store, meet))
            else:
                put_next(world, b"junk")
            snapshot = reader.refresh()
            check_served(world, snapshot)
            newest = chain(world)[0]
            expired = format_time(world.now - CLOCK_SKEW_SECONDS) > snapshot.expires
            assert snapshot.stale or (snapshot.generation == newest["generation"] and not expired), snapshot.alarms
            assert not snapshot.stale or snapshot.alarms, "who says stale says why"
            if not trouble and format_time(world.now - CLOCK_SKEW_SECONDS) <= newest["expires"]:
                assert snapshot.generation == newest["generation"]


@given(data=st.data())
@examples
def test_i9_a_record_of_elsewhere_or_of_earlier_is_refused(data):
    """Another channel's (the same key may sign both), another base's, an older one under any number."""
    with fresh_folder() as folder:
        world = begun(folder, 0, 1)
        reader = world.reader("node", base_fingerprint=BASE)
        assert reader.refresh().generation == 3
        kind = data.draw(st.sampled_from(["another channel", "another channel's id", "another base", "older", "far away"]))
        number = chain(world)[0]["generation"] + 1
        if kind == "another channel":
            record = signed(world, next_generation(world, channel="production", channel_id="d0" * 16))
        elif kind == "another channel's id":
            record = signed(world, next_generation(world, channel_id="d0" * 16))
        elif kind == "another base":
            record = signed(world, next_generation(world, state=state_of(0, listed_base="f" * 64)))
        elif kind == "older":
            number += data.draw(st.integers(0, 3))
            record = world.envelopes()[data.draw(st.integers(1, 3))]
        else:
            number += data.draw(st.integers(1, 3))
            record = signed(world, next_generation(world))
        world.store.put(generation_key(CHANNEL, number), record)
        snapshot = reader.refresh()
        assert (snapshot.generation, len(snapshot.alarms)) == (3, 1)
        check_served(world, snapshot)


def _bad_updates(world):
    """Ways in which a next generation can be bad."""
    far = format_time(world.now + 3 * DAY)
    stranger = CryptoSigner.generate_ed25519()
    yield b"junk"
    yield signed(world, next_generation(world), stranger)
    yield signed(world, next_generation(world, channel_id="0" * 32))
    yield signed(world, next_generation(world, previous="0" * 64))
    yield signed(
        world, next_generation(world, created=format_time(world.now - LIFE_SECONDS), expires=format_time(world.now - DAY))
    )
    yield signed(world, next_generation(world, created=far, expires=format_time(world.now + 9 * DAY)))
    yield signed(world, next_generation(world, state=state_of(77)))  # whose blobs are nowhere
    yield signed(world, next_generation(world, state=state_of(0, listed_base="f" * 64)))


@given(which=st.lists(st.integers(0, 7), min_size=1, max_size=5), restart=st.booleans())
@settings(examples, max_examples=15)
def test_i10_a_bad_update_never_evicts_the_good_one(which, restart):
    with fresh_folder() as folder:
        world = begun(folder, 0)
        reader = world.reader("node")
        assert reader.refresh().generation == 2
        for one in which:
            put_next(world, list(_bad_updates(world))[one])
            reader = world.reader("node") if restart else reader
            snapshot = reader.refresh()
            assert snapshot.generation == 2
            assert snapshot.alarms
            assert snapshot.load(prompt(0).digest) == prompt(0)
            world.store.objects.pop(generation_key(CHANNEL, 3))
        assert world.publish("machine", "greeting", prompt(1)).generation == 3
        assert reader.refresh().generation == 3


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A Git history: a line of three commits, two branches from its second, and their merge."""
    folder = tmp_path_factory.mktemp("git")
    who = {f"GIT_{one}_{what}": "tester@example.org" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*arguments):
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, env=os.environ | who, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    commits = []
    for number in range(3):
        git("commit", "-q", "--allow-empty", "-m", f"main {number}")
        commits.append(git("rev-parse", "HEAD"))
    git("checkout", "-q", "-b", "side", commits[1])
    git("commit", "-q", "--allow-empty", "-m", "side")
    commits.append(git("rev-parse", "HEAD"))
    git("merge", "-q", "--no-ff", "-m", "merge", "main")
    commits.append(git("rev-parse", "HEAD"))
    after = {0: {0}, 1: {0, 1}, 2: {0, 1, 2}, 3: {0, 1, 3}, 4: {0, 1, 2, 3, 4}}
    return folder, commits, after


@given(order=st.lists(st.integers(0, 4), min_size=2, max_size=5), racing=st.booleans())
@settings(examples, max_examples=15)
def test_i11_a_later_commit_is_never_replaced_by_an_earlier_one(history, order, racing):
    """Reconcilers at any commits, one after the other or at once, with the real Git asked what follows what."""
    repository, commits, after = history
    with fresh_folder() as folder:
        world = begun(folder)

        def work(at):
            def run(wait):
                def decide(head) -> Plan:
                    check_order(Checkout(repository), head.git_commit, commits[at])
                    return decision("greeting", prompt(at))(head)

                publisher = world.publisher(f"machine-{at}-{len(world.store.objects)}", store=Line(world.store, wait))
                publisher.publish(decide, blobs={}, git_commit=commits[at])

            return run

        if racing:
            turns = iter(order * 20)
            raised = Turns(lambda running: running[next(turns, 0) % len(running)]).run([work(at) for at in set(order)])
        else:
            raised = [Turns(lambda running: running[0]).run([work(at)])[0] for at in order]
        assert all(error is None or isinstance(error, InvalidRequest) for error in raised), raised
        stated = [commits.index(one["git_commit"]) for one in reversed(chain(world)) if one["git_commit"]]
        for before, now in itertools.pairwise(stated):
            assert before in after[now], "the one before is an ancestor"


def test_the_worlds_clock_is_the_readers_too(world):
    """What the properties above take for granted: time passes for publishers and nodes alike."""
    assert world.clock() == NOW
    world.now += LIFE_SECONDS + CLOCK_SKEW_SECONDS + 1
    with pytest.raises(VerificationFailed, match="expired"):
        world.reader("node").refresh()
