"""What another number of workers does to a training, and what it costs that it does nothing.

    python -m tests.bench.workers [--quick] [--json FILE]

The demo's recipe at its default rate, both kinds of prompt, tuned by one, two and four processes that exchange gradients over
gloo, a thread each. `elastic`: a batch is cut into four shards whoever takes part (`num_workers: [1, 4]`); beside it `fixed`: one
shard a worker. Differences are the largest relative ones of the losses at all looks from those of one worker, and of the prompt
by norm. Seconds are the processor's, of one worker.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from softprompt.names import PromptKind
from softprompt.resolve import Overrides
from softprompt.tuning.loop import LoopState, run_loop
from softprompt.tuning.workers import Workers
from tests.bench.demo_job import demo_job
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.gloo import on_workers
from tests.variations import job_with

SHARDS = 4


@dataclass(frozen=True)
class Training:
    """One training: its losses, its prompt, and the processor seconds of a step of its first worker."""

    losses: Tensor
    prompt: Tensor
    seconds: float

    @classmethod
    def by(cls, count: int, num_shards: int, kind: PromptKind, steps: int) -> "Training":
        """Tune the demo's prompt with so many workers."""
        return cls(*on_workers(count, tune, kind, steps, num_shards))

    def differences(self, other: "Training") -> tuple[float, float]:
        """Of the losses, and of the prompts."""
        losses = ((self.losses - other.losses).abs() / other.losses).max()
        return float(losses), float((self.prompt - other.prompt).norm() / other.prompt.norm())


def tune(kind: PromptKind, steps: int, num_shards: int) -> tuple[Tensor, Tensor, float]:
    """What each process runs."""
    job = job_with(demo_job(Overrides(prompt_kind=kind))[0], steps=steps, validate_every_steps=20)
    (candidate,) = job.candidates
    began = time.process_time()
    ended = run_loop(job, 0, candidate, LoopState.begin(job, candidate), Workers.current(num_shards), lambda _: None)
    seconds = (time.process_time() - began) / steps
    losses = [loss for look in ended.measurements for loss in (look.training_loss, look.validation_loss)]
    return torch.tensor(losses, dtype=torch.float64), ended.parameters["offset"], seconds


def main() -> None:
    """Run the benchmark."""
    options = bench_arguments(__doc__.splitlines()[0]).parse_args()
    steps, rows = 40 if options.quick else 300, []
    for kind in ("shallow", "deep"):
        alone = {shards: Training.by(1, shards, kind, steps) for shards in (0, SHARDS)}
        rows.append(
            BenchRow.compare(
                f"{kind}, one worker, elastic beside fixed", alone[SHARDS].seconds * 1e3, "ms/step", alone[0].seconds * 1e3
            )
        )
        for count in (2, 4):
            fixed, elastic = (Training.by(count, n, kind, steps).differences(alone[n]) for n in (0, SHARDS))
            for what, ours, theirs in zip(("losses", "prompt"), elastic, fixed, strict=True):
                rows.append(
                    BenchRow.compare(f"{kind}, {count} workers, {what}, elastic beside fixed", ours * 1e6, "1e-6", theirs * 1e6)
                )
    show(f"Workers, {steps} steps", rows, options.json)


if __name__ == "__main__":
    main()
