"""A cleaned set has nothing left to drop, says of every row why it went, and is written complete or not at all."""

import csv
import json

import pyarrow.parquet as parquet
import pytest
from transformers import AutoTokenizer

from softprompt.data import mend as mending
from softprompt.data.mend import Outputs
from softprompt.errors import InvalidRequest
from softprompt.resolve import resolve_recipe
from softprompt.validate import validate_here
from tests.builders import colour_rows, save_llama, write_jsonl, write_recipe

ACTIONS = "{duplicates: drop, conflicts: drop, odd_characters: drop, personal_data: drop, near_duplicates: drop}"


def planted() -> list[dict[str, object]]:
    """Good rows, and one or two of each fault; numbers are places."""
    rows: list[dict[str, object]] = [{"name": f"r{number}", **row} for number, row in enumerate(colour_rows())]
    rows[3]["text"] = "ruby " * 30  # too long
    rows[5]["colour"] = ""  # unreadable
    rows[8]["colour"] = "purple"  # not in task.labels
    rows[11]["text"] = rows[10]["text"]  # another answer below
    rows[10]["colour"], rows[11]["colour"] = "red", "blue"
    rows[14] = {"name": "jane.doe@example.com", "text": rows[13]["text"], "colour": rows[13]["colour"]}  # the same again
    rows[17]["text"] = "write to jane.doe@example.com"
    rows[20]["text"] = "sky\u200bline"
    return rows


FAULTS = {
    4: "too_long", 6: "unreadable", 9: "unknown_labels", 11: "conflicts", 12: "conflicts", 15: "duplicates", 18: "personal_data",
    21: "odd_characters",
}  # fmt: skip


@pytest.fixture
def recipe(tmp_path, llama_directory):
    path = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", planted()))
    text = path.read_text().replace(
        "  target_column: colour", f"  target_column: colour\n  id_column: name\n  on_finding: {ACTIONS}"
    )
    path.write_text(text.replace("  type: classification", "  type: classification\n  labels: [red, green, blue]"))
    return path


def logged(path):
    return [json.loads(line) for line in path.with_name(f"{path.name}.dropped.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["clean.jsonl", "clean.csv", "clean.tsv", "clean.parquet", "clean.jsonl.gz", "clean.csv.zst"])
def test_a_cleaned_set_validates_with_nothing_left_to_drop(recipe, tmp_path, name):
    out = tmp_path / name
    before = validate_here(str(recipe), "", fix=out)
    assert before.report.verdict == "refused"
    assert before.mended.remaining == []
    again = validate_here(str(recipe), str(out), fix=tmp_path / "again.jsonl")
    assert again.report.verdict == "accepted"
    assert again.report.num_dropped == {}
    assert not [found for found in again.report.findings if found.severity != "warn"]
    assert logged(tmp_path / "again.jsonl") == []
    rows = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert rows == [row for number, row in enumerate(planted(), start=1) if number not in FAULTS], "in source order, as they were"


def test_every_row_left_out_is_logged_with_its_place_and_no_personal_data(recipe, tmp_path):
    done = validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
    found = logged(tmp_path / "clean.jsonl")
    assert {entry["line"]: entry["check"] for entry in found} == FAULTS
    assert {entry["file"] for entry in found} == {"rows.jsonl"}
    assert all(entry["reason"] for entry in found)
    assert [entry["id"] for entry in found if entry["line"] in (4, 6, 15)] == ["r3", "", "j…@…"]
    assert "jane" not in (tmp_path / "clean.jsonl.dropped.jsonl").read_text()
    assert sum(done.mended.num_dropped.values()) == len(FAULTS)


def test_the_columns_are_those_that_the_recipe_uses(recipe, tmp_path):
    rows = write_jsonl(tmp_path / "more.jsonl", [row | {"unused": 1, "shade": "dark"} for row in planted()])
    recipe.write_text(recipe.read_text().replace("  id_column", "  subgroup_columns: [shade]\n  id_column"))
    validate_here(str(recipe), str(rows), fix=tmp_path / "clean.csv")
    with (tmp_path / "clean.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["name", "text", "colour", "shade"]


def test_a_label_that_loses_its_last_training_row_is_found_in_another_round(tmp_path, llama_directory, monkeypatch):
    rounds = []
    original = mending.run_checks
    monkeypatch.setattr(mending, "run_checks", lambda *arguments: rounds.append(1) or original(*arguments))
    rows = [row | {"part": ("train", "test", "dev")[number % 3]} for number, row in enumerate(colour_rows())]
    rows += [{"text": "plum " * 40, "colour": "purple", "part": "train"}, {"text": "plum", "colour": "purple", "part": "test"}]
    recipe = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", rows))
    recipe.write_text(
        recipe.read_text().replace("  target_column", "  split_column: part\n  split: {test: 0.0}\n  target_column")
    )
    done = validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
    assert done.mended.num_dropped == {"too_long": 1, "unknown_labels": 1}
    assert len(rounds) == 3


def test_what_rows_cannot_mend_is_said(tmp_path, llama_directory):
    rows = [row | {"colour": "red"} for row in colour_rows()]
    recipe = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", rows))
    done = validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
    assert [finding.check for finding in done.mended.remaining] == ["labels"]
    assert done.exit_code == 3


def test_contradictions_beyond_the_limit_are_left_out(tmp_path, llama_directory):
    rows = colour_rows() + [{"text": row["text"], "colour": "blue"} for row in colour_rows()[:40]]
    recipe = write_recipe(tmp_path / "recipe.yaml", llama_directory, write_jsonl(tmp_path / "rows.jsonl", rows))
    done = validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
    assert done.report.verdict == "refused"
    assert done.exit_code == 0
    assert done.mended.num_dropped["conflicts"] > 40


def test_test_rows_of_their_own_go_to_a_file_of_their_own(recipe, tmp_path):
    (tmp_path / "other").mkdir()
    tests = [{"name": f"t{number}", "text": f"emerald and leaf {number}", "colour": "green"} for number in range(40)]
    write_jsonl(tmp_path / "other" / "rows.jsonl", [*tests, {"name": "bad", "text": "", "colour": "green"}])
    recipe.write_text(
        recipe.read_text().replace("  id_column", "  test_uri: other/rows.jsonl\n  split: {test: 0.0}\n  id_column")
    )
    done = validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
    assert [path.name for path in done.mended.files] == ["clean.jsonl", "clean.test.jsonl", "clean.jsonl.dropped.jsonl"]
    assert len((tmp_path / "clean.test.jsonl").read_text().splitlines()) == 40
    assert {json.loads(line)["name"][0] for line in (tmp_path / "clean.jsonl").read_text().splitlines()} == {"r"}


@pytest.fixture
def talks(tmp_path):
    """A recipe of conversations, and a function that writes them."""
    base = save_llama(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(base)
    recipe = write_recipe(tmp_path / "recipe.yaml", base, tmp_path / "talks.jsonl")
    text = recipe.read_text().replace("target_column: colour", "messages_column: messages")
    text = text.replace("classification", "generation").replace('"Thing: {text}\\nColour:"', '"{messages}"')
    recipe.write_text(text.replace("metric: accuracy", "metric: exact_match"))
    return recipe


def talk(*texts):
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def long_talks(bad):
    rows = [{"messages": talk(f"thing {number}", f"so {number}", "and", f"then {number}")} for number in range(60)]
    rows[bad] = {"messages": talk("thing", "so", "and " * 60, "then")}
    return rows


def test_a_conversation_goes_as_a_whole(talks, tmp_path):
    rows = long_talks(7)
    write_jsonl(tmp_path / "talks.jsonl", rows)
    done = validate_here(str(talks), "", fix=tmp_path / "clean.parquet")
    assert parquet.read_table(tmp_path / "clean.parquet").to_pylist() == rows[:7] + rows[8:]
    assert done.mended.num_dropped == {"too_long": 1}
    with pytest.raises(InvalidRequest, match="Conversations do not fit"):
        validate_here(str(talks), "", fix=tmp_path / "clean.csv")


def test_a_turn_of_a_conversation_that_goes_no_longer_counts(talks, tmp_path):
    rows = [row | {"part": "test" if number == 7 else ("train", "dev")[number % 2]} for number, row in enumerate(long_talks(7))]
    write_jsonl(tmp_path / "talks.jsonl", rows)
    talks.write_text(talks.read_text().replace("  messages", "  split_column: part\n  split: {test: 0.0}\n  messages"))
    done = validate_here(str(talks), "", fix=tmp_path / "clean.jsonl")
    assert [(found.check, found.message[:20]) for found in done.mended.remaining] == [("counts", "No rows for test; th")]


class TestWhereItIsWritten:
    """`Outputs.check`."""

    def check(self, recipe, out, *, overwrite=False):
        resolved = resolve_recipe(str(recipe))
        Outputs.at(out, resolved.recipe.dataset).check(resolved, overwrite=overwrite)

    def test_never_over_a_file_without_being_asked(self, recipe, tmp_path):
        (tmp_path / "clean.jsonl").write_text("mine")
        with pytest.raises(InvalidRequest, match="--overwrite"):
            validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
        assert (tmp_path / "clean.jsonl").read_text() == "mine"
        validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl", overwrite=True)
        assert (tmp_path / "clean.jsonl").read_text() != "mine"

    def test_the_log_is_not_overwritten_either(self, recipe, tmp_path):
        (tmp_path / "clean.jsonl.dropped.jsonl").write_text("mine")
        with pytest.raises(InvalidRequest, match=r"clean\.jsonl\.dropped\.jsonl"):
            self.check(recipe, tmp_path / "clean.jsonl")

    def test_never_the_source_itself_by_whatever_name(self, recipe, tmp_path):
        (tmp_path / "link.jsonl").symlink_to(tmp_path / "rows.jsonl")
        for name in ("rows.jsonl", "link.jsonl"):
            with pytest.raises(InvalidRequest, match="replace the dataset"):
                self.check(recipe, tmp_path / name, overwrite=True)

    def test_never_into_the_folder_that_is_the_source(self, recipe, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "rows.jsonl").rename(tmp_path / "data" / "rows.jsonl")
        recipe.write_text(recipe.read_text().replace(f"{tmp_path}/rows.jsonl", f"{tmp_path}/data"))
        with pytest.raises(InvalidRequest, match="become part of it"):
            self.check(recipe, tmp_path / "data" / "clean.jsonl")

    @pytest.mark.parametrize("name", ["clean.xlsx", "clean", "clean.arrow", "nowhere/clean.csv"])
    def test_a_name_that_cannot_be_written_is_refused_before_the_work(self, recipe, tmp_path, name):
        with pytest.raises(InvalidRequest):
            self.check(recipe, tmp_path / name)

    def test_a_write_that_fails_leaves_nothing(self, recipe, tmp_path, monkeypatch):
        def fail(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(mending, "_why_not", fail)
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt):
            validate_here(str(recipe), "", fix=tmp_path / "clean.jsonl")
        assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("softprompt-")) == before
