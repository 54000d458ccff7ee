"""The server of a node, which leaves in an order in which no request is lost.

Whoever sends requests hears late that a node is leaving: proxies go on choosing it for some seconds, and clients keep connections
open. So at SIGTERM a node first *lingers*: it answers as before, new connections too, and asks with each answer that its
connection be closed, so that the next request goes elsewhere. Then it takes no new connection, ends the requests that it has, and
ends itself. A person's Ctrl-C does not linger.
"""

import signal
import time
from types import FrameType

import uvicorn

CLOSE = (b"connection", b"close")


class LingeringServer(uvicorn.Server):
    """Uvicorn's server with a pause between SIGTERM and its end.

    Args:
        config: Of uvicorn.
        linger_seconds: How long it goes on answering after SIGTERM.
    """

    def __init__(self, config: uvicorn.Config, linger_seconds: float) -> None:
        super().__init__(config)
        self._linger_seconds = linger_seconds
        self._leaves_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to linger at SIGTERM; at a second signal, or another one, end."""
        lingers = sig == signal.SIGTERM and not self.should_exit
        self._leaves_at = time.monotonic() + self._linger_seconds if lingers else None
        if lingers and self._linger_seconds:
            self.config.encoded_headers.append(CLOSE)  # every second uvicorn makes its default headers anew from these
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether the time to end has come; uvicorn asks ten times a second."""
        ends = await super().on_tick(counter)
        return ends and (self._leaves_at is None or time.monotonic() >= self._leaves_at)
