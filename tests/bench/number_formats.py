"""What number formats cost and save on this processor: one Llama of 16 layers, H=1024, 238 million numbers, stored in bfloat16.

    OMP_NUM_THREADS=1 python -m tests.bench.number_formats [--quick] [--json FILE] [--only memory|serving|training]

Resident memory of the loaded base and the most that loading it took, the most that one training step adds, tokens a second of a
batch of shallow and deep prompts, rows a second of training: each format beside float32. Speed is counted in processor seconds,
formats take turns, medians are compared. Each figure of memory is that of a process of its own.
"""

import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from softprompt.base_model import FrozenBase, load_base_model, load_text_side
from softprompt.embedded.phrases import FOLDER
from softprompt.engine.batches import Collator, Example
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import choose_strategy
from softprompt.numerics import NUMERICS, Numerics
from tests.bench.peak_memory import begin_peak, peak_mib
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.bench.serve_systems import Ours, requests
from tests.stock import random_prompt

SIZE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 16, "num_attention_heads": 16}
PROMPTS = [("shallow", 20), ("deep", 20), ("shallow", 100), ("deep", 60)]
CONCURRENCY = 32
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
"""glibc keeps pieces below 32 MiB that were given back; those of a larger base's weights are larger."""
TRAINED = ("shallow", 20)
MEASURED: list[Numerics] = [name for name in NUMERICS if name != "float16"]
"""float16 takes the memory of bfloat16, and a training step in it a minute where a processor has no arithmetic for it."""
BATCH_ROWS, ROW_TOKENS = 8, 32


def write_base(folder: Path) -> Path:
    """A random Llama as a hub directory, in bfloat16 as checkpoints are, with the embedded base's tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, num_key_value_heads=16, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, **SIZE
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    load_text_side(FOLDER / "base").tokenizer.save_pretrained(folder)
    return folder


def memory(folder: Path, _: bool) -> list[BenchRow]:
    """MiB: the base at rest, the most while it was loaded, the most that a training step adds."""
    found: dict[str, list[float]] = {}
    for numerics in MEASURED:
        call = [sys.executable, "-m", "tests.bench.number_formats", "--memory-of", numerics, str(folder)]
        done = subprocess.run(call, capture_output=True, text=True, check=True, env=os.environ | GIVEN_BACK)
        found[numerics] = json.loads(done.stdout.splitlines()[-1])
    names = ("the base at rest", "the most while it is loaded", f"the most that a step of {BATCH_ROWS} rows adds")
    return [
        BenchRow.compare(f"{numerics}: {name}", value, "MiB", baseline)
        for numerics in MEASURED
        for name, value, baseline in zip(names, found[numerics], found["float32"], strict=True)
    ]


def print_memory(numerics: Numerics, folder: Path) -> None:
    """What `memory` runs in a fresh process."""
    step(load_base_model(FOLDER / "base", dtype=numerics))()  # what is loaded with the first use is not the base's
    before = begin_peak("cpu")
    base = load_base_model(folder, dtype=numerics)
    with torch.inference_mode():
        base.model(torch.zeros(1, 1, dtype=torch.long))  # weights that lie in the file are read
    loading = peak_mib("cpu") - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    held = begin_peak("cpu")
    step(base)()
    print(json.dumps([held - before, loading, peak_mib("cpu") - held]))


def step(base: FrozenBase) -> Callable[[], None]:
    """A training step of a shallow prompt, its gradient and all but the optimiser."""
    kind, length = TRAINED
    strategy, head, collate = choose_strategy(base, kind), Head(base), Collator(None, None)  # type: ignore[arg-type]
    prompt = SoftPrompt(random_prompt(base, kind, length))
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint(3, 2000, (BATCH_ROWS, ROW_TOKENS), generator=generator).tolist()
    batch = collate([Example(ids[:-2], ids[-2:], -1) for ids in draw])

    def run() -> None:
        loss_sum(head, None, strategy.hidden(strategy.prefix(prompt), batch), batch).backward()
        prompt.values.grad = None

    return run


def serving(folder: Path, quick: bool) -> list[BenchRow]:
    """Tokens a second of a mixed batch."""
    systems = {}
    asked = requests(32 if quick else 64, len(PROMPTS))
    for numerics in MEASURED:
        base = load_base_model(folder, dtype=numerics)
        systems[numerics] = Ours(base, [random_prompt(base, *prompt, seed) for seed, prompt in enumerate(PROMPTS)], CONCURRENCY)

    def serve(numerics: Numerics) -> float:
        return float(sum(map(len, systems[numerics].serve(asked))))

    with ExitStack() as running:
        for system in systems.values():
            running.enter_context(system.engine)
        return speeds(serve, "tokens/s", f"{len(PROMPTS)} prompts, {CONCURRENCY} at once", 1 if quick else 3)


def training(folder: Path, quick: bool) -> list[BenchRow]:
    """Rows a second of training."""
    steps = {numerics: step(load_base_model(folder, dtype=numerics)) for numerics in MEASURED}

    def train(numerics: Numerics) -> float:
        steps[numerics]()
        return BATCH_ROWS

    name = f"training a {TRAINED[0]} prompt, P={TRAINED[1]}, T={ROW_TOKENS}, B={BATCH_ROWS}"
    return speeds(train, "rows/s", name, 1 if quick else 5)


def speeds(work: Callable[[Numerics], float], unit: str, name: str, repetitions: int) -> list[BenchRow]:
    """How much of `work` each format does in a processor second; in turns, after a first time that does not count."""
    found: dict[str, list[float]] = {numerics: [] for numerics in MEASURED}
    for _ in range(1 + repetitions):
        for numerics in MEASURED:
            began = time.process_time()
            done = work(numerics)
            found[numerics].append(done / (time.process_time() - began))
    median = {numerics: statistics.median(taken[1:]) for numerics, taken in found.items()}
    return [BenchRow.compare(f"{numerics}: {name}", median[numerics], unit, median["float32"]) for numerics in MEASURED]


PARTS = {part.__name__: part for part in (memory, serving, training)}


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(PARTS), help="this part alone")
    parser.add_argument("--memory-of", nargs=2, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.memory_of:
        print_memory(options.memory_of[0], Path(options.memory_of[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        base = write_base(Path(folder))
        rows = [row for name, part in PARTS.items() if options.only in (None, name) for row in part(base, options.quick)]
    show(f"number formats, {torch.get_num_threads()} threads", rows, options.json)


if __name__ == "__main__":
    main()
