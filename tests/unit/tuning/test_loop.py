"""The loop learns, touches nothing but the prompt, and goes on from any checkpoint to the same bits."""

import math

import pytest
import torch

from softprompt.base_model import parameter_digest
from softprompt.errors import InvalidRequest
from softprompt.recipe import Candidate
from softprompt.tuning.checkpoint import load_checkpoint, save_checkpoint
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, learning_rate, run_loop
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.workers import Workers


def with_training(job: Job, **changes: object) -> Job:
    recipe = job.recipe.model_copy(update={"training": job.recipe.training.model_copy(update=changes)})
    return Job(recipe, job.base, job.task, job.train, job.validation)


def train(job: Job, state: LoopState | None = None, report=lambda state: None, number: int = 0) -> LoopState:
    state = state or LoopState.begin(job.initial_prompt(job.candidates[number]))
    return run_loop(job, number, job.training_of(job.candidates[number]), state, Workers(), report)


def test_training_lowers_the_loss_and_leaves_the_base_alone(job):
    before = parameter_digest(job.base.model)
    looks = train(with_training(job, steps=150, validate_every_steps=10, batch_size=32)).measurements
    assert looks[-1].training_loss < 0.8 * looks[0].training_loss
    assert max(look.validation_accuracy for look in looks) > looks[0].validation_accuracy
    assert parameter_digest(job.base.model) == before


def test_the_best_look_is_kept_not_the_last(job):
    state = train(with_training(job, steps=30, validate_every_steps=3, learning_rate=30.0, schedule="constant"))
    scores = [(look.validation_accuracy, -look.validation_loss) for look in state.measurements]
    assert state.best_score == max(scores)
    assert state.best_step == state.measurements[scores.index(max(scores))].step
    if state.best_step != 30:
        assert not torch.equal(state.best_values, state.values)


@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_a_loop_goes_on_from_a_checkpoint_to_the_same_bits(job, tmp_path, kind):
    recipe = job.recipe.model_copy(update={"prompt": job.recipe.prompt.model_copy(update={"kind": kind})})
    job = Job(recipe, job.base, job.task, job.train, job.validation)
    job = with_training(job, steps=12, validate_every_steps=4)
    whole = train(job)
    kept: list[PopulationState] = []

    def keep(state):
        folder = tmp_path / str(state.step)
        folder.mkdir()
        save_checkpoint(folder, PopulationState(loop=state), {"fact": 1})
        loaded = load_checkpoint(folder)
        assert loaded is not None
        assert loaded[1] == {"fact": 1}
        kept.append(loaded[0])

    train(job, report=keep)
    for state in kept[:2]:
        resumed = train(job, state=state.loop)
        assert torch.equal(resumed.values, whole.values)
        assert torch.equal(resumed.best_values, whole.best_values)
        assert [look.validation_loss for look in resumed.measurements] == [look.validation_loss for look in whole.measurements]


def test_the_best_candidate_wins_and_all_are_reported(job):
    candidates = (Candidate(learning_rate=1e-6), Candidate(), Candidate(seed=3, num_tokens=2))
    job = with_training(job, steps=20, validate_every_steps=10, candidates=candidates)
    state = run_population(job, PopulationState(), Workers(), lambda state: None)
    assert [(found.learning_rate, found.seed, found.num_tokens) for found in state.finished] == [
        (1e-6, 0, 4),
        (1.0, 0, 4),
        (1.0, 3, 2),
    ]
    scores = [(found.validation_accuracy, -found.validation_loss) for found in state.finished]
    assert state.winner == scores.index(max(scores))
    assert state.winner != 0
    assert len(state.measurements) == 6


def test_a_population_goes_on_in_the_middle(job, tmp_path):
    job = with_training(job, steps=8, validate_every_steps=4, candidates=(Candidate(), Candidate(seed=1)))
    whole = run_population(job, PopulationState(), Workers(), lambda state: None)
    folders = iter(range(10))

    def keep(state):
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        save_checkpoint(folder, state, {})

    run_population(job, PopulationState(), Workers(), keep)
    for number in range(4):
        state, _ = load_checkpoint(tmp_path / str(number))
        resumed = run_population(job, state, Workers(), lambda state: None)
        assert resumed.winner == whole.winner
        assert torch.equal(resumed.best.best_values, whole.best.best_values)
        assert [found.validation_loss for found in resumed.finished] == [found.validation_loss for found in whole.finished]


@pytest.mark.parametrize("damage", ["no manifest", "cut tensors", "rubbish manifest", "nothing"])
def test_half_a_checkpoint_is_none(job, tmp_path, damage):
    save_checkpoint(tmp_path, PopulationState(loop=train(job)), {})
    manifest, tensors = tmp_path / "state.json", tmp_path / "state.safetensors"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "cut tensors":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif damage == "rubbish manifest":
        manifest.write_text("{")
    else:
        manifest.unlink()
        tensors.unlink()
    assert load_checkpoint(tmp_path) is None


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(job):
    training = job.recipe.training.model_copy(update={"steps": 110, "warmup_steps": 10, "learning_rate": 2.0})
    assert [round(learning_rate(training, step), 6) for step in (0, 4, 9, 10)] == [0.2, 1.0, 2.0, 2.0]
    assert learning_rate(training, 60) == pytest.approx(1.0)
    assert learning_rate(training, 109) == pytest.approx(1 + math.cos(math.pi * 0.99), abs=1e-9)
    constant = training.model_copy(update={"schedule": "constant"})
    assert learning_rate(constant, 100) == 2.0


def test_the_first_step_is_adams(job):
    """After one step every number has moved by the learning rate (or stands still where its gradient is zero)."""
    job = with_training(job, steps=1, warmup_steps=0, validate_every_steps=1, learning_rate=0.5)
    start = job.initial_prompt(job.candidates[0]).values.detach()
    moved = (train(job).values - start).abs()
    rate = 0.5 * job.base.embedding_rms
    assert ((moved - rate).abs() < 0.01 * rate).float().mean() > 0.9


def test_a_training_that_diverges_is_said_to(job):
    state = LoopState.begin(job.initial_prompt(job.candidates[0]))
    state.values[0, 0] = float("nan")
    with pytest.raises(InvalidRequest, match="no longer a number") as caught:
        train(job, state)
    assert "Lower training.learning_rate" in str(caught.value)


def test_likelihood_loss_trains_too(job):
    job = with_training(job, loss="likelihood", steps=10, validate_every_steps=5)
    looks = train(job).measurements
    assert looks[0].validation_accuracy is None
    assert looks[-1].validation_loss < looks[0].validation_loss
