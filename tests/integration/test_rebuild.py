"""The embedded base, pretrained again on this machine: other bits, and good enough for the demo all the same."""

import dataclasses

import pytest

from softprompt.data.dataset import read_part
from softprompt.data.validate import validate_dataset
from softprompt.embedded.pretrain import pretrain
from softprompt.engine.prompts import SoftPrompt
from softprompt.resolve import Overrides, resolve_recipe
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop, validate
from softprompt.tuning.workers import Workers


@pytest.mark.slow
def test_a_rebuilt_base_reaches_the_demos_accuracy(tmp_path):
    pretrain(tmp_path / "base")
    resolved = resolve_recipe("demo", Overrides(base_model=str(tmp_path / "base")))
    validate_dataset(resolved, tmp_path / "dataset", tmp_path / "dataset.html")
    job = Job.load(resolved, tmp_path / "dataset")
    (candidate, *_) = job.candidates
    ended = run_loop(job, 0, candidate, LoopState.begin(job, candidate), Workers(), lambda state: None)
    held_out = job.task.examples([(row.inputs, row.target) for row in read_part(tmp_path / "dataset", "test")])
    on_test = dataclasses.replace(job, validation=held_out)
    tuned = validate(on_test, SoftPrompt(ended.best_values), Workers())[1]
    assert tuned >= 0.90
