"""How much is let in: rows that are answered at once, requests that wait for a place, and for how long.

A request that finds no place in time is told so (429, `Retry-After`) before it has cost anything; those that wait get their
places in the order in which they came.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from softprompt.errors import SoftpromptError


class Overloaded(SoftpromptError):
    """There is no place for a request now.

    Args:
        what: Why.
        retry_after_seconds: When it is worth asking again.
    """

    exit_code = 5

    def __init__(self, what: str, *, retry_after_seconds: int) -> None:
        super().__init__(what, hint=f"Ask again in {retry_after_seconds} s.")
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one node takes; every number is a flag of `softprompt serve`."""

    max_body_bytes: int = 1024 * 1024
    """Of a request; larger ones are refused (413) before they are parsed."""
    max_input_tokens: int = 0
    """Of one input text; 0: as many as the base model's context has room for."""
    max_new_tokens: int = 4096
    """Of one answer."""
    max_rows: int = 128
    """Answers under way at once, over all requests: those that the engine writes together, and the next ones."""
    max_waiting: int = 512
    """Requests that wait for a place."""
    queue_seconds: float = 10.0
    """How long one waits."""
    drain_seconds: float = 30.0
    """How long requests may go on after the node was told to end."""


class Admission:
    """Places for rows; for one event loop.

    Args:
        limits: See there.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._free = limits, limits.max_rows
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def num_rows(self) -> int:
        """Rows that have a place."""
        return self._limits.max_rows - self._free

    @property
    def num_waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def places(self, num_rows: int) -> AsyncIterator[None]:
        """Hold places for the rows of one request.

        Args:
            num_rows: At most `max_rows`.

        Raises:
            Overloaded: Too many wait already, or none became free in time.
        """
        await self._take(num_rows)
        try:
            yield
        finally:
            self._free += num_rows
            self._let_in()

    async def _take(self, num_rows: int) -> None:
        if not self._waiting and num_rows <= self._free:
            self._free -= num_rows
            return
        if len(self._waiting) >= self._limits.max_waiting:
            raise Overloaded("Too many requests wait already.", retry_after_seconds=self._patience)
        entry = (num_rows, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await asyncio.wait([entry[1]], timeout=self._limits.queue_seconds)
        except asyncio.CancelledError:
            if entry[1].done():  # let in at the moment in which the client went away
                self._free += num_rows
            self._leave(entry)
            raise
        if not entry[1].done():
            self._leave(entry)
            raise Overloaded("No place became free in time.", retry_after_seconds=self._patience)

    def _leave(self, entry: tuple[int, asyncio.Future[None]]) -> None:
        """Whoever stood behind a large request may have room now."""
        if entry in self._waiting:
            self._waiting.remove(entry)
        self._let_in()

    @property
    def _patience(self) -> int:
        return max(1, round(self._limits.queue_seconds))

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            num_rows, place = self._waiting.popleft()
            self._free -= num_rows
            place.set_result(None)
