"""A node under load while its channel changes: every answer is of the prompt that its header names, none fails, memory stays.

The node is a process of its own; its callers and its publisher are here. A short form runs by default, one of two minutes is
marked `slow`, one of half an hour with two hundred swaps `soak`.
"""

import itertools
import random
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
import torch

from softprompt.base_model import load_base_model
from softprompt.embedded.s3 import embedded_s3
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.release.store import open_store
from tests.integration.serving.test_process import Process
from tests.serving_node import StatedChannel, name

TEXTS = ("ruby", "sky and sea", "grass 7", "x")
CALLERS = 6
MOST_GROWTH_BYTES = 8 * 1024 * 1024


class Truth:
    """What each prompt says to each text when it is asked alone."""

    def __init__(self, channel: StatedChannel, files) -> None:
        self.said = {f"sha256:{file.digest}": self._answers(channel.base, file) for file in files}
        for place in range(len(TEXTS)):
            assert len({answers[place] for answers in self.said.values()}) == len(files), "each prompt says something of its own"

    @staticmethod
    def _answers(base, file) -> tuple[str, ...]:
        task = EncodedTask.of_manifest(base.text, file.manifest)
        predictor = Predictor(base, task, SoftPrompt(torch.from_numpy(file.values)), max_new_tokens=12)
        return tuple(found.output for found in predictor.predict([{"text": text} for text in TEXTS]))


class Callers:
    """Ask, at once and as streams, until they are told to stop, and remember whatever was not right."""

    def __init__(self, url: str, truth: Truth, stated: dict[int, dict[str, str]]) -> None:
        self.url, self.truth, self.stated = url, truth, stated
        self.faults: list[str] = []
        self.generations: Counter[int] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(seed,), daemon=True) for seed in range(CALLERS)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def _call(self, seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    self._ask(client, draw)
                except Exception as error:
                    self.faults.append(f"{type(error).__name__}: {error}")

    def _ask(self, client: httpx.Client, draw: random.Random) -> None:
        place, model = draw.randrange(len(TEXTS)), draw.choice(("a", "b"))
        body = {"model": model, "prompt": TEXTS[place], "max_tokens": 12, "stream": draw.random() < 0.5}
        with client.stream("POST", "/v1/completions", json=body) as reply:
            said = reply.read()
        if reply.status_code != 200:
            self.faults.append(f"{reply.status_code}: {said[:300]!r}")
            return
        text = streamed(said) if body["stream"] else reply.json()["choices"][0]["text"]
        digest, generation = reply.headers["x-softprompt-digest"], int(reply.headers["x-softprompt-generation"])
        self.generations[generation] += 1
        if self.truth.said[digest][place] != text:
            self.faults.append(f"{digest} said {text!r} to {TEXTS[place]!r}")
        if self.stated[generation][model] != digest:
            self.faults.append(f"generation {generation} says {self.stated[generation][model]} for {model}, not {digest}")


def streamed(events: bytes) -> str:
    import json

    lines = events.decode().split("\n\n")
    assert lines[-2] == "data: [DONE]", "a stream that ends without saying so"
    return "".join(json.loads(line[6:])["choices"][0]["text"] for line in lines[:-2])


def resident_bytes(process_id: int) -> int:
    status = Path(f"/proc/{process_id}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.parametrize(
    ("seconds", "swaps"),
    [(10, 8), pytest.param(120, 40, marks=pytest.mark.slow), pytest.param(1800, 200, marks=pytest.mark.soak)],
)
def test_swaps_under_load(tmp_path, llama_directory, seconds, swaps):
    with embedded_s3(tmp_path / "s3") as server:
        channel = StatedChannel(
            tmp_path, open_store(f"s3://softprompt/{tmp_path.name}", server.access), load_base_model(llama_directory)
        )
        files = [channel.prompt(seed) for seed in range(1, 9)]
        truth, stated = Truth(channel, files), {}
        turn = itertools.cycle(itertools.pairwise([*files, files[0]]))

        def swap() -> None:
            one, other = next(turn)
            # Announced before it is published: a node may be faster than this thread.
            number = max(stated, default=1) + 1
            stated[number] = {"a": f"sha256:{one.digest}", "b": f"sha256:{other.digest}"}
            assert channel.state({"a": name(one, pinned=True), "b": name(other)}) == number

        swap()
        node = Process(channel, server, llama_directory, tmp_path, "--poll-seconds", "0.2").wait_until_ready()
        try:
            growth, callers = under_load(node, truth, stated, swap, seconds, swaps)
            assert node.end() == 0, node.log.read_text()
        finally:
            if node.process.poll() is None:
                node.process.kill()
                node.process.wait()
    total = sum(callers.generations.values())
    print(f"{total} answers of {len(callers.generations)} generations in {seconds} s, memory {growth / 1e6:+.1f} MB")
    assert not callers.faults, callers.faults[:5]
    assert len(callers.generations) > swaps * 0.6, "it answered while it swapped"
    assert growth <= MOST_GROWTH_BYTES


def under_load(node: Process, truth: Truth, stated, swap, seconds: float, swaps: int) -> tuple[float, Callers]:
    """(growth of the node's memory after warm-up in bytes, callers)."""
    memory: list[int] = []
    with Callers(node.url, truth, stated) as callers:
        began = time.monotonic()
        for number in range(swaps):
            swap()
            time.sleep(max(0.0, began + seconds * (number + 1) / swaps - time.monotonic()))
            memory.append(resident_bytes(node.process.pid))
    warm = memory[len(memory) // 4 :]
    half = len(warm) // 2
    return statistics.median(warm[half:]) - statistics.median(warm[:half]), callers
