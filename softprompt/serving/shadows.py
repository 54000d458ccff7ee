"""Shadow prompts: they see what the answering prompt saw, after it has answered, and only a count of agreement comes of it.

They never cost a request anything: one row at a time, only while few rows are being written and nobody waits, out of a short
queue whose overflow is dropped and counted.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from softprompt.engine.encoding import TextEncoder
from softprompt.serving.answering import Answer, RowJob, finish
from softprompt.serving.metrics import Shadow
from softprompt.serving.routing import Route

if TYPE_CHECKING:
    from softprompt.serving.node import Node

_log = logging.getLogger(__name__)

MAX_WAITING = 64
BUSY_SHARE = 0.25
"""Of the node's places; while more are taken, shadows wait."""
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class _Seen:
    route: Route
    values: Mapping[str, str]
    row: RowJob
    text: str


class Shadows:
    """Asks a name's shadow prompts again what its answering prompt was asked.

    Args:
        node: This one.
    """

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._waiting: asyncio.Queue[tuple[str, _Seen]] = asyncio.Queue(MAX_WAITING)

    def after(self, route: Route, values: Mapping[str, str], answer: Answer) -> None:
        """Remember a whole answer for its shadows; returns at once."""
        served = route.snapshot.prompts.get(route.name)
        for digest in served.shadow if served and route.digest else ():
            try:
                self._waiting.put_nowait((digest, _Seen(route, values, answer.row, answer.text)))
            except asyncio.QueueFull:
                self._node.metrics.on_shadow(route.name, digest, "dropped")

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            digest, seen = await self._waiting.get()
            outcome: Shadow = "dropped"
            if await self._is_quiet():
                try:
                    outcome = await self._compare(digest, seen)
                except Exception as error:  # noqa: BLE001 - a shadow's fault is a number, never more
                    _log.warning("a shadow prompt failed", extra={"digest": digest[:12], "fault": type(error).__name__})
                    outcome = "failed"
            self._node.metrics.on_shadow(seen.route.name, digest, outcome)

    async def _is_quiet(self) -> bool:
        """Wait until few rows are written; False: it did not become quiet in time."""
        admission, limits = self._node.admission, self._node.limits
        for _ in range(int(PATIENCE_SECONDS / LOOK_SECONDS)):
            if not admission.num_waiting and admission.num_rows <= limits.max_rows * BUSY_SHARE:
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _compare(self, digest: str, seen: _Seen) -> Shadow:
        warm = await asyncio.to_thread(self._node.warm, replace(seen.route, digest=digest))
        assert warm is not None, "a shadow has a digest"
        encoder = TextEncoder(self._node.text, warm.manifest.template)
        token_ids = tuple(encoder.input_ids(seen.values))
        answer = Answer(replace(seen.row, warm=warm, encoder=encoder, token_ids=token_ids, num_logprobs=0))
        await finish(self._node.engine, [answer])
        return "agreed" if answer.text == seen.text else "differed"
