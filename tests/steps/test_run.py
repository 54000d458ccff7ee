"""The whole line through `softprompt run`: what a person sees, the exit code, and the summary for programs."""

import re

import pytest

from softprompt.artifact import PromptFile
from softprompt.run_summary import RunSummary
from tests.runs import TITLES

STEPS = [step for step in TITLES if step != "publish_prompt"]


def test_a_passed_run_ends_with_0_and_a_rejected_one_with_4(passed_run, rejected_run):
    assert passed_run.process.returncode == 0, passed_run.process.stdout + passed_run.process.stderr
    assert rejected_run.process.returncode == 4, rejected_run.process.stdout + rejected_run.process.stderr


@pytest.mark.parametrize("name", ["passed_run", "rejected_run", "run_after_kill"])
def test_nothing_but_what_a_person_needs_is_printed(name, request):
    run = request.getfixturevalue(name)
    assert run.process.stderr == ""
    assert "Traceback" not in run.process.stdout
    assert "INFO" not in run.process.stdout
    assert len(run.process.stdout.splitlines()) < 50


def test_progress_is_seen_step_by_step(passed_run):
    lines = passed_run.process.stdout.splitlines()
    expected = [line for title in TITLES.values() for line in (f"{title} ...", f"{title}: done in")]
    places = [next(n for n, line in enumerate(lines) if line.startswith(start)) for start in expected]
    assert places == sorted(places)
    assert any(re.search(r"step 3/6: loss [\d.]+, validation loss [\d.]+, accuracy [\d.]+", line) for line in lines)


def test_the_end_shows_scores_side_by_side_the_verdict_and_where_to_look(passed_run):
    summary, out = passed_run.summary, passed_run.process.stdout
    for system, title in {
        "soft_prompt": "soft prompt",
        "bare_base": "bare base",
        "instruction": "hand-written instruction",
    }.items():
        assert re.search(rf"{title} +{summary.metrics[system]['accuracy']:.3f} +{summary.metrics[system]['macro_f1']:.3f}", out)
    assert summary.reason in out
    assert f"report     {summary.report}" in out


def test_a_rejected_run_says_why_and_that_nothing_was_published(rejected_run):
    assert "Rejected: accuracy at least 1, measured 0." in rejected_run.process.stdout
    assert "laptop: not published" in rejected_run.process.stdout


def test_the_summary_has_every_field_that_programs_were_promised(passed_run):
    content = passed_run.content
    assert sorted(content["seconds"]) == sorted(TITLES)
    assert all(seconds > 0 for seconds in content["seconds"].values())
    assert sum(content["seconds"].values()) <= content["total_seconds"]
    assert content["verdict"] == "passed"
    promised = {"accuracy", "macro_f1", "balanced_accuracy", "macro_precision", "macro_recall"}
    of_probabilities = {"ece", "brier"}
    assert {system: set(found) for system, found in content["metrics"].items()} == {
        "soft_prompt": promised | of_probabilities,
        "bare_base": promised | of_probabilities,
        "instruction": promised | of_probabilities,
        "classical": promised,
    }
    assert content["prompt_bytes"] == len(PromptFile.read(passed_run.output("tune_prompt", "prompt")).tensor)
    assert (content["trainable_parameters"], content["total_parameters"]) == (4 * 32, 36_000)
    assert (content["version"], content["channel"], content["generation"]) == ("1", "laptop", 2)
    assert content["base_unchanged"] is True
    assert content["name"] == "colours"


def test_the_summary_of_a_rejected_run_says_what_did_not_happen(rejected_run):
    content = rejected_run.content
    assert (content["verdict"], content["version"], content["generation"], content["publication"]) == ("rejected", "", 0, "")
    assert sorted(content["seconds"]) == sorted([*STEPS, "explain_rejection"])


def test_the_summary_is_kept_with_the_run(passed_run):
    (folder,) = passed_run.home.glob(f"runs/{passed_run.summary.folder.rpartition('/')[2]}")
    kept = RunSummary.from_bytes((folder / "summary.json").read_bytes(), source="kept")
    assert kept == passed_run.summary
    assert "Executing task 'publish-prompt'" in (folder / "pipeline.log").read_text()
