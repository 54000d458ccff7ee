"""`softprompt serve` as a process of its own: how it starts, what it logs, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import openai
import pytest

from softprompt.base_model import load_base_model
from softprompt.embedded.s3 import embedded_s3
from softprompt.release.store import open_store
from tests.serving_node import StatedChannel, name
from tests.unit.serving.test_access import write


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with embedded_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def channel(tmp_path_factory, s3, llama_directory):
    folder = tmp_path_factory.mktemp("process")
    channel = StatedChannel(folder, open_store(f"s3://softprompt/{folder.name}", s3.access), load_base_model(llama_directory))
    channel.state({"colours": name(channel.prompt(1), pinned=True), "hidden": name(channel.prompt(2))})
    return channel


class Process:
    """A node, its port, and what it says."""

    def __init__(self, channel, s3, llama_directory, folder, *options: str, **settings: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / "log"
        environment = os.environ | s3.environment()
        environment |= {"SOFTPROMPT_TRUST_ROOT": str(channel.trust_root), "SOFTPROMPT_HOME": str(folder / "home")} | settings
        where = f"s3://softprompt/{channel.folder.name}#live"
        command = [sys.executable, "-c", "from softprompt.cli import main; main()", "serve", "--channel", where]
        command += ["--base-model", llama_directory.as_uri(), "--port", str(self.port), "--state", str(folder / "node"), *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait_until_ready(self) -> "Process":
        deadline = time.monotonic() + 90
        while True:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def end(self, kind: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(kind)
        return self.process.wait(timeout=60)


@pytest.fixture
def start(channel, s3, llama_directory, tmp_path):
    started = []

    def begin(*options: str, **settings: str) -> Process:
        started.append(Process(channel, s3, llama_directory, tmp_path, *options, **settings))
        return started[-1]

    yield begin
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


def test_it_starts_answers_logs_without_texts_and_ends_when_its_requests_have(start, tmp_path):
    write(tmp_path / "tokens.yaml", {"open-sesame": '["colours"]', "boss": '["*"]'}, operators=("boss",))
    node = start("--tokens", str(tmp_path / "tokens.yaml"), "--bare-base", "base:tiny", "--log-format", "json").wait_until_ready()
    client = openai.OpenAI(base_url=f"{node.url}/v1", api_key="open-sesame", max_retries=0)
    assert [model.id for model in client.models.list()] == ["colours"]
    for model in ("hidden", "base:tiny", "absent"):
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=model, prompt="ruby-red-secret")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{node.url}/v1", api_key="wrong", max_retries=0).models.list()
    assert httpx.get(f"{node.url}/metrics", headers={"authorization": "Bearer open-sesame"}).status_code == 401
    text = httpx.get(f"{node.url}/metrics", headers={"authorization": "Bearer boss"}).text
    assert "softprompt_generation 2.0" in text

    stream = client.completions.create(model="colours", prompt="ruby-red-secret", max_tokens=30, stream=True)
    pieces = [next(iter(stream)).choices[0].text]
    node.process.send_signal(signal.SIGTERM)
    pieces += [chunk.choices[0].text for chunk in stream]
    assert node.process.wait(timeout=30) == 0, node.log.read_text()
    assert len("".join(pieces)) > 5, "what had begun was written to its end"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{node.url}/livez")

    said = node.log.read_text()
    assert "ruby" not in said
    assert "open-sesame" not in said
    documents = [json.loads(line) for line in said.splitlines()]
    requests = [document for document in documents if document["message"] == "request"]
    answered = [document for document in requests if document["status"] == 200 and document["path"] == "/v1/completions"]
    assert {"prompt", "digest", "generation", "caller", "input_tokens", "answer_tokens", "seconds", "id"} <= set(answered[0])
    assert answered[0]["caller"] == "holder0"


@pytest.mark.slow
def test_a_node_that_was_killed_starts_again_where_it_was_without_the_store(start):
    node = start().wait_until_ready()
    first = httpx.post(f"{node.url}/v1/completions", json={"model": "colours", "prompt": "ruby"}).json()["choices"][0]["text"]
    assert node.end(signal.SIGKILL) == -signal.SIGKILL
    again = start(AWS_ENDPOINT_URL_S3="http://127.0.0.1:9").wait_until_ready()
    reply = httpx.post(f"{again.url}/v1/completions", json={"model": "colours", "prompt": "ruby"})
    assert reply.json()["choices"][0]["text"] == first
    assert httpx.get(f"{again.url}/readyz").json()["stale"] is True
    assert again.end(signal.SIGINT) == 0, again.log.read_text()
