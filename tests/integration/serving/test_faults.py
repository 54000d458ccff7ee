"""Whatever the store does, a node answers with the last good prompt or says that it cannot: never another prompt, never the base.

The store is a real S3 server; what lies stands between it and the node.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

from softprompt.artifact import Part, PromptFile
from softprompt.base_model import load_base_model
from softprompt.documents import sha256_hex
from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import SoftpromptError, StoreUnavailable
from softprompt.release.blobs import prompt_blobs
from softprompt.release.layout import blob_key, generation_key
from softprompt.release.s3_client import S3Access
from softprompt.release.statement import Approval, ChannelState, Served, Share
from softprompt.release.store import ObjectStore, open_store
from softprompt.serving.bank import PromptBank
from softprompt.serving.follower import Follower
from tests.serving_node import Name, StatedChannel, name, node_of, server_of


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with embedded_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server.access


@pytest.fixture(scope="module")
def base(llama_directory):
    return load_base_model(llama_directory)


@pytest.fixture
def channel(tmp_path, s3, base):
    return StatedChannel(tmp_path, open_store(f"s3://softprompt/{tmp_path.name}", s3), base)


@dataclass
class BadStore:
    """Another store, with replies that a test changes: key -> bytes, or an exception, or seconds to wait."""

    store: ObjectStore
    replies: dict[str, object] = field(default_factory=dict)
    away: bool = False
    seconds: float = 0.0

    @property
    def uri(self) -> str:
        return self.store.uri

    def _before(self) -> None:
        time.sleep(self.seconds)
        if self.away:
            raise StoreUnavailable("The object store did not answer.", where=self.uri)

    def get(self, key, *, max_bytes):
        self._before()
        changed = self.replies.get(key)
        if isinstance(changed, bytes):
            from softprompt.errors import VerificationFailed

            if len(changed) > max_bytes:
                raise VerificationFailed("An object is larger than it may be.", where=key)
            return changed
        return self.store.get(key, max_bytes=max_bytes)

    def list(self, prefix, *, start_after=""):
        self._before()
        return self.store.list(prefix, start_after=start_after)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def prompt_of_numbers(channel, values, file: PromptFile) -> PromptFile:
    """A prompt file with numbers that `build` refuses."""
    import safetensors

    array = np.ascontiguousarray(values, dtype="<f4")
    spec = safetensors.TensorSpec(dtype="float32", shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes)
    tensor = bytes(safetensors.serialize({"prompt_embeddings": spec}))
    part = Part(**(file.manifest.parts[0].model_dump() | {"length_bytes": len(tensor), "sha256": sha256_hex(tensor)}))
    return PromptFile(file.manifest.model_copy(update={"parts": (part,)}), tensor)


def stated(channel, file: PromptFile, base_fingerprint: str) -> None:
    """Publish a prompt under a base, whatever its own is."""
    approval = Approval(prompt=file.digest, verdict="passed", numerics="float32", model_version="1", evidence={})
    served = Served(bases={base_fingerprint: (Share(prompt=file.digest),)})
    channel.publish(ChannelState(prompts={"colours": served}, approvals={file.digest: approval}), prompt_blobs(file))


def bit_flip_in_a_tensor(channel, bad, new):
    channel.state({"colours": name(new)})
    bad.replies[blob_key(new.manifest.parts[0].sha256)] = flipped(new.tensor, len(new.tensor) - 1)


def bit_flip_in_a_manifest(channel, bad, new):
    channel.state({"colours": name(new)})
    bad.replies[blob_key(new.digest)] = flipped(new.manifest.to_bytes(), 40)


def bit_flip_in_an_envelope(channel, bad, new):
    number = channel.state({"colours": name(new)})
    key = generation_key("live", number)
    bad.replies[key] = flipped(channel.store.get(key, max_bytes=10**6), 200)


def an_old_generation_in_the_place_of_the_new(channel, bad, new):
    number = channel.state({"colours": name(new)})
    bad.replies[generation_key("live", number)] = channel.store.get(generation_key("live", number - 1), max_bytes=10**6)


def a_generation_that_nobody_signed(channel, bad, new):
    number = channel.state({"colours": name(new)})
    import json

    envelope = json.loads(channel.store.get(generation_key("live", number), max_bytes=10**6))
    bad.replies[generation_key("live", number)] = json.dumps(envelope | {"signatures": []}).encode()


def an_oversize_envelope(channel, bad, new):
    number = channel.state({"colours": name(new)})
    bad.replies[generation_key("live", number)] = b"{" * (64 * 1024 * 1024)


def an_oversize_tensor(channel, bad, new):
    channel.state({"colours": name(new)})
    bad.replies[blob_key(new.manifest.parts[0].sha256)] = new.tensor + b"\0" * 10_000_000


def a_prompt_of_another_base(channel, bad, new):
    stated(channel, channel.prompt(7, base_fingerprint="1" * 64), channel.base.fingerprint)


def numbers_that_are_none(channel, bad, new):
    values = new.values.copy()
    values[0, 0] = np.nan
    stated(channel, prompt_of_numbers(channel, values, new), channel.base.fingerprint)


def a_missing_blob(channel, bad, new):
    channel.state({"colours": name(new)})
    channel.store._client.delete_object(**channel.store._address(blob_key(new.digest)))


LIES = {
    bit_flip_in_a_tensor: "prompt",
    bit_flip_in_a_manifest: "prompt",
    bit_flip_in_an_envelope: "envelope",
    an_old_generation_in_the_place_of_the_new: "envelope",
    a_generation_that_nobody_signed: "envelope",
    an_oversize_envelope: "envelope",
    an_oversize_tensor: "prompt",
    a_prompt_of_another_base: "prompt",
    numbers_that_are_none: "prompt",
    a_missing_blob: "prompt",
}


@pytest.mark.parametrize(("lie", "reason"), LIES.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_lying_store_changes_nothing_and_is_named(channel, lie, reason):
    good, new = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(good)})
    bad = BadStore(channel.store)
    with node_of(channel, reader=channel.reader(store=bad), base_name="base:tiny") as node, server_of(node) as url:
        before = ask(url)
        lie(channel, bad, new)
        node.follower.refresh()
        assert [alarm.reason for alarm in node.follower.snapshot.alarms] == [reason]
        assert f'softprompt_alarms_total{{reason="{reason}"}} 1.0'.encode() in node.metrics.text()
        assert httpx.get(f"{url}/readyz").json()["alarms"] == 1
        assert ask(url) == before, "the last good prompt answers as before"
        assert before[1] == f"sha256:{good.digest}"
    with pytest.raises(SoftpromptError) if reason == "prompt" else nothing():
        # A node that has nothing yet serves nothing at all rather than what does not verify.
        following = Follower(channel.reader("new node", store=bad), channel.base.fingerprint)
        assert following.route("colours").digest == good.digest


class nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return False


def ask(url: str) -> tuple[str, str]:
    reply = httpx.post(f"{url}/v1/completions", json={"model": "colours", "prompt": "ruby"}, timeout=30)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["text"], reply.headers["x-softprompt-digest"]


def test_while_the_store_is_away_a_node_answers_says_so_and_even_starts(channel):
    good = channel.prompt(1)
    channel.state({"colours": name(good, pinned=True)})
    bad = BadStore(channel.store)
    with node_of(channel, reader=channel.reader(store=bad)) as node, server_of(node) as url:
        before = ask(url)
        bad.away = True
        node.follower.refresh()
        assert ask(url) == before
        assert httpx.get(f"{url}/readyz").json()["stale"] is True
        assert [alarm.reason for alarm in node.follower.snapshot.alarms] == ["store"]
    with node_of(channel, reader=channel.reader(store=bad)) as node, server_of(node) as url:
        assert ask(url) == before, "it starts from what it kept"
        assert httpx.get(f"{url}/readyz").status_code == 200
        bad.away = False
        node.follower.refresh()
        assert not node.follower.snapshot.stale
    bad.away = True
    with pytest.raises(StoreUnavailable):
        Follower(channel.reader("new node", store=bad), channel.base.fingerprint)


def test_a_store_that_nobody_reaches_at_all(channel):
    channel.state({"colours": name(channel.prompt(1))})
    Follower(channel.reader(), channel.base.fingerprint)
    nowhere = S3Access(endpoint_url="http://127.0.0.1:9", region="us-east-1", access_key_id="a", secret_access_key="b")
    following = Follower(channel.reader(store=open_store("s3://softprompt/x", nowhere)), channel.base.fingerprint)
    assert following.snapshot.stale
    assert following.route("colours").digest == channel.prompt(1).digest


def test_a_slow_store_makes_no_request_wait(channel):
    channel.state({"colours": name(channel.prompt(1))})
    bad = BadStore(channel.store)
    with node_of(channel, reader=channel.reader(store=bad), poll_seconds=0.05) as node, server_of(node) as url:
        before = ask(url)
        bad.seconds = 1.0
        time.sleep(0.2)
        channel.state({"colours": name(channel.prompt(2))})
        with httpx.Client(base_url=url) as client:
            for _ in range(10):
                began = time.monotonic()
                reply = client.post("/v1/completions", json={"model": "colours", "prompt": "ruby", "max_tokens": 1})
                assert reply.headers["x-softprompt-digest"] == before[1]
                assert time.monotonic() - began < 0.9
                if node.follower.snapshot.generation > 2:
                    pytest.fail("the slow store was not slow")


def test_an_expired_generation_goes_on_with_an_alarm_and_starts_nobody(channel):
    channel.state({"colours": name(channel.prompt(1))})
    clock = {"now": time.time()}
    reader = channel.reader()
    reader._clock = lambda: clock["now"]
    following = Follower(reader, channel.base.fingerprint)
    clock["now"] += 8 * 24 * 3600
    following.refresh()
    assert following.route("colours").digest == channel.prompt(1).digest
    assert following.snapshot.stale
    assert "expired" in {alarm.reason for alarm in following.snapshot.alarms}
    new = channel.reader("new node")
    new._clock = reader._clock
    with pytest.raises(SoftpromptError):
        Follower(new, channel.base.fingerprint)


@pytest.mark.parametrize("when", ["publishing a prompt", "asking for one that is not warm"])
def test_a_full_disk_keeps_what_is_served(channel, tmp_path, when):
    """On a file system of a few kilobytes."""
    small = tmp_path / "node"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system needs the right to mount one")
    try:
        channel.state({"colours": name(channel.prompt(1))})
        with node_of(channel) as node, server_of(node) as url:
            before = ask(url)
            fill(small / "filler")
            channel.state({"colours": name(channel.prompt(2))})
            node.follower.refresh()
            assert node.follower.snapshot.generation == 2
            assert len(node.follower.snapshot.alarms) == 1
            if when == "asking for one that is not warm":
                node.bank._warm.clear()
            assert ask(url) == before
            (small / "filler").unlink()
            node.follower.refresh()
            assert node.follower.snapshot.generation == 3, "it goes on as soon as there is room"
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 1024)


class Killer:
    """Counts steps and kills its own process at one of them."""

    def __init__(self, at: int) -> None:
        self._left = at

    def step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def around(self, function):
        def stepping(*arguments, **options):
            self.step()
            result = function(*arguments, **options)
            self.step()
            return result

        return stepping


def killed_at(step: int, work, store, bank) -> bool:
    """Run `work` in a forked child that dies at a step; whether it died."""
    child = os.fork()
    if child == 0:
        try:
            killer = Killer(step)
            for method in ("get", "list"):
                setattr(store, method, killer.around(getattr(store, method)))
            os.fsync = killer.around(os.fsync)
            Path.replace = killer.around(Path.replace)
            bank.pin = killer.around(bank.pin)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "the child failed"
    return status == signal.SIGKILL


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_node_killed_at_each_moment_of_an_update_serves_the_old_or_the_new(channel, s3, stride):
    old, new = channel.prompt(1), channel.prompt(2)
    channel.state({"colours": name(old, pinned=True)})
    bank = PromptBank(channel.base)
    Follower(channel.reader(), channel.base.fingerprint, pin=bank.pin)
    channel.state({"colours": Name([(new, 1)], pinned=True), "more": name(old)})
    nowhere, seen, step = BadStore(channel.store, away=True), [], 0
    while True:
        state = f"node {step}"
        copy_folder(channel.folder / "node", channel.folder / state)
        store = open_store(f"s3://softprompt/{channel.folder.name}", s3)

        def work(state=state, store=store):
            Follower(channel.reader(state, store=store), channel.base.fingerprint, pin=bank.pin)

        died = killed_at(step, work, store, bank)
        restarted = Follower(channel.reader(state, store=nowhere), channel.base.fingerprint, pin=bank.pin)
        seen.append((restarted.snapshot.generation, restarted.route("colours").digest))
        again = Follower(channel.reader(state), channel.base.fingerprint, pin=bank.pin)
        assert (again.snapshot.generation, again.route("colours").digest) == (3, new.digest), "running again converges"
        if not died:
            break
        step += stride
    assert step > 12, "it was killed at many moments"
    assert set(seen) == {(2, old.digest), (3, new.digest)}
    assert seen == sorted(seen), "first the old one, from some moment on the new one"


def copy_folder(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)


def test_requests_during_a_storm_of_good_and_bad_updates_get_good_prompts_only(channel):
    """Six callers, sixteen updates of which every second one is bad; each answer is one that its digest gives alone."""
    good = [channel.prompt(seed) for seed in range(1, 5)]
    channel.state({"colours": name(good[0])})
    bad = BadStore(channel.store)
    with node_of(channel, reader=channel.reader(store=bad), base_name="base:tiny") as node, server_of(node) as url:
        truth: dict[str, set[str]] = {}
        stop, problems = threading.Event(), []

        def call() -> None:
            with httpx.Client(base_url=url, timeout=30) as client:
                while not stop.is_set():
                    reply = client.post("/v1/completions", json={"model": "colours", "prompt": "ruby", "max_tokens": 6})
                    if reply.status_code != 200:
                        problems.append(reply.text)
                        continue
                    truth.setdefault(reply.headers["x-softprompt-digest"], set()).add(reply.json()["choices"][0]["text"])

        callers = [threading.Thread(target=call) for _ in range(6)]
        for caller in callers:
            caller.start()
        for number in range(16):
            file = good[number % 4]
            if number % 2:
                spoilt = prompt_of_numbers(channel, np.full((4, 32), np.inf), file)
                stated(channel, spoilt, channel.base.fingerprint)
            else:
                channel.state({"colours": name(file)})
            node.follower.refresh()
        stop.set()
        for caller in callers:
            caller.join()
    assert not problems
    assert set(truth) <= {f"sha256:{file.digest}" for file in good}
    assert len(truth) > 1
    assert all(len(texts) == 1 for texts in truth.values()), "one digest, one answer"
    assert len({next(iter(texts)) for texts in truth.values()}) == len(truth), "and each digest its own"
