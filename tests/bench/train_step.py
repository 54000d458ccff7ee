"""Training steps a second and their memory, beside stock PEFT over the same rows, on a Llama with random weights.

    python -m tests.bench.train_step [--quick] [--json FILE] [--processor-seconds] [--device cuda]

The alternatives are stock PEFT `PromptTuning` (a) with logits everywhere, as its forward gives them, and (b) with logits
only at labels, the fair baseline; LoRA and full fine-tuning beside them. All take the same loss over the same rows, in batches
of 16 or 32. Repetitions are interleaved and the medians compared; memory is the peak growth of a fresh process over its loaded
model. On the processor float32, and ours also in bfloat16; on a CUDA device bfloat16 and a model of 1.5 B parameters.
"""

import statistics
import subprocess
import sys
import time

import torch

from tests.bench.peak_memory import begin_peak, peak_mib
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.bench.train_systems import (
    AT_LABELS,
    BFLOAT16,
    CHECKPOINTED,
    FULL,
    LORA,
    OURS,
    PEFT,
    SHARED_PREFIX,
    Machine,
    build_step,
    cut,
    draw_rows,
)

Shape = tuple[int, int, int]
"""(prompt tokens P, longest text T, batch size B)."""
SHAPES: list[Shape] = [(100, 48, 16), (20, 128, 16), (100, 48, 32), (20, 128, 32)]
NUM_BATCHES = 6
"""Batches an epoch. With two, length buckets have little to sort: ours is then padded to 75 instead of 62 tokens a row."""
COMPARED = {
    "cpu": [OURS, PEFT, AT_LABELS, BFLOAT16, CHECKPOINTED, LORA, FULL],
    "cuda": [OURS, SHARED_PREFIX, PEFT, AT_LABELS, LORA],
}
"""Systems on each device; the quick form leaves out what stands behind the fifth."""


def measure_speed(
    systems: list[str], machine: Machine, shape: Shape, num_batches: int, repetitions: int, clock: str
) -> dict[str, float]:
    """Rows a second of each system, median of interleaved repetitions."""
    num_tokens, longest, batch_size = shape
    rows = draw_rows(longest, num_batches * batch_size)
    steps = {system: build_step(system, machine, num_tokens) for system in systems}
    seconds: dict[str, list[float]] = {system: [] for system in systems}
    for step in steps.values():
        step(rows[:batch_size])  # first touch
    now = getattr(time, clock)
    for _ in range(repetitions):
        for system, step in steps.items():
            began = now()
            for batch in cut(system, rows, batch_size):
                step(batch)
            seconds[system].append(now() - began)
    return {system: len(rows) / statistics.median(taken) for system, taken in seconds.items()}


def measure_memory(systems: list[str], device: str, shape: Shape) -> dict[str, float]:
    """Peak growth of a fresh process over its loaded model, MiB, over the batch with the longest rows."""
    call = [sys.executable, "-m", "tests.bench.train_step", "--device", device, "--memory-of"]
    taken = {}
    for system in systems:
        done = subprocess.run([*call, system, *map(str, shape)], capture_output=True, text=True, check=True)
        taken[system] = float(done.stdout.split()[-1])
    return taken


def print_memory(system: str, machine: Machine, shape: Shape) -> None:
    """What `measure_memory` runs in a fresh process."""
    num_tokens, longest, batch_size = shape
    step = build_step(system, machine, num_tokens)
    rows = sorted(draw_rows(longest, 2000), key=lambda row: -row.num_tokens)[:batch_size]
    before = begin_peak(machine.device)
    for _ in range(2):
        step(rows)
    print(peak_mib(machine.device) - before)


def machine_of(device: str) -> Machine:
    """The model that a device gets."""
    return Machine("cuda", torch.bfloat16, "billion") if device == "cuda" else Machine()


def compare(shape: Shape, device: str, quick: bool, clock: str) -> list[BenchRow]:
    """Ours beside each alternative, in speed and in memory."""
    systems = COMPARED[device][:5] if quick else COMPARED[device]
    label = f"P={shape[0]} T<={shape[1]} B={shape[2]}"
    speed = measure_speed(systems, machine_of(device), shape, NUM_BATCHES, 1 if quick else 3, clock)
    memory = measure_memory(systems, device, shape)
    rows = []
    for system in systems[1:]:
        # A form of ours is the row's value and ours its baseline; an alternative is a baseline of ours.
        value, baseline = (system, OURS) if system.startswith(OURS) else (OURS, system)
        what = f"{label}, {value} beside {baseline}"
        rows.append(BenchRow.compare(f"speed, {what}", speed[value], "rows/s", speed[baseline]))
        rows.append(BenchRow.compare(f"peak memory, {what}", memory[value], "MiB", memory[baseline]))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--device", choices=list(COMPARED), default="cpu")
    parser.add_argument(
        "--processor-seconds",
        action="store_true",
        help="count the seconds that a processor worked, not the clock's: for a busy machine, with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--shape", nargs=3, type=int, metavar=("P", "T", "B"), help="this shape only")
    parser.add_argument("--memory-of", nargs=4, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.memory_of:
        system, *shape = options.memory_of
        print_memory(system, machine_of(options.device), (int(shape[0]), int(shape[1]), int(shape[2])))
        return
    clock = "process_time" if options.processor_seconds else "perf_counter"
    rows = []
    for measured in [tuple(options.shape)] if options.shape else SHAPES[:1] if options.quick else SHAPES:
        rows += compare(measured, options.device, options.quick, clock)
        lengths = [row.num_tokens for row in draw_rows(measured[1], 6 * measured[2])]
        print(f"T<={measured[1]}: mean {statistics.mean(lengths):.1f} tokens, longest {max(lengths)}, answer included")
        show(f"training step, {options.device}, {torch.get_num_threads()} threads", rows, options.json)


if __name__ == "__main__":
    main()
