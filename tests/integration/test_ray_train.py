"""Ray Train for real: any number of workers gives the same curve, and a training goes on from checkpoints in S3."""

import os
import threading
import time

import numpy as np
import pytest

from softprompt.data.validate import validate_dataset
from softprompt.embedded.s3 import embedded_s3
from softprompt.resolve import resolve_recipe
from softprompt.tuning.ray_train import train_on_ray
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.ray_kills import Spy, kill

STEPS = "steps: 12, learning_rate: 0.2"
"""At the default of 1.0 this small base's loss jumps up first, and rounding of 1e-7 grows to 3e-5."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An S3 server; Ray's processes are started with its settings."""
    with embedded_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def train(tmp_path_factory, llama_directory, server):
    """A function: trains the colours, and gives what the first worker told and the final state."""
    import ray

    folder = tmp_path_factory.mktemp("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name, value in server.environment().items():
            patch.setenv(name, value)
        ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=80 * 2**20)
        rows = write_jsonl(folder / "rows.jsonl", colour_rows())
        recipe = write_recipe(folder / "recipe.yaml", llama_directory, rows)

        def run(run_id, num_workers, *, storage=str(folder / "storage"), steps=STEPS, spy=None):
            text = recipe.read_text().replace("steps: 6", f"num_workers: {num_workers}, {steps}")
            resolved = resolve_recipe(text)
            if not (folder / "dataset").exists():
                validate_dataset(resolved, folder / "dataset", folder / "report.html")
            spy = spy or Spy(folder / f"spy-{run_id}-{time.monotonic_ns()}")
            state, facts = train_on_ray(resolved, folder / "dataset", spy, run_id=run_id, storage=storage)
            return spy, state, facts

        yield run
        ray.shutdown()


@pytest.fixture(scope="module")
def alone(train):
    """One worker."""
    return train("alone", 1)


def difference(spy, expected):
    """Largest relative difference of two curves over the same steps."""
    mine, theirs = spy.losses(), expected.losses()
    assert mine.keys() == theirs.keys() == set(range(1, 13))
    return max(abs(mine[step] - theirs[step]) / theirs[step] for step in theirs)


@pytest.mark.slow  # tests/unit/tuning/test_workers.py shows the same without Ray
def test_two_workers_give_the_curve_of_one(train, alone):
    spy, _, facts = train("two", 2)
    assert (alone[2]["num_workers"], facts["num_workers"]) == (1, 2)
    assert difference(spy, alone[0]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [4, [1, 4], [3, 9]])
def test_more_workers_and_elastic_ones_too(train, alone, num_workers):
    spy, _, facts = train(f"many-{num_workers}".replace(" ", ""), num_workers)
    assert facts["num_workers"] == 4
    assert difference(spy, alone[0]) < 1e-5


@pytest.mark.slow
def test_one_worker_ends_with_the_same_bits_in_a_ray_and_without_one(train, alone, monkeypatch):
    monkeypatch.setattr("softprompt.tuning.ray_train.ray_is_there", lambda: False)
    spy, state, _ = train("without", 1)
    assert {note["pid"] for note in spy.notes("looks")} == {os.getpid()}
    assert os.getpid() not in {note["pid"] for note in alone[0].notes("looks")}
    assert spy.losses() == alone[0].losses()
    assert np.array_equal(state.winner.loop.best_values, alone[1].winner.loop.best_values)


@pytest.mark.slow
def test_a_run_is_taken_up_by_its_id_alone(train, alone):
    again, state, _ = train("alone", 1)
    assert again.notes("looks") == []
    assert np.array_equal(state.winner.loop.best_values, alone[1].winner.loop.best_values)
    other, _, _ = train("alone-too", 1)
    assert other.losses() == alone[0].losses()


@pytest.mark.slow
def test_a_killed_training_goes_on_from_s3(train, server, tmp_path):
    steps = "steps: 200"
    expected, _, _ = train("whole", 2, steps=steps)
    spy = Spy(tmp_path / "spy")
    place, results = "s3://softprompt/runs/checkpoints", []
    thread = threading.Thread(target=lambda: results.append(train("s3", 2, storage=place, steps=steps, spy=spy)))
    thread.start()
    while len(spy.notes("looks")) < 3:
        assert thread.is_alive()
        time.sleep(0.01)
    first = spy.pid("rank 0")
    kill(first)
    thread.join()
    ((_, state, _),) = results
    assert state.steps_done == 200
    steps_of = [(note["pid"], note["points"][-1][0]) for note in spy.notes("looks")]
    before, after = ([step for pid, step in steps_of if (pid == first) == mine] for mine in (True, False))
    assert after, "another process went on"
    assert after[0] > 3, "it went on from a checkpoint, not from the start"
    assert after[0] <= max(before) + 3
    assert spy.losses() == expected.losses()
