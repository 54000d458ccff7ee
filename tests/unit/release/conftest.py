"""Two real S3 servers over HTTP, and a channel on one of them with everything that publishing to it takes."""

import functools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from softprompt.artifact import PromptFile
from softprompt.embedded.s3 import embedded_s3
from softprompt.release.care.init_channel import init_channel, publishing_key_file
from softprompt.release.channel import ChannelLog
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import PublishOutcome, publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.store import ObjectStore, S3Store
from softprompt.release.trust import load_trust_root
from tests.prompts import BASE, random_prompt_file
from tests.reliability.fault_proxy import Proxy
from tests.reliability.servers import VERSITYGW, versitygw_server

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
    with versitygw_server(tmp_path_factory.mktemp("versitygw")) as access:
        yield access


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
        return random_prompt_file(seed, base=base)

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
