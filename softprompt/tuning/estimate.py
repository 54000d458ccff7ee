"""What a run will cost, before it runs: counted where it can be counted, and timed on a few real steps where it cannot."""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from softprompt.data.rows import PARTS
from softprompt.data.validate import validate_dataset
from softprompt.engine.batches import epochs
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, Trained, validate
from softprompt.tuning.population import planned_steps
from softprompt.tuning.step import take_step
from softprompt.tuning.workers import Workers

TRIAL_STEPS = 4
START_UP_SECONDS = 20.0
"""What starting Ray and its workers takes on a laptop, whatever the training."""


@dataclass(frozen=True)
class Estimate:
    """What tuning will take on this machine with one worker."""

    rows: dict[str, int]
    steps: int
    tokens: int
    """Text tokens through the base in training, prompt not counted."""
    step_seconds: float
    tuning_seconds: float
    peak_memory_bytes: int
    base_parameters: int
    trainable_parameters: int
    prompt_bytes: int

    def lines(self) -> list[tuple[str, str]]:
        """The same for a person, as (what, how much)."""
        return [
            ("rows", ", ".join(f"{count:,} {part}" for part, count in self.rows.items())),
            ("steps", f"{self.steps:,} at {self.step_seconds * 1000:.0f} ms, measured here"),
            ("tokens", f"{self.tokens:,}"),
            ("time to tune", f"about {self.tuning_seconds:.0f} s"),
            ("memory", f"{self.peak_memory_bytes / 2**20:,.0f} MiB a worker"),
            ("base model", f"{self.base_parameters:,} numbers, frozen"),
            ("prompt", f"{self.trainable_parameters:,} numbers, {self.prompt_bytes:,} bytes"),
        ]


def estimate_run(resolved: ResolvedRecipe) -> Estimate:
    """Read the data, load the base, time a few steps; nothing is kept.

    Raises:
        DatasetRefused: The run would end here.
    """
    with tempfile.TemporaryDirectory() as folder:
        manifest = validate_dataset(resolved, Path(folder) / "dataset", Path(folder) / "report.html")
        job = Job.load(resolved, Path(folder) / "dataset")
    candidate, training = job.candidates[0], job.recipe.training_of(job.candidates[0])
    trained = Trained.at(job, 0, candidate, LoopState.begin(job, candidate))
    order = epochs(job.train.lengths, training.batch_size, training.seed)
    batches = [job.training_examples(rows) for rows in islice(order, TRIAL_STEPS)]
    seconds = [
        _seconds(partial(take_step, job, training, trained.module, trained.optimiser, batch, Workers(), trained.fairness))
        for batch in batches
    ]
    step_seconds = statistics.median(seconds[1:])
    prompt = trained.module.prompt()
    look_seconds = _seconds(lambda: validate(job, prompt, Workers()))
    mean_tokens = sum(job.train.lengths) / len(job.train)
    steps = planned_steps(len(job.candidates), training.steps, training.seeds, halving=training.drops_candidates)
    looks = steps // training.validate_every_steps + 1
    return Estimate(
        rows={part: manifest.num_rows[part] for part in PARTS},
        steps=steps,
        tokens=round(mean_tokens * training.batch_size * steps),
        step_seconds=step_seconds,
        tuning_seconds=START_UP_SECONDS + steps * step_seconds + looks * look_seconds,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        base_parameters=job.base.num_parameters,
        trainable_parameters=prompt.values.numel(),
        prompt_bytes=prompt.values.numel() * torch.float32.itemsize + 100,
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
