"""Real input: the packaged recipe `banking77` on a subset of real customers' messages, with a small pretrained model."""

import csv
import re
from pathlib import Path

import pytest

from tests.runs import Run, finish_run

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "pipelines" / "recipes" / "banking77.yaml"
INTENTS = ("card_arrival", "exchange_rate", "lost_or_stolen_card", "pin_blocked", "top_up_failed", "transfer_timing")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory, banking77, reference_base) -> Run:
    """The recipe as it is packaged, but for fewer intents and steps; fewer intents ask for fewer tokens."""
    folder = tmp_path_factory.mktemp("banking77")
    for part in ("train", "test"):
        _write_subset(banking77 / f"{part}.csv", folder / f"{part}.csv")
    recipe = folder / "subset.yaml"
    text = RECIPE.read_text().replace("../../../shared/data/banking77", str(folder))
    text = text.replace("../../../shared/models/reference-base", str(reference_base))
    recipe.write_text(re.sub(r"steps: \d+", "steps: 100", text))
    return finish_run(recipe, reference_base, folder / ".softprompt")


def _write_subset(source: Path, target: Path) -> None:
    with source.open(newline="", encoding="utf-8") as read, target.open("w", newline="", encoding="utf-8") as write:
        rows = csv.DictReader(read)
        writer = csv.DictWriter(write, rows.fieldnames or ())
        writer.writeheader()
        writer.writerows(row for row in rows if row["category"] in INTENTS)


def test_a_verdict_is_reached_and_the_prompt_does_far_better_than_the_bare_base(run):
    assert run.process.returncode == 0, run.process.stdout + run.process.stderr
    scores = run.content["metrics"]
    assert run.summary.verdict == "passed"
    assert run.summary.num_test_rows == 40 * len(INTENTS)
    assert run.summary.prompt_num_tokens == 20
    assert scores["soft_prompt"]["accuracy"] > scores["bare_base"]["accuracy"] + 0.3


def test_the_real_base_is_unchanged_and_the_report_is_written(run):
    assert run.summary.base_unchanged
    page = Path(run.summary.report).read_text(encoding="utf-8")
    assert "lost_or_stolen_card" in page
    assert run.summary.generation > 0
