"""A run that is killed with SIGKILL, its whole process group at once, leaves nothing that a new run trips over."""

import time

import pytest

from softprompt.artifact import PromptFile
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.runs import TITLES, finish_run, kill_run, processes_of

SECONDS_INTO_STEP = {"validate_dataset": 0.5, "tune_prompt": 5.0, "evaluate_prompt": 1.5, "register_prompt": 1.5}
"""How far a step is let; the others end too soon for any wait."""


def all_gone(home, *, within_seconds=30.0):
    """Processes of a state folder that do not end by themselves."""
    until = time.monotonic() + within_seconds
    while (left := processes_of(home)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def test_after_a_kill_in_the_middle_of_training_a_new_run_succeeds(run_after_kill):
    assert run_after_kill.lines_before_kill[-1].startswith("  step 3/6")
    assert run_after_kill.process.returncode == 0, run_after_kill.process.stdout + run_after_kill.process.stderr
    assert run_after_kill.process.stderr == ""


def test_the_new_run_is_as_good_as_one_that_followed_no_kill(run_after_kill, passed_run):
    assert run_after_kill.summary.prompt == passed_run.summary.prompt
    found = dict(run_after_kill.summary.metrics)
    assert found.pop("champion") == found["soft_prompt"], "the run before it is what the channel serves"
    assert found == passed_run.summary.metrics
    assert run_after_kill.summary.version == passed_run.summary.version


def test_the_killed_run_left_no_prompt_that_looks_finished(run_after_kill, passed_run):
    finished = [passed_run.summary.folder, run_after_kill.summary.folder]
    (killed,) = [folder for folder in run_after_kill.home.glob("runs/*") if str(folder) not in finished]
    assert list(killed.glob("*/validate-dataset/dataset/manifest.json")), "the step before was done"
    assert not list(killed.glob("*/tune-prompt/prompt*"))
    assert not (killed / "summary.json").exists()


def test_no_process_outlives_a_run(passed_run):
    assert all_gone(passed_run.home) == {}


@pytest.mark.slow
@pytest.mark.parametrize("step", TITLES)
def test_after_a_kill_in_any_step_a_new_run_succeeds(step, tmp_path, llama_directory):
    rows = write_jsonl(tmp_path / "rows.jsonl", colour_rows())
    recipe, home = write_recipe(tmp_path / "recipe.yaml", llama_directory, rows), tmp_path / "home"
    lines = kill_run(recipe, home, lambda line: line == f"{TITLES[step]} ...", delay_seconds=SECONDS_INTO_STEP.get(step, 0.1))
    assert not any(line.startswith(f"{TITLES[step]}: done") for line in lines)

    run = finish_run(recipe, llama_directory, home)
    assert run.process.returncode == 0, run.process.stdout + run.process.stderr
    assert (run.summary.verdict, run.summary.version) == ("passed", "1")
    assert run.summary.publication in ("published", "unchanged")
    assert PromptFile.read(run.output("tune_prompt", "prompt")).digest == run.summary.prompt
    assert all_gone(home) == {}
