"""A server that leaves: it lingers at SIGTERM, sends its clients elsewhere, and then ends; over real connections."""

import signal
import socket
import threading
import time

import httpx
import pytest
import uvicorn

from softprompt.serving.http.server import LingeringServer


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Running:
    """A server in a thread, where it hears no signals but those that a test gives it."""

    def __init__(self, linger_seconds: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(answer, port=self.port, lifespan="off", log_config=None, timeout_graceful_shutdown=5)
        self.server, self.url = LingeringServer(config, linger_seconds), f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def ends_after(self, *signals: signal.Signals) -> float:
        began = time.monotonic()
        for kind in signals:
            self.server.handle_exit(kind, None)
        self.thread.join(timeout=30)
        return time.monotonic() - began


def test_it_lingers_at_sigterm_and_asks_for_the_end_of_each_connection():
    running = Running(linger_seconds=2.5)
    with httpx.Client(base_url=running.url) as client:
        assert "connection" not in client.get("/").headers
        running.server.handle_exit(signal.SIGTERM, None)
        for second in (0, 1.2):  # uvicorn makes its headers anew every second
            time.sleep(second)
            assert client.get("/").headers["connection"] == "close"
            assert httpx.get(running.url).headers["connection"] == "close"
    running.thread.join(timeout=30)
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_ctrl_c_and_a_second_signal_do_not_wait(signals):
    assert Running(linger_seconds=60).ends_after(*signals) < 10


def test_without_lingering_it_ends_as_uvicorn_does():
    assert Running(linger_seconds=0).ends_after(signal.SIGTERM) < 10


def test_no_request_is_lost_of_clients_that_go_elsewhere_when_asked_to():
    """They keep their connection and send without a pause. Without lingering, five of twelve such runs lost some."""
    running, lost = Running(linger_seconds=1), []

    def ask() -> None:
        with httpx.Client(base_url=running.url, timeout=10) as client:
            try:
                while client.get("/").headers.get("connection") != "close":
                    pass
            except httpx.TransportError as error:
                lost.append(repr(error))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    time.sleep(0.3)
    running.ends_after(signal.SIGTERM)
    for asker in askers:
        asker.join(timeout=30)
    assert lost == []
