"""What a reconciler says about itself over HTTP: is it alive, is it in step, and numbers for Prometheus.

/livez     200 while rounds come to an end, 503 once none has for too long: restart it
/readyz    200 after a round that reached Git and the store, 503 while the last one did not; JSON with the details
/metrics   Prometheus' text format
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

LONGEST_ROUND_SECONDS = 1800.0
"""A round that takes longer is stuck: every request and every git command in it has a time limit of its own."""


@dataclass(frozen=True)
class Seen:
    """What one round came to."""

    outcome: str
    """`published`, `unchanged`, `refused`."""
    generation: int
    commit: str
    expires: float
    """When the generation stops being fresh, seconds since 1970."""
    reasons: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """What did not work without failing the publish, such as an alias that could not be set."""
    num_proposals: int = 0

    @property
    def drifts(self) -> bool:
        """Whether the channel serves something else than Git wants."""
        return self.outcome == "refused"


class Health:
    """The state of one channel's reconciler.

    Args:
        channel: Name, the label of every metric.
        clock: Seconds since 1970.
    """

    def __init__(self, channel: str, clock: Callable[[], float] = time.time) -> None:
        self._channel, self._clock = channel, clock
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._error, self._last_round = "", clock()
        self.registry = CollectorRegistry()
        self._rounds = self._counter("rounds", "Rounds by outcome.", "outcome")
        self._failures = self._counter("failures", "Rounds that came to nothing, and refusals, by reason.", "reason")
        self._generation = self._gauge("generation", "Newest generation of the channel.")
        self._success = self._gauge("last_success_timestamp_seconds", "When a round last reached Git and the store.")
        self._expires = self._gauge("expires_timestamp_seconds", "When the newest generation stops being fresh.")
        self._drift = self._gauge("drift", "1 while the channel serves something else than Git wants, or nobody knows.")
        self._proposals = self._gauge("proposals", "Proposals of pipelines that nobody has taken over.")
        self._drift.set(1)

    def saw(self, seen: Seen) -> None:
        """A round came to an end."""
        with self._lock:
            self._seen, self._error, self._last_round = seen, "", self._clock()
        self._rounds.labels(self._channel, seen.outcome).inc()
        if seen.drifts:
            self._failures.labels(self._channel, "Refused").inc()
        self._generation.set(seen.generation)
        self._expires.set(seen.expires)
        self._success.set(self._clock())
        self._drift.set(seen.drifts)
        self._proposals.set(seen.num_proposals)

    def failed(self, reason: str, message: str) -> None:
        """A round came to nothing.

        Args:
            reason: Class of the error.
            message: For people.
        """
        with self._lock:
            self._error, self._last_round = message, self._clock()
        self._rounds.labels(self._channel, "failed").inc()
        self._failures.labels(self._channel, reason).inc()
        self._drift.set(1)

    def livez(self) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        idle = self._clock() - self._last_round
        return (200 if idle < LONGEST_ROUND_SECONDS else 503), {"seconds_since_last_round": round(idle, 1)}

    def readyz(self) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        with self._lock:
            seen, error = self._seen, self._error
        body: dict[str, Any] = {"channel": self._channel, "error": error}
        if seen:
            body |= {"generation": seen.generation, "commit": seen.commit, "outcome": seen.outcome, "drift": seen.drifts}
            body |= {"reasons": seen.reasons, "problems": seen.problems, "proposals": seen.num_proposals}
        return (200 if seen and not error else 503), body

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"softprompt_release_{name}", text, ["channel", label], registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"softprompt_release_{name}", text, ["channel"], registry=self.registry).labels(self._channel)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who hangs up before the answer, as a probe does that has waited long enough, is not news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def health_server(health: Health, host: str, port: int) -> Iterator[int]:
    """Answer on an address meanwhile; gives the port, which the system chooses where 0 is asked for."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                return self._answer(200, CONTENT_TYPE_LATEST, generate_latest(health.registry))
            found = {"/livez": health.livez, "/readyz": health.readyz}.get(path)
            status, body = found() if found else (404, {"error": "there are /livez, /readyz and /metrics"})
            return self._answer(status, "application/json", json.dumps(body).encode() + b"\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are not news."""

    server = _Server((host, port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
