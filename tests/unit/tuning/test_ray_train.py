"""One worker where no Ray is: Ray Train's local mode, in this process; and what is asked of a Ray that is up.

Several workers, and one in a Ray: tests/integration/test_ray_train.py.
"""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import ray.train
import torch

from softprompt.base_model import visible_device
from softprompt.errors import ServiceUnavailable
from softprompt.ray_session import ray_is_there
from softprompt.tuning import ray_train
from softprompt.tuning.checkpoint_store import CheckpointStore
from softprompt.tuning.ray_train import train_on_ray
from tests.ray_kills import Spy


@pytest.fixture
def train(resolved, dataset, tmp_path):
    def run(run_id, number=0):
        spy = Spy(tmp_path / f"spy-{run_id}-{number}")
        state, facts = train_on_ray(resolved, dataset, spy, run_id=run_id, storage=str(tmp_path / "storage"))
        return spy, state, facts

    return run


def test_one_worker_trains_in_this_process_and_starts_no_ray(train, monkeypatch, capfd):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    threads = torch.get_num_threads()
    spy, state, facts = train("here")
    assert not ray.is_initialized()
    assert (state.steps_done, facts["num_workers"]) == (6, 1)
    assert {note["pid"] for note in spy.notes("looks")} == {os.getpid()}
    assert torch.get_num_threads() == threads
    told = capfd.readouterr()
    assert "local mode" not in told.out + told.err, "Ray asks people to file reports about it"


def test_it_is_taken_up_by_its_id_as_in_a_ray(train):
    _, first, _ = train("here")
    again, state, _ = train("here", 1)
    assert again.notes("looks") == []
    assert np.array_equal(state.winner.loop.best_values, first.winner.loop.best_values)
    other, _, _ = train("another")
    assert other.notes("looks")


def test_interrupted_it_goes_on_from_its_last_checkpoint_to_the_same_bits(train, monkeypatch):
    _, whole, _ = train("whole")
    log, looks = Spy.log, []

    def interrupted(spy, points):
        looks.append(points)
        if len(looks) == 2:
            raise KeyboardInterrupt
        log(spy, points)

    with monkeypatch.context() as patch:
        patch.setattr(Spy, "log", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train("cut")
    spy, state, _ = train("cut", 1)
    assert [list(spy.losses()), len(spy.notes("looks"))] == [[4, 5, 6], 1]
    assert np.array_equal(state.winner.loop.best_values, whole.winner.loop.best_values)


def test_a_worker_that_is_left_without_the_others_does_not_train_on(train, tmp_path, monkeypatch):
    """Ray Train takes the process group down when another worker dies; without one a worker looks like the only one."""
    context = SimpleNamespace(get_world_size=lambda: 2, get_local_world_size=lambda: 2, get_world_rank=lambda: 0)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    with pytest.raises(ServiceUnavailable) as refused:
        train("left")
    assert (refused.value.expected, refused.value.actual) == ("2 workers", "1")
    assert not list((tmp_path / "storage").rglob("checkpoint-*"))


def test_a_ray_that_is_named_is_used(monkeypatch):
    assert not ray_is_there()
    monkeypatch.setenv("RAY_ADDRESS", "ray.example:6379")
    assert ray_is_there()


@pytest.mark.parametrize(
    ("num_workers", "gpus", "expected"),
    [(1, 0, False), (1, 1, True), (2, 1, False), (2, 2, True), ((1, 4), 1, True), ((2, 4), 1, False), (0, 1, False)],
)
def test_workers_take_gpus_where_there_is_one_for_each_that_must_be_there(tmp_path, monkeypatch, num_workers, gpus, expected):
    monkeypatch.setattr(ray_train, "num_offered", {"GPU": gpus}.get)
    trainer = ray_train._trainer({}, num_workers, CheckpointStore(str(tmp_path), "run"), "run")
    assert trainer.scaling_config.use_gpu is expected
    assert trainer.running_in_local_mode is (num_workers == 0)


def test_a_base_goes_where_there_is_a_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert visible_device() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert visible_device() == "cpu"
