"""Kills inside a Ray training: who is who, when a moment has come, and SIGKILL.

Nothing in the product is made for these tests. Who is who: the metric sink that a caller passes to a training travels to its
controller and workers; the `Spy` writes down where it arrives. When: a run's folder shows it, since a checkpoint is a folder that
gets its manifest last. At a moment the first worker is stopped (SIGSTOP) for as long as it takes to look whether the moment is
still there; then the victim is killed and the first worker, if it is not the victim, goes on.
"""

import ctypes
import json
import os
import select
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = "state.json"
IN_MOVED_TO, IN_CREATE = 0x80, 0x100
LIBC = ctypes.CDLL(None, use_errno=True)


class Spy:
    """A metric sink that notes process, role and looks in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.driver = folder, os.getpid()
        folder.mkdir(parents=True)

    def __setstate__(self, state):
        self.__dict__.update(state)
        if os.getpid() != self.driver:
            self._note("arrivals", {"role": _role()})

    def log(self, points) -> None:
        """Note each look, from the process that makes it."""
        self._note("looks", {"points": points})

    def _note(self, name, content) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "time": time.time()} | content) + "\n")

    def notes(self, name):
        """What was noted, the oldest first."""
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def pid(self, role):
        """The living process that has a role, if one has noted it; in a worker the sink arrives before its rank is known."""
        found = [note["pid"] for note in self.notes("arrivals") if note["role"] == role and is_alive(note["pid"])]
        if role == "controller":
            found = [pid for pid in found if b"TrainController" in command_of(pid)]
        return found[-1] if found else None

    def losses(self):
        """Training loss by step; a step that was done twice counts as it was done last."""
        points = [point for note in self.notes("looks") for point in note["points"]]
        return {step: metrics["training_loss"] for step, metrics in points if "training_loss" in metrics}


def _role():
    import ray.train

    try:
        return f"rank {ray.train.get_context().get_world_rank()}"
    except (RuntimeError, AttributeError, AssertionError):
        return "controller"


def is_alive(pid):
    """Whether a process runs; a zombie does not."""
    return state_of(pid) not in "XZ"


def state_of(pid):
    """R running, S sleeping, T stopped, Z zombie, X gone and so on."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def command_of(pid):
    """A process's command line, which Ray sets to what runs in it."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def parent(pid):
    """A process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def kill(*pids):
    """SIGKILL, and wait until nothing runs any more."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(is_alive(pid) for pid in pids):
        time.sleep(0.01)


def node_of(pid):
    """All processes of the Ray node that a worker belongs to: the raylet first, then its children."""
    raylet = parent(pid)
    assert b"raylet" in Path(f"/proc/{raylet}/cmdline").read_bytes().split(b"\0")[0]
    children = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_child(entry, raylet)]
    return [raylet, *children]


def _is_child(entry, raylet):
    with suppress(OSError):
        return parent(entry.name) == raylet
    return False


@contextmanager
def stopped(pid):
    """A process that stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    while state_of(pid) not in "TXZ":  # it stops when the system next looks at it, not when the signal is sent
        time.sleep(0.0005)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Watch:
    """A run's folder of checkpoints, seen through inotify, so that a folder that is being written is met in the act."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = LIBC.inotify_init1(os.O_NONBLOCK)
        self._watched = {}
        self._add(folder)

    def _add(self, folder):
        number = LIBC.inotify_add_watch(self._descriptor, str(folder).encode(), IN_CREATE | IN_MOVED_TO)
        self._watched[number] = folder

    def checkpoints(self):
        """Number -> whether it is complete; one number may have several folders."""
        found = {}
        for path in self.folder.glob("checkpoint-*"):
            number = int(path.name.split("-")[1])
            found[number] = found.get(number, False) or (path / MANIFEST).exists()
        return found

    def complete(self):
        """The newest complete checkpoint's number."""
        return max((number for number, whole in self.checkpoints().items() if whole), default=0)

    def torn(self):
        """Folders without a manifest."""
        return [path for path in self.folder.glob("checkpoint-*") if path.is_dir() and not (path / MANIFEST).exists()]

    def wait(self, seconds=1.0):
        """Sleep until something appears in the folder."""
        if select.select([self._descriptor], [], [], seconds)[0]:
            os.read(self._descriptor, 65536)

    def close(self):
        """No more events."""
        os.close(self._descriptor)


@dataclass
class Kill:
    """One kill, as it happened."""

    victim: str
    moment: str
    pids: list[int] = field(default_factory=list)
    complete_before: int = 0
    torn_before: int = 0
    misses: int = 0

    def line(self):
        """For the table."""
        return (
            f"{self.victim:<12} {self.moment:<22} {len(self.pids)} processes, last complete checkpoint {self.complete_before}, "
            f"{self.torn_before} being written, {self.misses} moments missed before"
        )


class Assassin:
    """Waits for a moment of a training and kills a victim in it.

    Args:
        spy: Knows who is who.
        watch: Sees checkpoints appear.
        is_over: Whether the training has ended.
        timeout_seconds: For one moment to come.
    """

    def __init__(self, spy: Spy, watch: Watch, is_over, timeout_seconds=900.0) -> None:
        self.spy, self.watch, self.is_over, self.timeout = spy, watch, is_over, timeout_seconds

    def strike(self, victim, moment) -> Kill:
        """Kill `victim` (rank 0, rank 1, controller, node) at `moment` (start, mid-step, while writing, right after)."""
        done = Kill(victim, moment)
        if moment == "start":
            self._until(lambda: self._newcomer(victim))
            self._kill(done)
            return done
        self._until(self._is_one_group)
        seen = self.watch.complete()
        while not self._met(done, seen):
            done.misses += 1
            seen = self.watch.complete()
        return done

    def _met(self, done, seen):
        """Wait for the moment and stop the first worker; kill if the moment is still there."""
        self._until(lambda: self._is_one_group() and self._has_come(done.moment, seen))
        if done.moment == "mid-step":
            time.sleep(0.1)
        with suppress(ProcessLookupError, TypeError), stopped(self.spy.pid("rank 0")):
            if self._holds(done.moment, seen):
                self._kill(done)
                return True
        return False

    def _kill(self, done):
        pids = self._victims(done.victim)
        done.complete_before, done.torn_before = self.watch.complete(), self._being_written()
        kill(*pids)
        done.pids = pids

    def _victims(self, victim):
        if victim == "node":
            return node_of(self.spy.pid("rank 1"))
        return [self.spy.pid(victim)]

    def _newcomer(self, victim):
        """The victim is there, no step of it is done: everybody who is needed has arrived, and nobody has looked since."""
        roles = ["controller"] if victim == "controller" else ["rank 0", "rank 1"]
        return all(self.spy.pid(role) for role in roles)

    def _is_one_group(self):
        """The living workers are the living controller's: for a while those of a killed one train on."""
        arrived = {note["pid"]: note["time"] for note in reversed(self.spy.notes("arrivals"))}
        controller, *workers = (self.spy.pid(role) for role in ("controller", "rank 0", "rank 1"))
        return bool(controller and all(workers)) and all(arrived[pid] > arrived[controller] for pid in workers)

    def _has_come(self, moment, seen):
        if moment == "while writing":
            return self._being_written() > 0
        return self.watch.complete() > seen

    def _holds(self, moment, seen):
        if moment == "while writing":
            return self._being_written() > 0
        return self._being_written() == 0 and self.watch.complete() > seen

    def _being_written(self):
        newest = self.watch.complete()
        return sum(int(path.name.split("-")[1]) > newest for path in self.watch.torn())

    def _until(self, condition):
        deadline = time.monotonic() + self.timeout
        while not condition():
            assert not self.is_over(), "the training ended before the moment came"
            assert time.monotonic() < deadline, "the moment did not come"
            self.watch.wait(0.05)
