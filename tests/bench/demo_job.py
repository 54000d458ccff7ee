"""What a benchmark of training trains: the demo's recipe and rows."""

import tempfile
from pathlib import Path

from softprompt.data.dataset import read_part
from softprompt.data.validate import validate_dataset
from softprompt.engine.batches import Example
from softprompt.resolve import Overrides, resolve_recipe
from softprompt.tuning.job import Job


def demo_job(overrides: Overrides) -> tuple[Job, list[Example]]:
    """The demo's job, and its test rows in tokens; mapped files stay readable when their folder is gone."""
    resolved = resolve_recipe("demo", overrides)
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "dataset"
        validate_dataset(resolved, dataset, Path(folder) / "dataset.html")
        job = Job.load(resolved, dataset)
        return job, job.task.examples([(row.inputs, row.target) for row in read_part(dataset, "test")])
