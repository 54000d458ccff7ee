"""Test accuracy of the demo's prompts with Adam's moments forgetting at 0.5 and 0.95, beside the usual 0.9 and 0.999.

    python -m tests.bench.adam_betas [--quick] [--json FILE]

Each pair starts from the same seed and sees the same rows; means over the seeds are compared, for both kinds of prompt.
"""

import dataclasses
import statistics
import tempfile
from pathlib import Path

from softprompt.data.dataset import read_part
from softprompt.data.validate import validate_dataset
from softprompt.engine.prompts import SoftPrompt
from softprompt.names import PromptKind
from softprompt.resolve import Overrides, resolve_recipe
from softprompt.tuning import loop, optimisers
from softprompt.tuning.job import Job
from softprompt.tuning.workers import Workers
from tests.bench.rows import BenchRow, bench_arguments, show


def test_accuracy(kind: PromptKind, seed: int, betas: tuple[float, float]) -> float:
    """Tune the demo's prompt and answer its test rows."""
    resolved = resolve_recipe("demo", Overrides(prompt_kind=kind, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        validate_dataset(resolved, dataset, Path(folder) / "dataset.html")
        job = Job.load(resolved, dataset)
        held_out = job.task.examples([(row.inputs, row.target) for row in read_part(dataset, "test")])
    (candidate,) = job.candidates
    optimisers.ADAM_BETAS = betas
    ended = loop.run_loop(job, 0, candidate, loop.LoopState.begin(job, candidate), Workers(), lambda _: None)
    accuracy = loop.validate(dataclasses.replace(job, validation=held_out), SoftPrompt(ended.best_values), Workers())[1]
    assert accuracy is not None
    return accuracy


def main() -> None:
    """Run the benchmark."""
    options = bench_arguments(__doc__.splitlines()[0]).parse_args()
    seeds = range(1 if options.quick else 4)
    rows = []
    for kind in ("shallow", "deep"):
        pairs = [(test_accuracy(kind, seed, (0.5, 0.95)), test_accuracy(kind, seed, (0.9, 0.999))) for seed in seeds]
        ours, usual = (statistics.mean(side) for side in zip(*pairs, strict=True))
        rows.append(
            BenchRow.compare(f"{kind} prompt, {len(seeds)} seeds, 0.5 and 0.95 beside 0.9 and 0.999", ours, "accuracy", usual)
        )
    show("Adam's moments", rows, options.json)


if __name__ == "__main__":
    main()
