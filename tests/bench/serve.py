"""Serving many prompts over one base, beside the alternatives, on a Llama of 8 layers, H=512, with random weights.

    python -m tests.bench.serve [--quick] [--json FILE] [--processor-seconds]

Tokens a second for 64 requests under way at once under 8 prompts (shallow and deep, 20 to 100 tokens): ours beside (a) a stock
PEFT server that switches adapters between requests and (b) ours with one prompt of the mean length; under the four shallow ones
with answers of one length beside (c) transformers' `generate_batch`, ids beyond the vocabulary naming the prompts' vectors. The
texts of (a) and (c) are compared with ours. Time to first token on an idle engine behind a prompt of 100 tokens beside the bare
base. What a swap costs. Memory of a warm prompt beside its keys and values. Repetitions are interleaved and medians compared.
"""

import ctypes
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.serving.bank import PromptBank
from tests.bench.peak_memory import begin_peak
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.bench.serve_systems import (
    PROMPTS,
    Ours,
    Request,
    StockBatching,
    StockPeft,
    prompt_file,
    prompt_values,
    requests,
    served_base,
)

CONCURRENCY = 64
MEAN_LENGTH, ANSWER = 55, 32
Clock = Callable[[], float]


class Shelf:
    """What a bank loads from: prompt files at hand."""

    generation = 1

    def __init__(self, prompts: list[PromptFile]) -> None:
        self.prompts = {prompt.digest: prompt for prompt in prompts}

    def load(self, digest: str) -> PromptFile:
        """The file of a digest."""
        return self.prompts[digest]


def throughput(base: FrozenBase, quick: bool, clock: Clock) -> list[BenchRow]:
    """Tokens a second, mixed beside stock PEFT and beside one prompt."""
    values = [prompt_values(base, kind, length, seed) for seed, (kind, length) in enumerate(PROMPTS)]
    asked, few = requests(128 if quick else 256, len(PROMPTS)), requests(16 if quick else 64, len(PROMPTS))
    single = [Request(0, one.ids, one.num_tokens) for one in asked]
    mixed = Ours(base, values, CONCURRENCY)
    ones = {
        kind: Ours(base, [prompt_values(base, kind, length, 9)], CONCURRENCY)
        for kind, length in (("shallow", MEAN_LENGTH), ("shallow, longest", max(length for _, length in PROMPTS)))
    }
    stock = StockPeft(base, values)
    speeds: dict[str, list[float]] = {}

    def measure(name: str, serve: Callable[[list[Request]], list[list[int]]], given: list[Request]) -> list[list[int]]:
        began = clock()
        answers = serve(given)
        speeds.setdefault(name, []).append(sum(map(len, answers)) / (clock() - began))
        return answers

    with mixed.engine, ones["shallow"].engine, ones["shallow, longest"].engine:
        mixed.serve(few)  # first touch
        for _ in range(1 if quick else 3):
            measure("mixed", mixed.serve, asked)
            measure("one", ones["shallow"].serve, single)
            measure("longest", ones["shallow, longest"].serve, single)
            theirs = measure("stock", stock.serve, few)
        same = sum(a == b for a, b in zip(mixed.serve(few), theirs, strict=True))
    print(f"the same texts as stock PEFT: {same} of {len(few)}")
    found = {name: statistics.median(taken) for name, taken in speeds.items()}
    mixed_speed = found["mixed"]
    return [
        BenchRow.compare("8 prompts, 64 at once, beside stock PEFT switching adapters", mixed_speed, "tokens/s", found["stock"]),
        BenchRow.compare(f"... beside ours with one prompt of {MEAN_LENGTH} tokens", mixed_speed, "tokens/s", found["one"]),
        BenchRow.compare("... beside ours with one prompt of 100 tokens", mixed_speed, "tokens/s", found["longest"]),
    ]


def continuous_batching(base: FrozenBase, quick: bool, clock: Clock) -> list[BenchRow]:
    """Tokens a second beside transformers' own continuous batching."""
    values = [prompt_values(base, kind, length, seed) for seed, (kind, length) in enumerate(PROMPTS) if kind == "shallow"]
    asked = [Request(one.prompt, one.ids, ANSWER) for one in requests(64 if quick else 128, len(values))]
    ours, theirs = Ours(base, values, CONCURRENCY), StockBatching(base, values, ANSWER)
    speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
    answers = {}
    with ours.engine:
        ours.serve(asked[:8])
        for _ in range(1 if quick else 3):
            for name, system in (("ours", ours), ("theirs", theirs)):
                began = clock()
                answers[name] = system.serve(asked)
                speeds[name].append(ANSWER * len(asked) / (clock() - began))
    same = sum(a == b for a, b in zip(answers["ours"], answers["theirs"], strict=True))
    print(f"the same texts as transformers' generate_batch: {same} of {len(asked)}")
    mine, other = (statistics.median(taken) for taken in speeds.values())
    return [BenchRow.compare("4 shallow prompts, beside transformers' generate_batch", mine, "tokens/s", other)]


def first_token(base: FrozenBase, quick: bool, clock: Clock) -> list[BenchRow]:
    """Milliseconds from a request to its first token on an idle engine, a prompt of 100 tokens beside the bare base."""
    ours = Ours(base, [prompt_values(base, kind, 100, 3) for kind in ("shallow", "deep")], CONCURRENCY)
    ours.prompts.append(None)
    taken: dict[int, list[float]] = {0: [], 1: [], 2: []}
    with ours.engine:
        for one in requests(20 if quick else 100, 1):
            for which in taken:
                began = clock()
                ours.serve([Request(which, one.ids, 1)])
                taken[which].append((clock() - began) * 1000)
    shallow, deep, bare = (statistics.median(taken[which]) for which in range(3))
    return [
        BenchRow.compare("time to first token, shallow P=100, beside the bare base", shallow, "ms", bare),
        BenchRow.compare("time to first token, deep P=100, beside the bare base", deep, "ms", bare),
    ]


def swap(base: FrozenBase, quick: bool, clock: Clock) -> list[BenchRow]:
    """Milliseconds from a verified file to a prompt that answers, and what swaps take from texts that are being written."""
    rows, bank = [], PromptBank(base)
    for kind, length in (("shallow", 100), ("deep", 20), ("deep", 100)):
        files = [prompt_file(base, kind, length, seed) for seed in range(10 if quick else 30)]
        shelf, taken, verified = Shelf(files), [], []
        for file in files:
            began = clock()
            PromptFile.from_bytes(file.manifest.to_bytes(), file.tensor, source="bench")
            verified.append((clock() - began) * 1000)
            began = clock()
            bank.get(file.digest, shelf)
            taken.append((clock() - began) * 1000)
        name = f"warming a {kind} prompt, P={length}, beside verifying its file"
        rows.append(BenchRow.compare(name, statistics.median(taken), "ms", statistics.median(verified)))
    return [*rows, under_load(base, quick, clock)]


def under_load(base: FrozenBase, quick: bool, clock: Clock) -> BenchRow:
    """Tokens a second while another thread warms a new prompt four times a second, beside none; by the clock only."""
    values = [prompt_values(base, kind, length, seed) for seed, (kind, length) in enumerate(PROMPTS)]
    ours, asked = Ours(base, values, CONCURRENCY), requests(96, len(PROMPTS))
    bank, shelf = PromptBank(base, 1), Shelf([prompt_file(base, kind, length, 1) for kind, length in PROMPTS])
    speeds: dict[bool, list[float]] = {False: [], True: []}

    def swapping(stop: threading.Event) -> None:
        digests = list(shelf.prompts)
        for number in range(10_000):
            if stop.wait(0.25):
                return
            bank.get(digests[number % len(digests)], shelf)

    with ours.engine:
        ours.serve(asked[:64])
        for _ in range(1 if quick else 3):
            for is_swapping in speeds:
                stop = threading.Event()
                thread = threading.Thread(target=swapping, args=(stop,))
                if is_swapping:
                    thread.start()
                began = clock()
                answers = ours.serve(asked)
                speeds[is_swapping].append(sum(map(len, answers)) / (clock() - began))
                stop.set()
                if is_swapping:
                    thread.join()
    with_swaps, without = (statistics.median(speeds[key]) for key in (True, False))
    return BenchRow.compare("8 prompts, four swaps a second, beside none", with_swaps, "tokens/s", without)


def memory(quick: bool) -> list[BenchRow]:
    """KiB that a warm prompt adds to a process, beside its keys and values; in a process of its own."""
    rows = []
    for kind in ("shallow", "deep"):
        count = 100 if quick else 1000
        call = [sys.executable, "-m", "tests.bench.serve", "--memory-of", kind, str(count)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        grown, held = map(float, done.stdout.split()[-2:])
        rows.append(
            BenchRow.compare(f"memory of a warm {kind} prompt, P=20, 1 to {count}, beside its tensors", grown, "KiB", held)
        )
    return rows


def print_memory(kind: str, count: int) -> None:
    """What `memory` runs in a fresh process: KiB a prompt, and KiB of its tensors."""
    base = served_base()
    bank = PromptBank(base, 4 * 2**30)
    warm = lambda seed: bank.get((file := prompt_file(base, kind, 20, seed)).digest, Shelf([file]))
    for seed in range(3):
        warm(seed)
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what building the model left free would hide the prompts
    before, held = begin_peak("cpu"), bank.numbers.num_bytes
    for seed in range(3, 3 + count):
        warm(seed)
    print((begin_peak("cpu") - before) * 1024 / count, (bank.numbers.num_bytes - held) / 1024 / count)


PARTS = (throughput, continuous_batching, first_token, swap)


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--processor-seconds", action="store_true", help="for a busy machine, with OMP_NUM_THREADS=1")
    parser.add_argument(
        "--only", choices=["throughput", "continuous_batching", "first_token", "swap", "memory"], help="this part alone"
    )
    parser.add_argument("--memory-of", nargs=2, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.memory_of:
        print_memory(options.memory_of[0], int(options.memory_of[1]))
        return
    clock = time.process_time if options.processor_seconds else time.perf_counter
    base, rows = served_base(), []
    for part in PARTS:
        if options.only in (None, part.__name__):
            rows += part(base, options.quick, clock)
    if options.only in (None, "memory"):
        rows += memory(options.quick)
    show(f"serving, {torch.get_num_threads()} threads", rows, options.json)


if __name__ == "__main__":
    main()
