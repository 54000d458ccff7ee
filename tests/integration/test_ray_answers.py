"""Rows answered over Ray are answered as in one process."""

import numpy as np
import pytest
import torch

from softprompt.evaluation.systems.answering import Answering
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.evaluation.systems.few_shot import few_shot
from tests.unit.evaluation.test_systems import Scene, short_rows


@pytest.fixture
def ray_here(monkeypatch):
    import ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as Ray's workers have it: another number adds up in another order
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
    yield
    ray.shutdown()
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("generation", [False, True])
def test_answers_over_ray_are_those_of_one_process(ray_here, tmp_path, llama_directory, generation):
    sampling = ", sampling: {temperature: 1.2, top_p: 0.9, seed: 3}" if generation else ""
    here = Scene(
        tmp_path / "here", llama_directory, rows=short_rows(90), generation=generation, evaluation=sampling + ", batch_size: 5"
    )
    recipe = here.resolved.recipe
    there = here.resolved.model_copy(
        update={"recipe": recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"engine": "ray"})})}
    )
    shots, _ = few_shot(here.base, "{text}:", here.file.manifest.answers, here.dataset, here.rows, 2, 8)
    for system in (BaseSystem.of_file(here.base, here.file), shots):
        local, over_ray = (Answering(resolved, 6)(system, here.rows) for resolved in (here.resolved, there))
        assert over_ray.outputs == local.outputs
        for name in ("probabilities", "target_nats", "target_tokens"):
            mine, theirs = getattr(local, name), getattr(over_ray, name)
            assert (mine is None) == (theirs is None)
            if mine is not None:
                np.testing.assert_allclose(theirs, mine, rtol=1e-6)
