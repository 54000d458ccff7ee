"""A fairness objective is the same with any workers, micro-batches and after any kill; none is left where none is asked for."""

from dataclasses import replace

import pytest
import torch

from softprompt.data.validate import validate_dataset
from softprompt.errors import InvalidRecipe
from softprompt.recipe.training import Candidate, FairnessSpec
from softprompt.resolve import ResolvedRecipe, resolve_recipe
from softprompt.tuning.checkpoint import load_checkpoint, save_checkpoint
from softprompt.tuning.fair_training import FairTraining, log_probabilities, validation_gap
from softprompt.tuning.groups import Groups
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop
from softprompt.tuning.outcome import judge
from softprompt.tuning.population import PopulationState, fairest, run_population
from softprompt.tuning.report import write_training_report
from softprompt.tuning.tune import write_results
from softprompt.tuning.workers import Workers
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.gloo import on_workers
from tests.variations import job_with, resolved_with

METHODS = ("gap", "adversary")


def shop_of(number: int) -> str:
    return ("north", "south", "south", "west")[number % 4] if number % 50 else "kiosk"


@pytest.fixture
def resolved(tmp_path, llama_directory):
    """Colours of four shops, one of which has three rows; fairness between them is asked for."""
    rows = [{**row, "shop": shop_of(number)} for number, row in enumerate(colour_rows(300))]
    path = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", rows))
    text = path.read_text().replace("target_column: colour", "target_column: colour\n  subgroup_columns: [shop]")
    path.write_text(text.replace("validate_every_steps: 3}", "validate_every_steps: 3, fairness: {column: shop, weight: 5.0}}"))
    return resolve_recipe(str(path))


@pytest.fixture
def dataset(tmp_path, resolved):
    validate_dataset(resolved, tmp_path / "dataset", tmp_path / "dataset.html")
    return tmp_path / "dataset"


@pytest.fixture
def job(resolved, dataset):
    return Job.load(resolved, dataset)


def with_fairness(job: Job, **changes: object) -> Job:
    return job_with(job, fairness=job.recipe.training.fairness.model_copy(update=changes))


def train(job: Job, state: LoopState | None = None, report=lambda state: None) -> LoopState:
    return run_loop(job, 0, Candidate(), state or LoopState.begin(job, Candidate()), Workers(), report)


def test_rows_carry_their_group_and_small_groups_none(job):
    assert job.groups.names == ("north", "south", "west")
    examples = job.training_examples(range(len(job.train)))
    assert {example.group for example in examples} == {-1, 0, 1, 2}
    assert sum(example.group == -1 for example in examples) < 30
    assert {example.group for example in job.validation} >= {0, 1, 2}


@pytest.mark.parametrize("weight", [0.0, None])
def test_without_weight_it_is_plain_training_bit_for_bit(job, weight):
    plain = job_with(job, fairness=None)
    asked = with_fairness(job, weight=0.0) if weight is not None else job_with(job, fairness=None)
    expected, found = train(replace(plain, groups=None)), train(asked)
    assert torch.equal(found.best_values, expected.best_values)
    assert all(torch.equal(found.optimiser[name], value) for name, value in expected.optimiser.items())
    assert found.fairness == expected.fairness == {}
    assert [look.training_loss for look in found.measurements] == [look.training_loss for look in expected.measurements]
    assert all((look.validation_gap is None) == (weight is None) for look in found.measurements)


@pytest.mark.parametrize("method", METHODS)
def test_an_objective_changes_the_prompt(job, method):
    plain, fair = train(with_fairness(job, weight=0.0)), train(with_fairness(job, method=method))
    assert not torch.equal(fair.parameters["offset"], plain.parameters["offset"])


@pytest.mark.parametrize("criterion", ["demographic_parity", "equal_opportunity", "equalised_odds"])
@pytest.mark.parametrize("method", METHODS)
def test_micro_batches_give_the_gradient_of_the_whole_batch(job, method, criterion):
    job = with_fairness(job, method=method, criterion=criterion)
    whole = train(job)
    for size in (3, 1):
        cut = train(job_with(job, micro_batch_size=size))
        difference = (cut.parameters["offset"] - whole.parameters["offset"]).norm()
        assert difference / whole.parameters["offset"].norm() < 1e-4
        for name, value in whole.fairness.items():
            assert torch.allclose(cut.fairness[name], value, atol=1e-4), name


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_from_a_checkpoint_to_the_same_bits(job, tmp_path, method):
    job = with_fairness(job, method=method)
    job, kept = job_with(job, steps=9), []
    whole = run_population(job, PopulationState(), Workers(), lambda *_: None)

    def keep(state, _):
        folder = tmp_path / f"{len(kept)}"
        folder.mkdir()
        save_checkpoint(folder, state, {})
        kept.append(load_checkpoint(folder)[0])

    run_population(job, PopulationState(), Workers(), keep)
    assert len(kept) == 3
    for state in kept:
        resumed = run_population(job, state, Workers(), lambda *_: None)
        assert torch.equal(resumed.winner.loop.best_values, whole.winner.loop.best_values)
        assert resumed.winner.loop.fairness.keys() == whole.winner.loop.fairness.keys()
        assert all(torch.equal(resumed.winner.loop.fairness[n], v) for n, v in whole.winner.loop.fairness.items())


def values_and_state(resolved: bytes, dataset, method: str, num_shards: int = 0):
    job = with_fairness(Job.load(ResolvedRecipe.from_bytes(resolved, source="test"), dataset), method=method)
    state = run_population(job, PopulationState(), Workers.current(num_shards), lambda *_: None)
    return state.winner.loop.parameters["offset"], state.winner.loop.fairness, [m.validation_gap for m in state.measurements]


@pytest.mark.parametrize("method", METHODS)
def test_two_workers_go_the_way_of_one(resolved, dataset, method):
    expected, state, gaps = values_and_state(resolved.to_bytes(), dataset, method)
    values, found, found_gaps = on_workers(2, values_and_state, resolved.to_bytes(), dataset, method)
    assert (values - expected).norm() / expected.norm() < 1e-3
    assert all(torch.allclose(found[name], value, atol=1e-3) for name, value in state.items())
    assert found_gaps == pytest.approx(gaps, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_where_the_number_of_workers_may_change_it_changes_no_bit(resolved, dataset, method):
    expected, state, gaps = on_workers(1, values_and_state, resolved.to_bytes(), dataset, method, 3)
    values, found, found_gaps = on_workers(2, values_and_state, resolved.to_bytes(), dataset, method, 3)
    assert torch.equal(values, expected)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert found_gaps == gaps


def test_the_gap_on_validation_is_that_of_its_decisions(job):
    job = job_with(job, steps=3)
    spec, prompt = job.recipe.training.fairness, job.initial_prompt(Candidate())
    with torch.no_grad():
        said = log_probabilities(job, job.strategy.prefix(prompt), job.validation).argmax(dim=1).tolist()
    shares = []
    for label in range(3):
        by_group = [[s == label for s, e in zip(said, job.validation, strict=True) if e.group == g] for g in range(3)]
        known = [sum(group) / len(group) for group in by_group if len(group) >= 30]
        shares.append(max(known, default=0) - min(known, default=0))
    assert validation_gap(job, prompt, spec, Workers()) == pytest.approx(max(shares))


def run_of(number, accuracy, gap):
    class Look:
        validation_accuracy, validation_gap = accuracy, gap

    class Loop:
        best_look = Look

    class OneRun:
        loop = Loop

    OneRun.number = number
    return OneRun


def test_of_those_that_are_accurate_enough_the_fairest_is_chosen():
    runs = [run_of(0, 0.90, 0.30), run_of(1, 0.89, 0.12), run_of(2, 0.88, 0.10), run_of(3, 0.87, 0.01)]
    assert fairest(runs, 2.0).number == 2
    assert fairest(runs, 1.0).number == 1
    assert fairest(runs, 0.0).number == 0
    assert fairest(runs, 100.0).number == 3


def test_weights_are_candidates_that_all_go_to_the_end_and_the_page_shows_each(job, resolved, tmp_path):
    job = with_fairness(job, weights=(0.0, 1.0, 50.0), max_accuracy_loss=100.0)
    resolved = resolved.model_copy(update={"recipe": job.recipe})
    state = run_population(job, PopulationState(), Workers(), lambda *_: None)
    assert [run.candidate.fairness_weight for run in state.runs] == [0.0, 1.0, 50.0]
    assert {run.loop.step for run in state.runs} == {6}
    gaps = [run.loop.best_look.validation_gap for run in state.runs]
    assert state.winner.loop.best_look.validation_gap == min(gaps)
    state.outcome = judge(job, state)
    found = state.outcome.fairness
    assert [point.weight for point in found.points] == [0.0, 1.0, 50.0]
    for point, run in zip(found.points, state.runs, strict=True):
        assert point.accuracy[0] == pytest.approx(run.loop.best_look.validation_accuracy, abs=0.02)
        assert point.gap[0] == pytest.approx(run.loop.best_look.validation_gap, abs=0.05)
        assert point.accuracy[1] <= point.accuracy[0] <= point.accuracy[2]
        assert 0 <= point.gap[1] <= point.gap[0] <= point.gap[2] <= 1
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_checkpoint(folder, state, {})
    again, _ = load_checkpoint(folder)
    assert again.outcome == state.outcome
    assert again.winner.number == state.winner.number == found.kept
    from softprompt.tuning.ray_worker import facts_of

    facts = facts_of(job, Workers()) | {"base_digest_before": "1" * 64, "base_digest_after": "1" * 64}
    log = write_results(resolved, again, facts, tmp_path / "prompt", tmp_path / "log.json")
    write_training_report(tmp_path / "page.html", resolved, log)
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Fairness</h2>" in page
    assert "the smallest gap among those within 100 points of the best accuracy" in page
    assert "validation accuracy against largest gap between groups, demographic parity" in page


def test_only_prompts_vectors_are_in_the_prompt_file(job, resolved, tmp_path):
    job = with_fairness(job, method="adversary")
    state = run_population(job, PopulationState(), Workers(), lambda *_: None)
    assert state.winner.loop.fairness
    assert state.winner.loop.best_values.shape == (4, 32)


def test_one_group_is_refused(resolved, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{**row, "shop": "north"} for row in colour_rows(150)])
    validate_dataset(resolve_recipe(str(tmp_path / "recipe.yaml")), tmp_path / "one", tmp_path / "one.html")
    with pytest.raises(InvalidRecipe, match="no groups") as caught:
        Groups.read(tmp_path / "one", "shop")
    assert "at least 30 training rows each" in str(caught.value)


def test_a_label_that_no_row_has_is_refused(job, resolved, dataset):
    wrong = resolved_with(resolved, fairness=FairnessSpec(column="shop", label="mauve"))
    with pytest.raises(InvalidRecipe, match="not one of the dataset's") as caught:
        Job.load(wrong, dataset)
    assert "mauve" in str(caught.value)


def test_an_adversary_without_a_deceiver_learns_the_group(job):
    """Trained against a prompt that does not move, it tells groups apart as well as their answers allow."""
    fairness = FairTraining(job, FairnessSpec(column="shop", method="adversary", weight=1.0), seed=0)
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(0, 2, (400,), generator=generator)
    sure = torch.where(groups[:, None] == torch.tensor([0, 1, -1]), 2.0, 0.0).log_softmax(dim=1)
    losses = []
    for _ in range(200):
        fairness.objective.begin(groups, groups)
        loss = fairness.objective(sure, groups, groups)
        loss.backward()
        losses.append(loss.item())
        fairness.end(fairness.take_exchanged())
    assert losses[-1] < 0.1 < 0.6 < losses[0]
