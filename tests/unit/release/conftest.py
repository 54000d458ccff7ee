"""Two real S3 servers over HTTP, and a channel on one of them with everything that publishing to it takes."""

import dataclasses
import functools
import http.client
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from softprompt.artifact import PromptFile
from softprompt.embedded.s3 import embedded_s3
from softprompt.release.channel import ChannelLog
from softprompt.release.init_channel import init_channel, publishing_key_file
from softprompt.release.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import PublishOutcome, publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.store import ObjectStore, S3Store
from softprompt.release.trust import load_trust_root

VERSITYGW = Path(__file__).parents[4] / "shared" / "cluster" / "s3"
BASE = "ba5e" * 16
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between attempts."""
    monkeypatch.setattr("softprompt.release.store._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("softprompt.release.publisher._PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("softprompt.release.commit._PAUSE_SECONDS", 0.01)


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """The embedded server."""
    with embedded_s3(tmp_path_factory.mktemp("ministack")) as server:
        yield server.access


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Access]:
    """The cluster's S3 server, of another make."""
    if not VERSITYGW.exists():
        pytest.skip(f"no versitygw here: {VERSITYGW} is missing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"ROOT_ACCESS_KEY": "test-access", "ROOT_SECRET_KEY": "test-secret"}
    command = [str(VERSITYGW), str(tmp_path_factory.mktemp("versitygw")), str(port)]
    process = subprocess.Popen(command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port, process)
        access = S3Access(
            endpoint_url=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="test-access",
            secret_access_key="test-secret",
        )
        s3_client(access).create_bucket(Bucket="softprompt")
        yield access
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(params=["ministack", "versitygw"])
def any_store(request: pytest.FixtureRequest) -> S3Store:
    """An empty store, on each server in turn."""
    return S3Store("softprompt", uuid.uuid4().hex, _client(request.getfixturevalue(request.param)))


@pytest.fixture
def store(ministack: S3Access) -> S3Store:
    """An empty store on the embedded server."""
    return S3Store("softprompt", uuid.uuid4().hex, _client(ministack))


@functools.cache
def _client(access: S3Access) -> Any:
    """Making one takes 0.3 s."""
    return s3_client(access, read_timeout_seconds=5)


@pytest.fixture(scope="session")
def make_prompt() -> Callable[..., PromptFile]:
    """Prompt files that differ by their seed."""

    def make(seed: int = 0, base: str = BASE) -> PromptFile:
        return PromptFile.build(
            np.random.default_rng(seed).normal(size=(4, 8)).astype(np.float32),
            task="generation",
            template="{text}",
            template_examples=(),
            answers=(),
            max_new_tokens=8,
            base_fingerprint=base,
        )

    return make


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Channel:
    """A begun channel and what it takes to publish to it and to follow it."""

    store: ObjectStore
    folder: Path
    name: str = "staging"
    clock: Clock = field(default_factory=Clock)

    @property
    def trust_root(self) -> Path:
        return self.folder / "trust_root.json"

    @property
    def signing_key(self) -> Path:
        return publishing_key_file(self.folder / "keys", self.name)

    @property
    def log(self) -> ChannelLog:
        return ChannelLog(self.store, self.name, load_trust_root(self.trust_root))

    def begin(self, **changes: Any) -> Any:
        given = {
            "store": self.store,
            "keys_dir": self.folder / "keys",
            "trust_root": self.trust_root,
            "clock": self.clock,
        }
        return init_channel(self.name, **(given | changes))

    def write_policy(self, text: str = LAPTOP_POLICY) -> None:
        folder = self.folder / "environments" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "_policy.yaml").write_text(text)

    def publish(self, prompt: PromptFile, **changes: Any) -> PublishOutcome:
        given: dict[str, Any] = {
            "prompt": prompt,
            "name": "greeting",
            "channel": self.name,
            "verdict": "passed",
            "evidence": {"report.json": b'{"accuracy":0.9}'},
            "model_version": "greeting/1",
            "numerics": "float32",
            "store": self.store,
            "policy_dir": self.folder / "environments",
            "trust_root": self.trust_root,
            "signing_key": self.signing_key,
            "state_dir": self.folder / "journals",
            "clock": self.clock,
        }
        return publish_prompt(**(given | changes))

    def reader(self, node: str = "node", **changes: Any) -> Reader:
        given: dict[str, Any] = {
            "store": self.store,
            "channel": self.name,
            "trust": load_trust_root(self.trust_root),
            "state_dir": self.folder / node,
            "clock": self.clock,
        }
        return Reader(**(given | changes))


@pytest.fixture(scope="session")
def channel_type() -> type[Channel]:
    """For channels on stores of a test's own."""
    return Channel


@pytest.fixture
def channel(store: S3Store, tmp_path: Path) -> Channel:
    """A begun channel of a laptop, on the embedded server."""
    return _begun(store, tmp_path)


@pytest.fixture
def any_channel(any_store: S3Store, tmp_path: Path) -> Channel:
    """A begun channel, on each server in turn."""
    return _begun(any_store, tmp_path)


def _begun(store: S3Store, folder: Path) -> Channel:
    channel = Channel(store, folder)
    channel.write_policy()
    channel.begin()
    return channel


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "versitygw ended"
        time.sleep(0.1)
    raise AssertionError("versitygw does not listen")


class Proxy:
    """Stands between a client and a server, and does to some requests what a network or a bad server does."""

    def __init__(self, upstream: S3Access) -> None:
        self._upstream = upstream
        self._mischief: tuple[str, str, int] = ("", "", 0)
        self.seen: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                proxy._forward(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = _handle

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.access = dataclasses.replace(upstream, endpoint_url=f"http://127.0.0.1:{self._server.server_port}")

    def do(self, what: str, method: str, times: int = 1_000_000) -> None:
        """`lose_reply`, `lose_request`, `ignore_condition`, or a status such as `403`; to requests of a method."""
        self._mischief = (what, method, times)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _forward(self, request: BaseHTTPRequestHandler) -> None:
        self.seen.append(f"{request.command} {request.path}")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        what, method, times = self._mischief
        meant = times > 0 and request.command == method
        if meant:
            self._mischief = (what, method, times - 1)
        if meant and what.isdigit():
            return self._answer(request, int(what), {}, f"<Error><Code>{CODES[what]}</Code></Error>".encode())
        headers = {key: value for key, value in request.headers.items() if key.lower() != "connection"}
        if meant and what == "ignore_condition":
            headers.pop("If-None-Match", None)
        if not (meant and what == "lose_request"):
            status, found, data = self._ask(request, headers, body)
        if meant and what.startswith("lose_"):
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return None
        return self._answer(request, status, found, data)

    def _ask(self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self._upstream.endpoint_url).netloc, timeout=10)
        connection.request(request.command, request.path, body, headers)
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, dict(reply.getheaders()), data

    def _answer(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
        request.send_response_only(status)
        for key, value in headers.items():
            if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(key, value)
        length = headers.get("content-length") or headers.get("Content-Length") if request.command == "HEAD" else None
        request.send_header("Content-Length", length or str(len(data)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)


CODES = {"403": "AccessDenied", "409": "ConditionalRequestConflict", "500": "InternalError", "501": "NotImplemented"}


@pytest.fixture(scope="session", params=["ministack", "versitygw"])
def one_proxy(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy before each server in turn."""
    proxy = Proxy(request.getfixturevalue(request.param))
    yield proxy
    proxy.close()


@pytest.fixture
def proxy(one_proxy: Proxy) -> Proxy:
    """The same, up to no mischief yet."""
    one_proxy.do("", "")
    return one_proxy


@pytest.fixture
def proxied(proxy: Proxy) -> S3Store:
    """An empty store behind the proxy."""
    return S3Store("softprompt", uuid.uuid4().hex, _client(proxy.access))


@pytest.fixture
def proxied_channel(proxied: S3Store, tmp_path: Path) -> Channel:
    """A begun channel behind the proxy."""
    return _begun(proxied, tmp_path)
