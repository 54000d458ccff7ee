"""`softprompt validate`: the verdict is the exit code, the page and the JSON say the same, nothing is left behind."""

import json
import re

import pytest
from typer.testing import CliRunner

from softprompt.cli import app
from softprompt.data.examined import Found
from softprompt.data.report import DatasetReport
from softprompt.data.rows import PARTS, Row
from tests.builders import colour_rows, write_jsonl, write_recipe


@pytest.fixture
def recipe(tmp_path, llama_directory):
    return write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", colour_rows()))


def validate(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)], env={"COLUMNS": "200", "TERM": "dumb"})


def test_a_good_dataset_ends_with_0_and_its_numbers(recipe, tmp_path):
    result = validate("--recipe", recipe, "--json", tmp_path / "report.json", "--html", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    report = DatasetReport.from_bytes((tmp_path / "report.json").read_bytes(), source="json")
    assert result.stdout.startswith("Accepted")
    assert ", ".join(f"{report.num_rows[part]} {part}" for part in PARTS) in result.stdout
    assert f"{report.baseline.test_accuracy:.3f} on test rows" in result.stdout
    page = (tmp_path / "report.html").read_text()
    assert "Accepted" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "nothing is loaded from elsewhere"
    assert "[validate_dataset]" not in result.stdout, "progress is not the result"
    assert not list((tmp_path / "softprompt-cache").glob(".rows*")), "the scratch folder is gone"


def test_a_refused_dataset_ends_with_3_and_names_the_rows(recipe, tmp_path):
    rows = colour_rows()
    rows[6]["colour"] = ""
    bad = write_jsonl(tmp_path / "bad.jsonl", rows)
    result = validate(bad, "--recipe", recipe, "--html", tmp_path / "report.html")
    assert result.exit_code == 3
    assert result.stdout.startswith("Refused")
    assert "bad.jsonl:7  column 'colour' is empty" in result.stdout
    assert "bad.jsonl:7" in (tmp_path / "report.html").read_text(), "the page is there all the same"


def test_the_cleaned_set_decides_where_one_is_written(recipe, tmp_path):
    rows = colour_rows()
    rows[6]["colour"] = ""
    result = validate(write_jsonl(tmp_path / "bad.jsonl", rows), "--recipe", recipe, "--fix", tmp_path / "clean.csv")
    assert result.exit_code == 0
    assert "149 rows in" in result.stdout
    assert "1 unreadable" in result.stdout
    assert validate(tmp_path / "clean.csv", "--recipe", recipe).exit_code == 0


def test_a_path_counts_from_here(recipe, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    write_jsonl(tmp_path / "here" / "mine.jsonl", colour_rows(120))
    monkeypatch.chdir(tmp_path / "here")
    result = validate("mine.jsonl", "--recipe", recipe, "--json", "report.json")
    assert result.exit_code == 0
    assert sum(json.loads((tmp_path / "here" / "report.json").read_text())["num_rows"].values()) == 120


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--recipe", "nowhere.yaml"],
        ["--recipe", "demo", "--html", "nowhere/page.html"],
        ["--recipe", "demo", "--fix", "a.xls"],
    ],
    ids=" ".join,
)
def test_a_wrong_recipe_or_command_ends_with_2(arguments):
    result = validate(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_a_file_that_cannot_be_read_on_ends_with_3(recipe, tmp_path):
    (tmp_path / "torn.csv").write_text('text,colour\n"never closed,red\n')
    result = validate(tmp_path / "torn.csv", "--recipe", recipe)
    assert result.exit_code == 3
    assert "torn.csv" in result.output


def test_what_rows_say_is_printed_as_it_is_and_personal_data_is_not(recipe, tmp_path):
    rows = colour_rows()
    rows[2]["text"] = "write to jane.doe@example.com [red]"
    rows[3]["colour"] = "[bold]x[/]"
    result = validate(write_jsonl(tmp_path / "mine.jsonl", rows), "--recipe", recipe)
    assert "an e-mail address (j…@…)" in result.stdout
    assert "jane" not in result.stdout
    assert "[bold]x[/]" in result.stdout


def test_an_id_and_a_fault_are_masked_too(recipe, tmp_path):
    recipe.write_text(
        recipe.read_text().replace("  target_column", "  id_column: who\n  must_pass_column: always\n  target_column")
    )
    rows = [row | {"who": f"jane{number}@example.com", "always": "no"} for number, row in enumerate(colour_rows())]
    rows[2]["text"] = "sky\u200bline"
    rows[3]["always"] = "ask jane@example.com"
    result = validate(write_jsonl(tmp_path / "mine.jsonl", rows), "--recipe", recipe, "--json", tmp_path / "r.json")
    assert "mine.jsonl:3 (j…@…)" in result.stdout
    assert "mine.jsonl:4  column 'always' says" in result.stdout
    assert "jane" not in result.stdout + (tmp_path / "r.json").read_text()


def test_what_a_check_says_of_a_row_is_masked():
    found = Found("any", "It is so.", detail=lambda place, row: f"{place}: {row.target}")
    assert found.said_of(3, Row("x", 1, {}, "to jane@example.com")) == "3: to j…@…"


def test_rows_that_moved_with_their_cluster_are_listed_without_a_warning(recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("  target_column", "  group_column: customer\n  target_column"))
    rows = [row | {"customer": f"c{number // 10}"} for number, row in enumerate(colour_rows())]
    validate(
        write_jsonl(tmp_path / "mine.jsonl", rows),
        "--recipe",
        recipe,
        "--json",
        tmp_path / "r.json",
        "--html",
        tmp_path / "r.html",
    )
    report = DatasetReport.from_bytes((tmp_path / "r.json").read_bytes(), source="json")
    assert report.num_moved == len(report.moved) > 10
    row = report.moved[0]
    assert row.part != row.instead_of
    assert row.place != row.leader
    number, leader = (int(place.split(":")[1]) - 1 for place in (row.place, row.leader))
    assert rows[number]["customer"] == rows[leader]["customer"]
    assert not [found for found in report.findings if "moved" in found.check]
    assert f"{report.num_moved} rows went with a row" in (tmp_path / "r.html").read_text()


def test_where_the_data_say_the_parts_nothing_moves(recipe, tmp_path):
    recipe.write_text(
        recipe.read_text().replace(
            "  target_column", "  group_column: customer\n  split_column: part\n  split: {test: 0.0}\n  target_column"
        )
    )
    parts = ("train", "train", "dev", "test")
    rows = [row | {"customer": f"c{n // 20}", "part": parts[n // 20 % 4]} for n, row in enumerate(colour_rows(160))]
    validate(write_jsonl(tmp_path / "mine.jsonl", rows), "--recipe", recipe, "--json", tmp_path / "r.json")
    assert DatasetReport.from_bytes((tmp_path / "r.json").read_bytes(), source="json").num_moved == 0
