"""A channel is brought to new base models by the real pipeline: one of the same widths, one of others."""

import json

import pytest

from softprompt.artifact import PromptFile
from softprompt.documents import parse_json
from softprompt.fingerprint import fingerprint
from tests.builders import colour_rows, save_llama, write_jsonl, write_recipe
from tests.runs import finish_run, softprompt

pytestmark = pytest.mark.slow

CHAMPION_GATE = "  - {metric: accuracy, not_worse_than: champion, margin: 0.9}\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory, llama_directory):
    """A laptop whose channel serves a prompt of one base, and two other bases."""
    folder = tmp_path_factory.mktemp("retune")
    rows = write_jsonl(folder / "colours.jsonl", colour_rows())
    recipe = write_recipe(folder / "recipe.yaml", llama_directory, rows)
    recipe.write_text(recipe.read_text().rstrip("\n") + "\n" + CHAMPION_GATE)
    run = finish_run(recipe, llama_directory, folder / "home")
    assert run.process.returncode == 0, run.process.stdout + run.process.stderr
    save_llama(folder / "same-widths", seed=1)
    save_llama(folder / "wider", seed=2, hidden_size=64)
    return folder, run


def retuned(folder, base, *options):
    """The command to its end: (exit code, its report, what it printed)."""
    file = folder / f"{base}.json"
    done = softprompt("retune", "--base", folder / base, "--json", file, *options, home=folder / "home", cwd=folder)
    assert file.is_file(), done.stdout + done.stderr
    return done.returncode, json.loads(file.read_text()), done.stdout + done.stderr


def test_every_prompt_gets_one_of_the_new_base_beside_the_old_one(place):
    folder, run = place
    code, report, printed = retuned(folder, "same-widths")
    (result,) = report["results"]
    assert (code, result["outcome"]) == (0, "passed"), printed
    assert result["started_from"] == "prompt"
    assert result["score_before"] == pytest.approx(run.summary.metrics["soft_prompt"]["accuracy"])
    assert result["version"] == "2"
    assert "laptop, generation 3" in result["note"]
    status = softprompt("status", home=folder / "home", cwd=folder)
    assert status.returncode == 0, status.stdout + status.stderr
    (folder_of_run,) = [one for one in (folder / "home" / "runs").iterdir() if str(one) != run.summary.folder]
    (prompt,) = folder_of_run.glob("prompt-tuning-*/tune-prompt/prompt")
    assert PromptFile.read(prompt).manifest.base_fingerprint == fingerprint(folder / "same-widths")


def test_the_gate_against_the_champion_compares_with_what_that_answered_on_its_own_base(place):
    folder, _ = place
    reports = sorted((folder / "home" / "runs").glob("*/prompt-tuning-*/evaluate-prompt/gate_report"))
    content = parse_json(reports[-1].read_bytes(), source="report", max_bytes=10**8)
    (gate,) = [gate for gate in content["gates"] if "champion" in gate["rule"]]
    assert gate["status"] == "passed"
    assert gate["estimate"] is not None
    assert "By what it answered when it was evaluated" in content["notes"]["champion"]


def test_a_prompt_that_does_not_fit_the_new_base_is_no_start_and_no_hindrance(place):
    folder, _ = place
    code, report, printed = retuned(folder, "wider")
    (result,) = report["results"]
    assert (code, result["outcome"], result["started_from"]) == (0, "passed", "frequent_tokens"), printed
    assert "laptop, generation 4" in result["note"]


def test_again_there_is_nothing_to_do(place):
    folder, _ = place
    code, report, printed = retuned(folder, "wider")
    assert (code, [result["outcome"] for result in report["results"]]) == (0, ["skipped"])
    assert "already" in printed


def test_a_base_that_is_not_there_is_refused_before_anything_runs(place):
    folder, _ = place
    done = softprompt("retune", "--base", folder / "nowhere", home=folder / "home", cwd=folder)
    assert done.returncode == 2
    assert "BaseModelUnavailable" in done.stderr
