"""Candidates compete with halving, seeds repeat the chosen setting, and any of it goes on after a kill."""

import pytest
import torch

from softprompt.recipe.training import Candidate
from softprompt.tuning.checkpoint import load_checkpoint, save_checkpoint
from softprompt.tuning.job import Job
from softprompt.tuning.outcome import judge
from softprompt.tuning.population import PopulationState, Run, planned_steps, run_population, rungs
from softprompt.tuning.workers import Workers
from tests.variations import job_with

EIGHT = tuple(Candidate(learning_rate=rate) for rate in (1e-6, 1.0, 1e-5, 0.5, 1e-4, 0.1, 1e-3, 2.0))


def run(job: Job, state: PopulationState | None = None, report=lambda state, run: None) -> PopulationState:
    return run_population(job, state or PopulationState(), Workers(), report)


def best_until(run: Run, step: int) -> tuple[float, float]:
    looks = [look for look in run.loop.measurements if look.step <= step]
    return max((look.validation_accuracy, -look.validation_loss) for look in looks)


def test_the_best_candidate_wins_and_all_are_reported(job):
    candidates = (Candidate(learning_rate=1e-6), Candidate(), Candidate(seed=3, num_tokens=2))
    state = run(job_with(job, steps=20, validate_every_steps=10, candidates=candidates, halving=False))
    assert [run.loop.step for run in state.runs] == [20, 20, 20]
    assert [len(run.loop.best_values) for run in state.runs] == [4, 4, 2]
    scores = [run.loop.best_score for run in state.runs]
    assert state.winner.number == scores.index(max(scores)) != 0
    assert len(state.measurements) == 6


def test_halving_drops_the_worst_and_costs_less_than_half():
    assert rungs(8, 80, halving=True) == [(10, 4), (20, 2), (40, 1), (80, 1)]
    assert planned_steps(8, 80, 1, halving=True) == 200  # of 640
    assert rungs(3, 80, halving=True) == [(20, 2), (40, 1), (80, 1)]
    assert rungs(1, 80, halving=True) == [(80, 1)]
    assert rungs(8, 80, halving=False) == [(80, 8)]
    assert planned_steps(8, 80, 3, halving=False) == 8 * 80 + 2 * 80


def test_halving_keeps_the_better_half_at_every_rung(job):
    job = job_with(job, steps=40, validate_every_steps=5, candidates=EIGHT)
    state = run(job)
    assert sorted(run.loop.step for run in state.runs) == [5, 5, 5, 5, 10, 10, 20, 40]
    assert [run.dropped_at for run in state.runs].count(None) == 1
    for at in (5, 10, 20):
        there = [run for run in state.runs if run.loop.step >= at]
        dropped = [best_until(run, at) for run in there if run.dropped_at == at]
        assert max(dropped) <= min(best_until(run, at) for run in there if run.dropped_at != at)
    assert state.winner.candidate.learning_rate >= 0.1


def test_seeds_repeat_the_chosen_setting_and_the_best_is_kept(job):
    candidates = (Candidate(learning_rate=1e-6), Candidate(seed=5))
    job = job_with(job, steps=20, validate_every_steps=5, candidates=candidates, seeds=3)
    state = run(job)
    assert [(run.candidate.seed, run.repeats) for run in state.runs[1:]] == [(5, None), (6, 1), (7, 1)]
    assert state.winner.loop.best_score == max(run.loop.best_score for run in state.runs[1:])
    outcome = judge(job, state)
    spread = outcome.seeds
    assert spread.values == tuple(run.loop.best_score[0] for run in state.runs[1:])
    assert spread.mean == pytest.approx(sum(spread.values) / 3)
    assert spread.standard_deviation == pytest.approx(torch.tensor(spread.values, dtype=torch.float64).std().item())
    assert 0 <= spread.vote <= 1


def test_a_winner_that_learned_its_rows_by_heart_is_said_to_have(job):
    state = run(job_with(job, steps=20, validate_every_steps=5))
    assert not any("by heart" in said for said in judge(job, state).warnings)
    looks = state.winner.loop.measurements
    looks[-1] = looks[-1].model_copy(update={"training_loss": 0.0, "validation_loss": 2 * looks[-1].validation_loss})
    assert any("by heart" in said for said in judge(job, state).warnings)


def test_a_population_goes_on_from_every_checkpoint_to_the_same_bits(job, tmp_path):
    candidates = (Candidate(), Candidate(seed=1), Candidate(learning_rate=0.3))
    job = job_with(job, steps=12, validate_every_steps=3, candidates=candidates, seeds=2)
    whole, folders = run(job), []

    def keep(state, _):
        folders.append(tmp_path / str(len(folders)))
        folders[-1].mkdir()
        save_checkpoint(folders[-1], state, {})

    run(job, report=keep)
    assert len(folders) > 8
    for folder in folders:
        state, _ = load_checkpoint(folder)
        resumed = run(job, state)
        assert torch.equal(resumed.winner.loop.best_values, whole.winner.loop.best_values)
        assert [(run.dropped_at, run.repeats, run.loop.step) for run in resumed.runs] == [
            (run.dropped_at, run.repeats, run.loop.step) for run in whole.runs
        ]
        looks = [[(look.step, look.validation_loss) for look in state.measurements] for state in (resumed, whole)]
        assert looks[0] == looks[1]
