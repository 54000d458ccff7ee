"""Data that nobody planted anything into: no refusal, and what is warned about is true."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from softprompt.data.rows import normalised
from softprompt.resolve import resolve_recipe
from tests.examining import resolved, said_of

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "pipelines" / "recipes"


def test_the_embedded_tickets_are_taken_with_a_few_doubts_about_labels(tmp_path):
    said = said_of(resolve_recipe(str(RECIPES / "demo.yaml")), tmp_path)
    assert said.refusal == ""
    assert said.checks == {"wrong_labels"}
    assert len(said.lines("wrong_labels")) <= 8, "one in two hundred"


@pytest.mark.slow
def test_banking77_is_taken_and_its_repeated_rows_are_those_that_a_plain_comparison_finds(tmp_path, banking77):
    options = f"test_uri: {banking77 / 'test.csv'}\nsplit: {{test: 0.0}}"
    recipe = resolved(tmp_path, {}, uri=str(banking77 / "train.csv"), target="category", dataset=options, wrong_labels="warn")
    said = said_of(recipe, tmp_path)
    assert said.refusal == ""
    assert said.checks == {"leakage", "duplicates", "near_duplicates", "wrong_labels"}
    found = {finding.check: finding for finding in said.findings}
    places = {part: _places(banking77 / f"{part}.csv") for part in ("train", "test")}
    leaked = sorted(line for text in places["train"].keys() & places["test"].keys() for line in places["train"][text])
    told = zip(found["leakage"].places, found["leakage"].details, strict=True)
    assert [int(place.partition(":")[2]) for place, detail in told if "almost" not in detail] == leaked


def _places(path: Path) -> dict[str, list[int]]:
    """Text as comparisons see it -> lines of the file where it starts."""
    found: dict[str, list[int]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        start = reader.line_num + 1
        for text, _ in reader:
            found[normalised(text)].append(start)
            start = reader.line_num + 1
    return found
