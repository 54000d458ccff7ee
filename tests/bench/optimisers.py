"""Test accuracy of the demo's deep prompt with each optimiser that a recipe can name, beside plain Adam (`adamw`).

    python -m tests.bench.optimisers [--quick] [--json FILE]

All start from the same seed and see the same rows; means over the seeds are compared. Longer trainings on harder rows:
docs/tuning-log.md.
"""

import dataclasses
import statistics
from typing import get_args

from softprompt.engine.prompts import SoftPrompt
from softprompt.recipe.training import Optimiser
from softprompt.resolve import Overrides
from softprompt.tuning.loop import LoopState, run_loop, validate
from softprompt.tuning.workers import Workers
from tests.bench.demo_job import demo_job
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.variations import job_with


def test_accuracy(seed: int, optimiser: Optimiser) -> float:
    """Tune the demo's deep prompt and answer its test rows."""
    job, held_out = demo_job(Overrides(prompt_kind="deep", seed=seed))
    job = job_with(job, optimiser=optimiser)
    (candidate,) = job.candidates
    ended = run_loop(job, 0, candidate, LoopState.begin(job, candidate), Workers(), lambda _: None)
    accuracy = validate(dataclasses.replace(job, validation=held_out), SoftPrompt(ended.best_values), Workers())[1]
    assert accuracy is not None
    return accuracy


def main() -> None:
    """Run the benchmark."""
    options = bench_arguments(__doc__.splitlines()[0]).parse_args()
    seeds = range(1 if options.quick else 4)
    means = {name: statistics.mean(test_accuracy(seed, name) for seed in seeds) for name in get_args(Optimiser)}
    rows = [
        BenchRow.compare(f"{name} beside adamw, {len(seeds)} seeds", mean, "accuracy", means["adamw"])
        for name, mean in means.items()
        if name != "adamw"
    ]
    show("Optimisers of the demo's deep prompt", rows, options.json)


if __name__ == "__main__":
    main()
