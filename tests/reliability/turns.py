"""Several publishers whose store calls happen in an order that a test chooses, and every such order once.

Each publisher is a thread that stops before each call until it is its turn; one runs at a time, so a run follows from its
choices alone.
"""

import threading
from collections.abc import Callable, Iterator, Sequence

from tests.reliability.memory_store import Call, Crash, Trouble

Work = Callable[[Callable[[Call], Trouble]], None]
"""What one publisher does, given what its line has to ask before each call."""


class Turns:
    """Runs publishers one store call at a time.

    Args:
        choose: Of the publishers that can go on, by number, the next one.
    """

    def __init__(self, choose: Callable[[Sequence[int]], int]) -> None:
        self._choose = choose
        self._here = threading.Semaphore(0)

    def run(self, works: Sequence[Work]) -> list[BaseException | None]:
        """Until all have ended; what each one raised."""
        gates = [threading.Semaphore(0) for _ in works]
        running = set(range(len(works)))
        raised: list[BaseException | None] = [None] * len(works)

        def one(number: int) -> None:
            # Its calls come one after the other: the tests let blobs be put one at a time.
            def meet(_: Call) -> Trouble:
                self._here.release()
                gates[number].acquire()
                return ""

            try:
                works[number](meet)
            except BaseException as error:
                raised[number] = error
            running.discard(number)
            self._here.release()

        threads = [threading.Thread(target=one, args=(number,)) for number in running]
        for thread in threads:  # each one comes to its first call before the next begins
            thread.start()
            self._here.acquire()
        while running:
            gates[self._choose(sorted(running))].release()
            self._here.acquire()
        for thread in threads:
            thread.join()
        return raised


def every_order(run: Callable[[Callable[[Sequence[int]], int]], None]) -> Iterator[None]:
    """Call `run` once for each sequence of choices that it can meet; yields after each."""
    pending: list[list[int]] = [[]]
    while pending:
        prefix = pending.pop()
        options: list[int] = []
        taken: list[int] = []

        def choose(running: Sequence[int], prefix=prefix, options=options, taken=taken) -> int:
            index = prefix[len(taken)] if len(taken) < len(prefix) else 0
            options.append(len(running))
            taken.append(index)
            return running[index]

        run(choose)
        for at in range(len(prefix), len(taken)):
            pending += [[*taken[:at], other] for other in range(1, options[at])]
        yield


def crash_at(number: int, *, after: bool) -> tuple[Callable[[Call], Trouble], Callable[[Call], None]]:
    """For a line: the process ends before or after its call of this number."""

    def meet(call: Call) -> Trouble:
        if call.number == number and not after:
            raise Crash
        return ""

    def leave(call: Call) -> None:
        if call.number == number and after:
            raise Crash

    return meet, leave
