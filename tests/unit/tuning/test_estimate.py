"""What `--estimate` says before a run is what the run then does."""

import pytest
from typer.testing import CliRunner

from softprompt.artifact import PromptFile
from softprompt.cli import app
from softprompt.errors import DatasetRefused
from softprompt.resolve import resolve_recipe
from softprompt.tuning import loop
from softprompt.tuning.estimate import estimate_run
from softprompt.tuning.job import Job
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.workers import Workers
from tests.builders import colour_rows, write_jsonl, write_recipe


@pytest.fixture
def counted(monkeypatch):
    """Rows of every step that is taken."""
    batches = []
    real = loop.take_step

    def take_step(job, training, module, optimiser, examples, *more):
        batches.append(examples)
        return real(job, training, module, optimiser, examples, *more)

    monkeypatch.setattr(loop, "take_step", take_step)
    return batches


def recipe_with(path, base, rows, training, kind="shallow"):
    """The colours recipe with another training."""
    write_recipe(path, base, rows, kind=kind)
    path.write_text(path.read_text().replace("steps: 6, batch_size: 8", training))
    return str(path)


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize(
    "training", ["steps: 22, batch_size: 8", "steps: 11, batch_size: 8, halving: false, candidates: [{seed: 1}, {seed: 2}]"]
)
def test_steps_tokens_numbers_and_bytes(tmp_path, llama_directory, colours, counted, training, kind):
    resolved = resolve_recipe(recipe_with(tmp_path / "recipe.yaml", llama_directory, colours, training, kind))
    estimate = estimate_run(resolved)
    counted.clear()

    from softprompt.data.validate import validate_dataset

    manifest = validate_dataset(resolved, tmp_path / "dataset", tmp_path / "report.html")
    job = Job.load(resolved, tmp_path / "dataset")
    state = run_population(job, PopulationState(), Workers(), lambda *_: None)

    assert estimate.steps == len(counted) == 22
    assert estimate.tokens == pytest.approx(sum(row.num_tokens for rows in counted for row in rows), rel=0.01)
    assert estimate.rows == manifest.num_rows
    values = state.winner.loop.best_values.numpy()
    assert estimate.trainable_parameters == values.size
    assert estimate.base_parameters == sum(parameter.numel() for parameter in job.base.model.parameters())
    file = PromptFile.build(
        values,
        task="generation",
        template="{text}",
        template_examples=(),
        answers=(),
        max_new_tokens=1,
        base_fingerprint="0" * 64,
    )
    assert estimate.prompt_bytes == pytest.approx(len(file.tensor), abs=32)


def test_time_is_that_of_the_steps_and_of_starting_ray(tmp_path, llama_directory, colours):
    few = estimate_run(resolve_recipe(recipe_with(tmp_path / "few.yaml", llama_directory, colours, "steps: 2, batch_size: 8")))
    many = estimate_run(
        resolve_recipe(recipe_with(tmp_path / "many.yaml", llama_directory, colours, "steps: 20000, batch_size: 8"))
    )
    assert few.step_seconds > 0
    assert few.tuning_seconds < 20 + 60
    assert many.tuning_seconds > 20000 * many.step_seconds


def test_a_dataset_that_a_run_would_refuse_is_refused(tmp_path, llama_directory):
    rows = write_jsonl(tmp_path / "rows.jsonl", colour_rows(3))
    with pytest.raises(DatasetRefused):
        estimate_run(resolve_recipe(str(write_recipe(tmp_path / "recipe.yaml", llama_directory, rows))))


def test_the_command_prints_it_and_leaves_nothing(tmp_path, llama_directory, colours, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = write_recipe(tmp_path / "recipe.yaml", llama_directory, colours)
    before = sorted(path.name for path in tmp_path.iterdir())
    result = CliRunner().invoke(app, ["run", str(recipe), "--estimate"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "88 train, 28 validation, 34 test" in result.output
    assert "6 at " in result.output
    assert "36,000 numbers, frozen" in result.output
    assert "128 numbers, 6" in result.output
    after = sorted(path.name for path in tmp_path.iterdir() if path.name != "softprompt-cache")
    assert after == before
