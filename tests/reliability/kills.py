"""A publisher that is killed with SIGKILL at a point of its work, thousands of times, and what has to hold each time.

The publisher is a fork of this process, so that nothing has to be imported again; its store is a real S3 server and its
journal a real file. It writes the name of each point that it comes to into a pipe, and at the chosen one it sends itself
SIGKILL. So a kill counts only if its point was reached and the process died of signal 9.

    python -m tests.reliability.kills --each 250 --random 1000
"""

import argparse
import gc
import itertools
import os
import random
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softprompt.release import publisher as publisher_module
from softprompt.release.planning.plan import Plan
from softprompt.release.publisher import Publisher
from softprompt.release.store import PROBE_KEY, S3Store
from tests.reliability import world as world_module
from tests.reliability.world import PREFIX, World, check_store, prompt

STORE_CALLS = {
    "list": lambda _: "list the channel",
    "get": lambda key: "look for the probe" if key == PROBE_KEY else "read an envelope",
    "create": lambda key: "probe" if key == PROBE_KEY else "commit",
    "age_seconds": lambda _: "look at a blob",
    "put": lambda _: "put a blob",
}
LOCAL_WRITES = ("flush the journal", "rename the journal", "flush its folder", "remove the journal", "flush its folder again")
POINTS = (
    *(
        f"{when}: {what}"
        for what in (
            "list the channel",
            "read an envelope",
            "look for the probe",
            "probe",
            "look at a blob",
            "put a blob",
            *LOCAL_WRITES[:3],
            "commit",
            *LOCAL_WRITES[3:],
        )
        for when in ("before", "after")
    ),
    "half sent: a blob",
    "half sent: commit",
    "sent, answer unread: commit",
)
"""Where a publisher is killed. A point that comes several times in one publish is met at one of them, by chance."""


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass
class Child:
    """What a killed process had come to."""

    reached: list[str]
    was_killed: bool
    """By signal 9; else it ended by itself and had done its work."""


class Pointer:
    """In the child: names each point as it comes to it, and dies at the chosen one.

    Args:
        told: Descriptor to write the names to.
        at: The point to die at; empty: at none.
        skip: How often to pass it first.
    """

    def __init__(self, told: int, at: str, skip: int) -> None:
        self._told, self._at, self._skip, self._lock = told, at, skip, threading.Lock()

    def reach(self, point: str) -> None:
        """Say so, and die here if it is the chosen one."""
        with self._lock:
            os.write(self._told, f"{point}\n".encode())
            if point == self._at:
                if self._skip == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._skip -= 1

    def around(self, what: Callable[[Any], str], function: Callable[..., Any], *, lists: bool = False) -> Callable[..., Any]:
        """The function, with a point before it and one after it."""

        def pointed(*arguments: Any, **options: Any) -> Any:
            name = what(arguments[0] if arguments else "")
            self.reach(f"before: {name}")
            result = function(*arguments, **options)
            result = list(result) if lists else result
            self.reach(f"after: {name}")
            return result

        return pointed

    def install(self, store: S3Store) -> None:
        """Into this process, which is a fork and will not live long."""
        for name, what in STORE_CALLS.items():
            setattr(store, name, self.around(what, getattr(store, name), lists=name == "list"))
        flushes = itertools.cycle(("flush the journal", "flush its folder", "flush its folder again"))
        os.fsync = self.around(lambda _: next(flushes), os.fsync)
        Path.replace = self.around(lambda _: "rename the journal", Path.replace)
        Path.unlink = self.around(lambda _: "remove the journal", Path.unlink)
        socket.socket.sendall = self._half(socket.socket.sendall)

    def _half(self, sendall: Callable[..., None]) -> Callable[..., None]:
        def sending(connection: socket.socket, data: Any, *flags: int) -> None:
            body = bytes(data)
            kind = "commit" if body.startswith(b'{"payload"') else "a blob"
            if not body.startswith((b"PUT ", b"GET ", b"HEAD ")) and len(body) > 1:
                sendall(connection, body[: len(body) // 2])
                self.reach(f"half sent: {kind}")
                sendall(connection, body[len(body) // 2 :])
                self.reach(f"sent, answer unread: {kind}")
            else:
                sendall(connection, data, *flags)

        return sending


def run_child(work: Callable[[], object], store: S3Store, at: str = "", skip: int = 0, after_seconds: float = 0) -> Child:
    """Do the work in a fork that dies at a point, or that is killed from outside after a time."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(told)
            Pointer(tell, at, skip).install(store)
            work()
        except BaseException as error:
            os.write(tell, f"error: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    os.close(tell)
    if after_seconds:
        time.sleep(after_seconds)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(told) as pipe:
        reached = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not was_killed and status != 0:
        raise Violation(f"the child failed by itself: {reached[-1:]}")
    return Child(reached, was_killed)


@dataclass
class Harness:
    """Kills publishers of channels on one server.

    Args:
        clients: One for this process, one whose connections only children open.
        bucket: On the server.
        fault: How to spoil the publisher, for a null control.
    """

    clients: tuple[Any, Any]
    bucket: str
    fault: Callable[[], Any] | None = None
    per_channel: int = 100
    killed: Counter = field(default_factory=Counter)
    """Kills that landed, by the point at which."""
    outcomes: Counter = field(default_factory=Counter)
    """What a kill left (old, new), and what running again said."""
    _seeds: Iterator[int] = field(default_factory=lambda: itertools.count(1000))
    _left: int = 0

    def kill_at(self, point: str, skip: int = 0) -> bool:
        """One kill, and all that must hold; whether it landed (the point may come less often than `skip`)."""
        child = self._publish_and_check(at=point, skip=skip)
        if child.was_killed:
            if child.reached[-1] != point:
                raise Violation(f"killed at {child.reached[-1]}, not at {point}")
            self.killed[point] += 1
        return child.was_killed

    def kill_after(self, seconds: float) -> bool:
        """One kill from outside; whether the publisher was still at it."""
        child = self._publish_and_check(after_seconds=seconds)
        if child.was_killed:
            self.killed["at a random time, " + (child.reached[-1] if child.reached else "before the first point")] += 1
        return child.was_killed

    def mean_seconds(self) -> float:
        """How long a publish takes in a child that is let live."""
        start = time.perf_counter()
        for _ in range(5):
            self._publish_and_check(only_child=True)
        return (time.perf_counter() - start) / 5

    def close(self) -> None:
        """End the last channel."""
        if self._left != 0:
            self._finish_channel()

    def _begin_channel(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        prefix = uuid.uuid4().hex
        self._childs_store = S3Store(self.bucket, prefix, self.clients[1])
        self.world = World(S3Store(self.bucket, prefix, self.clients[0]), Path(self._folder.name))
        self._node, self._generation, self._left = self.world.reader("node"), 1, self.per_channel
        self._node.refresh()

    def _finish_channel(self) -> None:
        links = check_store(self.world)
        if [one["generation"] for one in links] != list(range(self._generation, 0, -1)):
            raise Violation("the chain is not every generation")
        self._folder.cleanup()
        self._left = 0

    def _publish_and_check(self, *, at: str = "", skip: int = 0, after_seconds: float = 0, only_child: bool = False) -> Child:
        if self._left == 0:
            self._begin_channel()
        file, before = prompt(next(self._seeds)), self._generation

        def work() -> None:
            if self.fault:
                self.fault()
            self.world.publish("machine", "greeting", file, store=self._childs_store)

        store = S3Store(self.bucket, self._childs_store._prefix.rstrip("/"), self.clients[1])
        self._childs_store = store
        child = run_child(work, store, at, skip, after_seconds)
        left = "old" if only_child else self._check_after_the_kill(file, before)
        self._check_after_another_run(file, before, left)
        self._generation, self._left = before + 1, self._left - 1
        if self._left == 0:
            self._finish_channel()
        return child

    def _check_after_the_kill(self, file: Any, before: int) -> str:
        """I1, I6: a node sees the old state or the new one, whole, and nothing to be alarmed about."""
        snapshot = self._node.refresh()
        if snapshot.alarms or snapshot.generation not in (before, before + 1):
            raise Violation(f"generation {snapshot.generation} after {before}: {snapshot.alarms}")
        if snapshot.generation == before:
            return "old"
        if snapshot.load(file.digest) != file:
            raise Violation("another prompt is served")
        return "new"

    def _check_after_another_run(self, file: Any, before: int, left: str) -> None:
        """I6, I7: running again converges, and makes no second generation."""
        if self.fault:
            with undone():
                self.fault()
                told = self.world.publish("machine", "greeting", file)
        else:
            told = self.world.publish("machine", "greeting", file)
        self.outcomes[left, told.outcome] += 1
        snapshot = self._node.refresh()
        numbers = list(self.world.store.list(PREFIX, start_after=f"{PREFIX}{before:012d}.json"))
        if (told.generation, snapshot.generation, len(numbers)) != (before + 1, before + 1, 1):
            raise Violation(f"told {told}, served {snapshot.generation}, {len(numbers)} generations after {before}")
        if snapshot.alarms or snapshot.load(file.digest) != file:
            raise Violation(f"after another run: {snapshot.alarms}")


@contextmanager
def undone() -> Iterator[None]:
    """Take a fault out of this process again."""
    kept = (publisher_module.put_blobs, publisher_module.commit, Publisher._commit, Publisher._recover, world_module.decision)
    try:
        yield
    finally:
        publisher_module.put_blobs, publisher_module.commit, Publisher._commit, Publisher._recover, world_module.decision = kept


def generation_before_blobs() -> None:
    """A null control: this publisher commits first and writes the blobs then."""
    later: list[tuple[Any, Any]] = []
    put, commit = publisher_module.put_blobs, Publisher._commit
    publisher_module.put_blobs = lambda store, blobs, **_: later.append((store, blobs))

    def commit_first(self: Publisher, generation: Any) -> bool:
        won = commit(self, generation)
        for store, blobs in later:
            if store is self._log.store:  # what a publish that crashed has left stays unwritten
                put(store, blobs)
        return won

    Publisher._commit = commit_first


def never_recognises() -> None:
    """A null control: this publisher does what it is told again, whatever is there already."""
    plain = world_module.decision

    def always(name: str, file: Any) -> Callable[[Any], Plan]:
        def decide(head: Any) -> Plan:
            return plain(name, file)(head).model_copy(update={"outcome": "change"})

        return decide

    world_module.decision = always
    Publisher._recover = lambda *_: None


def kill_everywhere(harness: Harness, *, each: int, at_random: int, points: tuple[str, ...] = POINTS) -> None:
    """So many kills that land at random times, and so many at each point."""
    gc.collect()
    gc.freeze()  # so that a fork copies less
    draw = random.Random(1)
    repeated = {"before: read an envelope": 2, "after: read an envelope": 2} | {
        f"{when}: {what}": 3 for when in ("before", "after") for what in ("look at a blob", "put a blob")
    }
    seconds, landed = harness.mean_seconds() if at_random else 0.0, 0
    while landed < at_random:
        landed += harness.kill_after(draw.uniform(0.0005, seconds))
    for point in points:
        for _ in range(2 * each):
            if harness.killed[point] >= each:
                break
            harness.kill_at(point, draw.randrange(repeated.get(point, 1)))
        if harness.killed[point] < each:
            raise Violation(f"only {harness.killed[point]} kills landed at {point}")
        if each >= 20:
            print(f"{harness.killed[point]:6} {point}", flush=True)
    harness.close()


def report(harness: Harness, seconds: float) -> str:
    """What was done, for people."""
    by_chance = {point: count for point, count in harness.killed.items() if point.startswith("at a random")}
    lines = [f"{count:6} killed {point}" for point, count in sorted(harness.killed.items(), key=lambda one: one[0])]
    total = sum(harness.killed.values())
    lines.append(f"{total:6} kills landed in {seconds:.0f} s, {sum(by_chance.values())} of them at random times; no violation")
    lines += [
        f"{count:6} left the {left} state, and the next run said {told}" for (left, told), count in harness.outcomes.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """The long form on versitygw, without the weight of a test process."""
    from softprompt.release.s3_client import s3_client
    from tests.reliability.servers import versitygw_server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=250)
    parser.add_argument("--random", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, versitygw_server(Path(folder)) as access:
        harness = Harness((s3_client(access), s3_client(access)), "softprompt")
        start = time.perf_counter()
        kill_everywhere(harness, each=given.each, at_random=given.random)
        print(report(harness, time.perf_counter() - start))


if __name__ == "__main__":
    main()
