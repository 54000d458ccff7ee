"""An object store of a dictionary, and the lines that lead to it: each one can be cut, delayed or bent at any call.

It has what the release protocol needs of S3 and nothing else: objects appear whole, one conditional create wins, a list is
in order. What it cannot show: HTTP, time-outs, checksums, rights, a server that forgets, and two processes.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from softprompt.errors import StoreUnavailable, VerificationFailed
from softprompt.release.store import Creation

Trouble = Literal["", "down", "lost request", "lost reply", "delayed", "duplicated", "stale", "flipped"]
"""What a line does to one call. `down`: it certainly did not happen. `delayed`: it happens when the test says so.
`duplicated`: it happens, and once more when the test says so. `stale`: the answer is from before the last change.
`flipped`: a bit of the answer is another one, each time another bit."""


@dataclass(frozen=True)
class Call:
    """One call of a publisher or a node."""

    name: str
    key: str
    number: int
    """Of this line's calls, from 0."""

    @property
    def commits(self) -> bool:
        return self.name == "create" and self.key.startswith("channels/")


class Crash(BaseException):
    """The process ends here; not an `Exception`, so nothing in the code can go on from it."""


@dataclass
class MemoryStore:
    """The objects, and everything that ever became of them."""

    objects: dict[str, bytes] = field(default_factory=dict)
    created: list[tuple[str, bytes]] = field(default_factory=list)
    """Each create that won, in order."""
    before: list[dict[str, bytes]] = field(default_factory=list)
    """The objects before each change, the last one last; only the last few."""
    in_flight: list[tuple[str, bytes]] = field(default_factory=list)
    """Creates that have not arrived yet."""
    ages: dict[str, float] = field(default_factory=dict)

    uri = "memory"

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        data = self.objects.get(key)
        if data is not None and len(data) > max_bytes:
            raise VerificationFailed("An object is larger than it may be.", where=key, actual=f"{len(data)} bytes")
        return data

    def create(self, key: str, data: bytes) -> Creation:
        if key in self.objects:
            return "refused"
        self.put(key, data)
        self.created.append((key, data))
        return "created"

    def put(self, key: str, data: bytes) -> None:
        self.before = [*self.before[-3:], dict(self.objects)]
        self.objects[key] = data

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        yield from sorted(key for key in self.objects if key.startswith(prefix) and key > start_after)

    def age_seconds(self, key: str) -> float | None:
        return self.ages.get(key, 0.0) if key in self.objects else None

    def deliver(self, position: int = 0) -> None:
        """Let a create arrive that was on its way."""
        key, data = self.in_flight.pop(position)
        self.create(key, data)


class Line:
    """One publisher's or node's way to the store.

    Args:
        store: What it leads to.
        meet: Asked before each call: what happens to it. May raise `Crash`, or wait.
        leave: Told after each call. May raise `Crash`.
    """

    def __init__(
        self, store: MemoryStore, meet: Callable[[Call], Trouble] = lambda _: "", leave: Callable[[Call], None] = lambda _: None
    ) -> None:
        self._store, self.meet, self.leave, self._calls = store, meet, leave, itertools.count()
        self.uri = store.uri

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        call, trouble = self._begin("get", key)
        data = self._shown(trouble).get(key, max_bytes=max_bytes)
        self.leave(call)
        if trouble == "flipped" and data:
            position = (call.number * 7919) % len(data)
            return data[:position] + bytes([data[position] ^ (1 << call.number % 8)]) + data[position + 1 :]
        return data

    def create(self, key: str, data: bytes) -> Creation:
        call, trouble = self._begin("create", key)
        if trouble in ("delayed", "duplicated"):
            self._store.in_flight.append((key, data))
        answer = self._store.create(key, data) if trouble not in ("lost request", "delayed") else "refused"
        self.leave(call)
        return "unclear" if trouble in ("lost request", "lost reply", "delayed") else answer

    def put(self, key: str, data: bytes) -> None:
        call, _ = self._begin("put", key)
        self._store.put(key, data)
        self.leave(call)

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        call, trouble = self._begin("list", prefix)
        keys = list(self._shown(trouble).list(prefix, start_after=start_after))
        self.leave(call)
        yield from keys

    def age_seconds(self, key: str) -> float | None:
        call, trouble = self._begin("age_seconds", key)
        age = self._shown(trouble).age_seconds(key)
        self.leave(call)
        return age

    def _begin(self, name: str, key: str) -> tuple[Call, Trouble]:
        call = Call(name, key, next(self._calls))
        trouble = self.meet(call)
        if trouble == "down" or (trouble.startswith("lost") and name != "create"):
            raise StoreUnavailable("down", where=key, actual=trouble)
        return call, trouble

    def _shown(self, trouble: Trouble) -> MemoryStore:
        return MemoryStore(self._store.before[-1]) if trouble == "stale" and self._store.before else self._store
