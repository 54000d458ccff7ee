"""Races for one number on a real server: one winner, and who loses plans again."""

import os
import uuid

import pytest

from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from tests.reliability.races import race
from tests.reliability.world import World, changes, check_store, prompt


def world_on(access, folder):
    return World(S3Store("softprompt", uuid.uuid4().hex, s3_client(access)), folder)


@pytest.mark.parametrize("publishers", [2, 8, 32])
def test_one_wins(versitygw, folder, publishers):
    world = world_on(versitygw, folder)
    races = race(world, publishers, rounds=64 // publishers)
    assert set(races.winners) == {1}
    assert races.open_at_once > 1, "they meet"
    assert len(check_store(world)) == races.rounds + 1


@pytest.mark.slow
@pytest.mark.parametrize("publishers", [2, 8, 32])
def test_one_wins_a_thousand_times(versitygw, folder, publishers):
    world = world_on(versitygw, folder)
    races = race(world, publishers, rounds=1000)
    print(f"\n{races}")
    assert set(races.winners) == {1}
    assert races.open_at_once > min(publishers, 8) / 2
    assert len(check_store(world)) == 1001


def test_one_wins_on_the_laptops_server_too(ministack, folder):
    assert set(race(world_on(ministack, folder), 8, rounds=8).winners) == {1}


def test_two_that_win_would_be_noticed(versitygw, folder, monkeypatch):
    """A store that takes every create for the first one."""
    world = world_on(versitygw, folder)
    monkeypatch.setattr(S3Store, "create", lambda self, key, data: self.put(key, data) or "created")
    with pytest.raises(AssertionError):
        assert set(race(world, 4, rounds=20).winners) == {1}


def rounds_of_processes(access, folder, processes, rounds):
    """Whole publishes, each in a process of its own, all at once."""
    world = world_on(access, folder)
    children_client = s3_client(access)
    for number in range(rounds):
        children = []
        for who in range(processes):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    store = S3Store("softprompt", world.store._prefix.rstrip("/"), children_client)
                    world.publish(f"machine-{who}", f"name-{who}", prompt(number * processes + who), store=store)
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * processes
    links = check_store(world)
    done = changes(links)
    assert sorted(done) == sorted(
        (f"name-{who}", prompt(number * processes + who).digest) for number in range(rounds) for who in range(processes)
    ), "each publish is there once"
    assert len(links) == processes * rounds + 1


def test_processes_that_lose_plan_again(versitygw, folder):
    rounds_of_processes(versitygw, folder, processes=4, rounds=2)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "rounds"), [(2, 100), (8, 25)])
def test_processes_that_lose_plan_again_many_times(versitygw, folder, processes, rounds):
    rounds_of_processes(versitygw, folder, processes, rounds)
