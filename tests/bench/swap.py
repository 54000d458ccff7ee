"""How soon a node answers with a prompt that was just published to a channel of 1,000, and what swaps take from its callers.

    python -m tests.bench.swap [--quick] [--json FILE] [--only routable|under_load]

A channel of 1,000 shallow prompts (P=20) on the embedded S3 server, and a node with its HTTP server, over the Llama of `serve`
(8 layers, H=512, random weights). Node, server and callers share one process.

Routable: a new prompt is published for a pinned name while a client asks that name again and again. Each step is measured, and
the whole beside what it may take: the longest poll interval, verification, warm-up, and one answer. For deep prompts also the
time from the arrival of the tensor's last byte to the swap, beside the wanted 50 ms.

Under load: eight callers ask eight prompts, in windows with and without swaps in turn. The generations lie in the store before
and are shown to the node one by one, so that what publishing them takes is not in the measurement.
"""

import itertools
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.embedded.s3 import embedded_s3
from softprompt.release.layout import blob_key, generation_number
from softprompt.release.reader import Reader
from softprompt.release.snapshot import Snapshot
from softprompt.release.store import ObjectStore, open_store
from softprompt.release.trust import load_trust_root
from softprompt.serve import SWITCH_SECONDS
from softprompt.serving.http.app import JITTER
from softprompt.serving.node import Node
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.bench.serve_systems import prompt_file, served_base
from tests.serving_node import StatedChannel, name, node_of, server_of

CHANNEL, NUM_PROMPTS, PINNED = "live", 1000, 8
KINDS = (("shallow", 20), ("shallow", 100), ("deep", 20), ("deep", 100))
POLL_SECONDS = 1.0
WANTED_DEEP_MS = 50.0
CALLERS, ANSWER_TOKENS = 8, 4
SWAPS_A_WINDOW = 2
TEXT = "My parcel has not arrived yet"


@dataclass(frozen=True)
class Moment:
    """When something happened: by the clock, and by the processor time of the thread that did it; seconds."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> "Moment":
        """This one."""
        return cls(time.perf_counter(), time.thread_time())


@dataclass
class WatchedStore:
    """The store as a node sees it: when an object's last byte came, and no generation above `newest`."""

    store: ObjectStore
    arrived: dict[str, Moment] = field(default_factory=dict)
    newest: float = math.inf

    @property
    def uri(self) -> str:
        """The store's."""
        return self.store.uri

    def get(self, key: str, *, max_bytes: int) -> bytes | None:
        """An object."""
        data = self.store.get(key, max_bytes=max_bytes)
        self.arrived[key] = Moment.now()
        return data

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Keys, without generations that are not shown yet."""
        for key in self.store.list(prefix, start_after=start_after):
            if (generation_number(CHANNEL, key) or 0) <= self.newest:
                yield key


@dataclass(frozen=True)
class Look:
    """A look that activated a generation: begun, prompts verified, pinned ones warm, kept on disk and swapped."""

    began: Moment
    verified: Moment
    warm: Moment
    ended: Moment


class WatchedReader(Reader):
    """A reader that notes when its looks came to what, by generation."""

    looks: dict[int, Look]

    def refresh(self, prepare: Callable[[Snapshot], None] | None = None) -> Snapshot:
        """Look for a newer generation."""
        moments = [Moment.now()]

        def timed(snapshot: Snapshot) -> None:
            moments.append(Moment.now())
            if prepare:
                prepare(snapshot)
            moments.append(Moment.now())

        snapshot = super().refresh(timed)
        if len(moments) == 3:
            self.looks[snapshot.generation] = Look(*moments, Moment.now())
        return snapshot


class Fleet:
    """A channel of many prompts, eight of them pinned, and what its node sees."""

    def __init__(self, folder: Path, store: ObjectStore, base: FrozenBase) -> None:
        self.base, self.channel, self.store = base, StatedChannel(folder, store, base), WatchedStore(store)
        files = [prompt_file(base, "shallow", 20, seed) for seed in range(NUM_PROMPTS)]
        self.names = {f"prompt-{number}": name(file, pinned=number < PINNED) for number, file in enumerate(files)}
        self._seeds = itertools.count(NUM_PROMPTS)
        self.newest = self.channel.state(self.names)
        self.looks: dict[int, Look] = {}

    def publish(self, which: str, kind: str, length: int) -> PromptFile:
        """Let a pinned name mean a new prompt."""
        file = prompt_file(self.base, kind, length, next(self._seeds))
        self.names[which] = name(file, pinned=True)
        self.newest = self.channel.state(self.names)
        return file

    @contextmanager
    def node(self, poll_seconds: float) -> Iterator[tuple[Node, str]]:
        """A node and its URL; started again, it goes on where it was."""
        reader = WatchedReader(
            store=self.store,  # type: ignore[arg-type]
            channel=CHANNEL,
            trust=load_trust_root(self.channel.trust_root),
            state_dir=self.channel.folder / "node",
            base_fingerprint=self.base.fingerprint,
        )
        reader.looks = self.looks
        with node_of(self.channel, reader=reader, poll_seconds=poll_seconds) as node, server_of(node) as url:
            yield node, url


@dataclass(frozen=True)
class Arrival:
    """What became of one prompt that was published; milliseconds."""

    total: float
    """From the commit to the end of the first answer that names it."""
    waiting: float
    verifying: float
    warming: float
    keeping: float
    answering: float
    """One answer of one token on an idle node."""
    last_byte: float
    """From the arrival of its tensor's last byte to the swap."""
    last_byte_processor: float

    @property
    def allowed(self) -> float:
        """One poll interval, verification, one warm-up, one answer."""
        return POLL_SECONDS * (1 + JITTER) * 1000 + self.verifying + self.warming + self.answering


def ask(client: httpx.Client, which: str, num_tokens: int) -> str:
    """The digest that answers."""
    reply = client.post("/v1/completions", json={"model": which, "prompt": TEXT, "max_tokens": num_tokens})
    assert reply.status_code == 200, reply.text
    return reply.headers["x-softprompt-digest"]


def arrive(fleet: Fleet, client: httpx.Client, which: str, kind: str, length: int) -> Arrival:
    """Publish a prompt and ask for it until it answers."""
    file = fleet.publish(which, kind, length)
    committed = time.perf_counter()
    while ask(client, which, 1) != f"sha256:{file.digest}":
        assert time.perf_counter() - committed < 60, "the node does not see the new prompt"
        time.sleep(0.02)
    answered = time.perf_counter()
    ask(client, which, 1)
    again, look = time.perf_counter(), fleet.looks[fleet.newest]
    last = fleet.store.arrived[blob_key(file.manifest.parts[0].sha256)]
    seconds = (
        answered - committed,
        max(0.0, look.began.wall - committed),
        look.verified.wall - look.began.wall,
        look.warm.wall - look.verified.wall,
        look.ended.wall - look.warm.wall,
        again - answered,
        look.ended.wall - last.wall,
        look.ended.processor - last.processor,
    )
    return Arrival(*(1000 * one for one in seconds))


def routable(fleet: Fleet, quick: bool) -> list[BenchRow]:
    """Milliseconds from a commit to the first answer, and where they go."""
    rows = []
    with fleet.node(POLL_SECONDS) as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        first = fleet.looks[fleet.newest]
        all_verified = 1000 * (first.verified.wall - first.began.wall)
        for kind, length in KINDS[1:3] if quick else KINDS:
            found = [arrive(fleet, client, f"prompt-{n % PINNED}", kind, length) for n in range(3 if quick else 10)]
            median = lambda what, found=found: statistics.median(getattr(one, what) for one in found)
            worst = max(found, key=lambda one: one.total / one.allowed)
            what, start = f"{kind}, P={length}", "... verification, beside that of all prompts at the start"
            rows += [
                BenchRow.compare(
                    f"{what}: commit to first answer, worst, beside what is allowed", worst.total, "ms", worst.allowed
                ),
                BenchRow.compare("... median, beside the poll interval", median("total"), "ms", POLL_SECONDS * 1000),
                BenchRow.compare(start, median("verifying"), "ms", all_verified),
                BenchRow.compare("... warm-up, beside one answer", median("warming"), "ms", median("answering")),
                BenchRow.compare("... kept on disk and swapped, beside one answer", median("keeping"), "ms", median("answering")),
            ]
            if kind == "deep":
                name_of = "... last byte to routable"
                rows += [
                    BenchRow.compare(f"{name_of}, beside the wanted 50 ms", median("last_byte"), "ms", WANTED_DEEP_MS),
                    BenchRow.compare(f"{name_of}, processor time", median("last_byte_processor"), "ms", WANTED_DEEP_MS),
                ]
    return rows


class Callers:
    """Ask eight names without a pause until told to stop.

    Attributes:
        answered: (when an answer ended, seconds that it took).
    """

    def __init__(self, url: str) -> None:
        self._url, self._stop = url, threading.Event()
        self.answered: list[tuple[float, float]] = []
        self._pool = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> "Callers":
        self._done = [self._pool.submit(self._call, number) for number in range(CALLERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for done in self._done:
            done.result()
        self._pool.shutdown()

    def _call(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            for turn in itertools.count(number):
                if self._stop.is_set():
                    return
                began = time.perf_counter()
                ask(client, f"prompt-{turn % PINNED}", ANSWER_TOKENS)
                ended = time.perf_counter()
                self.answered.append((ended, ended - began))

    def p99(self, began: float, ended: float) -> float:
        """Milliseconds that all but one in a hundred of the answers in a window took."""
        taken = sorted(seconds for end, seconds in list(self.answered) if began <= end < ended)
        return 1000 * taken[min(len(taken) - 1, math.ceil(0.99 * len(taken)) - 1)]


def under_load(fleet: Fleet, quick: bool) -> list[BenchRow]:
    """99th percentiles of what callers wait, in windows with and without swaps in turn."""
    pairs, seconds = (3, 3.0) if quick else (12, 8.0)
    before = fleet.newest
    kinds = itertools.cycle(KINDS)
    for number in range(pairs * SWAPS_A_WINDOW):
        fleet.publish(f"prompt-{number % PINNED}", *next(kinds))
    fleet.store.newest = before
    found: dict[bool, list[float]] = {False: [], True: []}
    with fleet.node(poll_seconds=3600) as (node, url), Callers(url) as callers:
        time.sleep(seconds)
        for window in range(2 * pairs + 1):
            swaps = window % 2 == 1
            began = time.perf_counter()
            for number in range(SWAPS_A_WINDOW):
                time.sleep(max(0.0, began + seconds * (number + 0.5) / SWAPS_A_WINDOW - time.perf_counter()))
                if swaps:
                    fleet.store.newest += 1
                    node.follower.refresh()
                    assert node.follower.snapshot.generation == fleet.store.newest, node.follower.snapshot.alarms
            time.sleep(max(0.0, began + seconds - time.perf_counter()))
            found[swaps].append(callers.p99(began, time.perf_counter()))
        print(f"answers: {len(callers.answered)}")
    for swaps, p99s in found.items():
        print(f"p99 of windows {'with' if swaps else 'without'} swaps, ms: {', '.join(f'{one:.0f}' for one in p99s)}")
    median, low, high = statistics.median(found[True]), min(found[False]), max(found[False])
    verdict = "within" if median <= high else "ABOVE"
    what = f"median p99 of windows with {SWAPS_A_WINDOW} swaps, {verdict} the spread without ({low:.0f} to {high:.0f})"
    return [BenchRow.compare(what, median, "ms", statistics.median(found[False]))]


PARTS = (routable, under_load)


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS], help="this part alone")
    options = parser.parse_args()
    sys.setswitchinterval(SWITCH_SECONDS)  # as `softprompt serve` does
    with tempfile.TemporaryDirectory() as folder, embedded_s3(Path(folder) / "s3") as server:
        began = time.perf_counter()
        fleet = Fleet(Path(folder), open_store(f"{server.uri}/bench", server.access), served_base())
        print(f"a channel of {NUM_PROMPTS:,} prompts: {time.perf_counter() - began:.0f} s")
        rows = [row for part in PARTS if options.only in (None, part.__name__) for row in part(fleet, options.quick)]
    show(f"swapping, {torch.get_num_threads()} threads", rows, options.json)


if __name__ == "__main__":
    main()
