"""An HTTP proxy on loopback that does to some requests what a network or a bad server does."""

import dataclasses
import http.client
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from softprompt.release.s3_client import S3Access

CODES = {
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "409": "ConditionalRequestConflict",
    "429": "TooManyRequests",
    "500": "InternalError",
    "501": "NotImplemented",
    "503": "SlowDown",
}


class Proxy:
    """Stands between a client and a server.

    Args:
        upstream: The server.
    """

    def __init__(self, upstream: S3Access) -> None:
        self._upstream, self._lock = urlsplit(upstream.endpoint_url).netloc, threading.Lock()
        self._mischief = ("", "", 0, 0)
        self.seen: list[str] = []
        self.done = 0
        """How many requests had to suffer since the last `do`."""
        self.slow_seconds = 3.0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            upstream: http.client.HTTPConnection | None = None

            def _handle(self) -> None:
                proxy._forward(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = _handle

            def finish(self) -> None:
                super().finish()
                if self.upstream:
                    self.upstream.close()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that is killed leaves half a request."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.access = dataclasses.replace(upstream, endpoint_url=f"http://127.0.0.1:{self._server.server_port}")

    def do(self, what: str, method: str, times: int = 1_000_000, *, after: int = 0) -> None:
        """From now on do something to requests.

        Args:
            what: A status such as `403` instead of an answer; `lose_request`, `lose_reply`: the connection ends before the
                request is handed on, or before its answer is; `reset`: it is reset, half of the request's body handed on;
                `truncate`: half of the reply's body, then the end; `flip`: one bit of the body, the request's if it has
                one, else the reply's; `slow`: the answer comes `slow_seconds` late; `late`: the request does;
                `ignore_condition`.
            method: To requests of this method; empty: all.
            times: To so many of them.
            after: Leaving so many in peace first.
        """
        with self._lock:
            self._mischief, self.done = (what, method, times, after), 0

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _meant(self, method: str) -> str:
        with self._lock:
            what, wanted, times, after = self._mischief
            if not what or times <= 0 or wanted not in ("", method):
                return ""
            if after:
                self._mischief = (what, wanted, times, after - 1)
                return ""
            self._mischief = (what, wanted, times - 1, 0)
            self.done += 1
            return what

    def _forward(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append(f"{request.command} {request.path}")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        what = self._meant(request.command)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("connection", "expect")}
        if what.isdigit():
            return _answer(request, int(what), {}, f"<Error><Code>{CODES[what]}</Code></Error>".encode())
        if what == "ignore_condition":
            headers.pop("If-None-Match", None)
        if what == "flip" and body:
            body, what = _flip(body), "flipped"
        if what == "reset":
            self._send_half(request, headers, body)
            return _hang_up(request, reset=True)
        if what == "lose_request":
            return _hang_up(request)
        if what == "late":
            time.sleep(self.slow_seconds)
        status, found, data = self._ask(request, headers, body)
        if what == "lose_reply":
            return _hang_up(request)
        if what == "slow":
            time.sleep(self.slow_seconds)
        _answer(request, status, found, _flip(data) if what == "flip" else data, cut=what == "truncate")
        return None

    def _ask(self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = request.upstream or http.client.HTTPConnection(self._upstream, timeout=10)
        request.upstream = connection
        connection.request(request.command, request.path, body, headers)
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()

    def _send_half(self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> None:
        connection = http.client.HTTPConnection(self._upstream, timeout=10)
        connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
        for key, value in headers.items():
            connection.putheader(key, value)
        connection.endheaders(body[: len(body) // 2] or None)
        connection.close()


def _hang_up(request: BaseHTTPRequestHandler, *, reset: bool = False) -> None:
    request.close_connection = True
    if reset:  # close with a linger of nothing sends RST
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()
    else:
        request.connection.shutdown(socket.SHUT_RDWR)


def _answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
    request.send_response_only(status)
    for key, value in headers.items():
        if key.lower() not in ("content-length", "transfer-encoding", "connection"):
            request.send_header(key, value)
    length = headers.get("content-length") or headers.get("Content-Length") if request.command == "HEAD" else None
    request.send_header("Content-Length", length or str(len(data)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data[: len(data) // 2] if cut else data)
    if cut:
        _hang_up(request)


_flips = 0


def _flip(data: bytes) -> bytes:
    """One bit of it, each time another one."""
    global _flips
    _flips += 1
    at = _flips * 7919 % max(1, len(data))
    return data[:at] + bytes([data[at] ^ (1 << _flips % 8)]) + data[at + 1 :] if data else data
