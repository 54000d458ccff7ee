"""Publishers that really meet: all have sent the head of the same conditional create before any sends its body.

Threads, since what races is the server: the bodies, a kilobyte each, go out one right after the other, and every request is
open at once. So a server that looks at the condition when a request begins, and not again when it ends, lets two win.
"""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from softprompt.release.channel import Head, Signed
from softprompt.release.layout import MAX_ENVELOPE_BYTES, generation_key
from tests.reliability.world import CHANNEL, World

_here = threading.local()


@dataclass(frozen=True)
class Races:
    """What came of some rounds."""

    rounds: int
    publishers: int
    winners: tuple[int, ...]
    """In each round, how many were told that they had won."""
    open_at_once: float
    """Requests whose body was sent before the first answer came, mean of the rounds."""
    seconds: float

    def __str__(self) -> str:
        one = sum(count == 1 for count in self.winners)
        return (
            f"{self.publishers} publishers, {self.rounds} rounds, one winner in {one}; "
            f"{self.open_at_once:.1f} requests open at once; {self.seconds:.0f} s"
        )


@contextmanager
def bodies_held() -> Iterator[None]:
    """While this lasts, a thread with a barrier waits at it before it sends the body of a commit."""
    plain = socket.socket.sendall

    def sendall(connection: socket.socket, data: Any, *flags: int) -> None:
        barrier = getattr(_here, "barrier", None)
        if barrier and bytes(data[:10]) == b'{"payload"':
            _here.barrier = None
            barrier.wait(timeout=30)
            _here.sent = time.perf_counter()
        plain(connection, data, *flags)

    socket.socket.sendall = sendall
    try:
        yield
    finally:
        socket.socket.sendall = plain


def race(world: World, publishers: int, rounds: int) -> Races:
    """Let publishers commit the same number, again and again."""
    racers = [world.publisher(f"machine-{number}") for number in range(publishers)]
    head, start = world.log().head(), time.perf_counter()
    assert head is not None
    winners, overlaps = [], []
    with bodies_held(), ThreadPoolExecutor(publishers) as pool:
        for _ in range(rounds):
            barrier = threading.Barrier(publishers)
            made = [racer._next(head, head.signed.generation.state, "") for racer in racers]

            def run(racer: Any, generation: Any, barrier: threading.Barrier = barrier) -> tuple[bool, float, float]:
                _here.barrier = barrier
                won = racer._commit(generation)
                return won, _here.sent, time.perf_counter()

            told = list(pool.map(run, racers, made))
            winners.append(sum(won for won, _, _ in told))
            first_answer = min(end for _, _, end in told)
            overlaps.append(sum(sent < first_answer for _, sent, _ in told))
            head = _new_head(world, made, [won for won, _, _ in told])
    return Races(rounds, publishers, tuple(winners), sum(overlaps) / rounds, time.perf_counter() - start)


def _new_head(world: World, made: list[Any], won: list[bool]) -> Head:
    """What lies under the number now; it must be what the winner sent."""
    number = made[0].generation
    data = world.store.get(generation_key(CHANNEL, number), max_bytes=MAX_ENVELOPE_BYTES)
    signed = world.log().read(number)
    winner = made[won.index(True)] if any(won) else None
    assert winner is None or signed.generation.publish_id == winner.publish_id, "the store holds the winner's"
    return Head(Signed(signed.generation, data), frozenset())
