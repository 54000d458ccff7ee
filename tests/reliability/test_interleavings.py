"""Two publishers at once: every order of their store calls, not a sample of them.

An order is a sequence of choices, at each store call, of who makes the next one; all of them are tried (and counted). What
one publisher does between two calls touches nothing that the other one sees.
"""

from collections import Counter

import pytest

from softprompt.release.blobs import prompt_blobs
from tests.reliability.memory_store import Call, Crash, Line, MemoryStore
from tests.reliability.turns import Turns, every_order
from tests.reliability.world import (
    World,
    approval,
    changes,
    check_served,
    check_store,
    decision,
    fresh_folder,
    meaning,
    prompt,
)


def run_two(choose, *, blobs=0, trouble=None, crash=None):
    """Two machines publish one name each, in the order that `choose` says; what became of it.

    Args:
        choose: Who goes on.
        blobs: How many blobs each one puts; the others are there already, as if a proposal had put them.
        trouble: What happens to the first machine's first commit.
        crash: The first machine ends before its call of this number, and runs again when both have ended.
    """
    with fresh_folder() as folder:
        world = World(MemoryStore(), folder)
        made = {who: _blobs(who) for who in range(2)}
        for who in range(2):
            for digest, data in list(made[who].items())[blobs:]:
                world.store.put(f"blobs/sha256/{digest}", data)

        def publish(who, line):
            given = dict(list(made[who].items())[:blobs])
            return world.publisher(f"machine-{who}", store=line).publish(decision(f"name-{who}", prompt(who)), blobs=given)

        def work(who):
            def run(wait):
                commits = 0

                def meet(call: Call):
                    nonlocal commits
                    wait(call)
                    if who == 0 and crash == call.number:
                        raise Crash
                    commits += call.commits
                    return trouble if trouble and who == 0 and call.commits and commits == 1 else ""

                told[who] = publish(who, Line(world.store, meet))

            return run

        told: dict[int, object] = {}
        raised = Turns(choose).run([work(0), work(1)])
        while world.store.in_flight:
            world.store.deliver()
        if crash is not None and raised[0] is not None:
            assert isinstance(raised[0], Crash)
            told[0] = publish(0, Line(world.store))
        else:
            assert raised == [None, None]
        _check(world, told)
        return tuple(told[who].generation for who in range(2))


def _blobs(who):
    file = prompt(who)
    return prompt_blobs(file) | {approval(file).digest: approval(file).to_bytes()}


def _check(world, told):
    links = check_store(world)
    assert sorted(changes(links)) == sorted((f"name-{who}", prompt(who).digest) for who in range(2)), "each once"
    assert [predicate["generation"] for predicate in links] == [3, 2, 1]
    assert {told[who].generation for who in range(2)} == {2, 3}, "one winner of each number"
    by_number = {predicate["generation"]: predicate for predicate in links}
    for who in range(2):
        assert meaning(by_number[told[who].generation], f"name-{who}") == prompt(who).digest, "what it was told is so"
    snapshot = world.reader("node").refresh()
    assert (snapshot.generation, snapshot.stale, snapshot.alarms) == (3, False, ())
    check_served(world, snapshot)


def count(**options):
    """All orders with these options: how many, and who won."""
    outcomes = Counter()
    for _ in every_order(lambda choose: outcomes.update([run_two(choose, **options)])):
        pass
    print(f"{sum(outcomes.values())} orders with {options}: {dict(outcomes)}")
    return outcomes


def test_every_order_of_two_publishers_has_one_winner_and_the_loser_plans_again():
    outcomes = count()
    assert sum(outcomes.values()) == 252  # five calls each before one has won
    assert set(outcomes) == {(2, 3), (3, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["lost reply", "lost request", "delayed", "duplicated"])
def test_every_order_when_the_first_machines_commit_is_in_trouble(trouble):
    assert sum(count(trouble=trouble).values()) >= 252


@pytest.mark.slow
@pytest.mark.parametrize("crash", range(11))
def test_every_order_when_the_first_machine_crashes_and_runs_again(crash):
    assert sum(count(crash=crash).values()) >= 1


@pytest.mark.slow
def test_every_order_when_both_put_a_blob_too():
    assert sum(count(blobs=1).values()) == 3432


def test_the_enumeration_finds_a_fault(monkeypatch):
    """A publisher that overwrites instead of creating passes no such test: some order loses a publish."""
    monkeypatch.setattr(MemoryStore, "create", lambda self, key, data: self.put(key, data) or "created")
    monkeypatch.setattr("softprompt.release.publisher.probe_conditional_writes", lambda _: None)
    with pytest.raises(AssertionError):
        count()
