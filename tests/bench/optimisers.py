"""Test accuracy of the demo's deep prompt with each optimiser that a recipe can name, beside plain Adam (`adamw`).

    python -m tests.bench.optimisers [--quick] [--json FILE]

All start from the same seed and see the same rows; means over the seeds are compared. Longer trainings on harder rows:
docs/tuning-log.md.
"""

import dataclasses
import statistics
import tempfile
from pathlib import Path
from typing import get_args

from softprompt.data.dataset import read_part
from softprompt.data.validate import validate_dataset
from softprompt.engine.prompts import SoftPrompt
from softprompt.recipe.training import Optimiser
from softprompt.resolve import Overrides, resolve_recipe
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop, validate
from softprompt.tuning.workers import Workers
from tests.bench.rows import BenchRow, bench_arguments, show


def test_accuracy(seed: int, optimiser: Optimiser) -> float:
    """Tune the demo's deep prompt and answer its test rows."""
    resolved = resolve_recipe("demo", Overrides(prompt_kind="deep", seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        validate_dataset(resolved, dataset, Path(folder) / "dataset.html")
        job = Job.load(resolved, dataset)
        held_out = job.task.examples([(row.inputs, row.target) for row in read_part(dataset, "test")])
    training = job.recipe.training.model_copy(update={"optimiser": optimiser})
    job = dataclasses.replace(job, recipe=job.recipe.model_copy(update={"training": training}))
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
