"""The step as a whole: what is refused, what is written, and that it is the same for the same rows."""

import hashlib
import json

import pytest

from softprompt.data.dataset import read_manifest, read_part
from softprompt.data.validate import validate_dataset
from softprompt.errors import DatasetRefused, InvalidRecipe, VerificationFailed
from softprompt.resolve import resolve_recipe
from tests.builders import COLOURS, colour_rows, write_jsonl, write_recipe

PAIRS = [(colour, thing) for colour, things in COLOURS.items() for thing in things]


def run(tmp_path, base, rows, *, name="dataset", edit=lambda text: text):
    path = write_jsonl(tmp_path / "rows.jsonl", rows) if isinstance(rows, list) else rows
    recipe = write_recipe(tmp_path / "recipe.yaml", base, path)
    recipe.write_text(edit(recipe.read_text()))
    resolved = resolve_recipe(str(recipe))
    return validate_dataset(resolved, tmp_path / name, tmp_path / f"{name}.html")


def refusal(tmp_path, base, rows, **options) -> str:
    with pytest.raises(DatasetRefused) as caught:
        run(tmp_path, base, rows, **options)
    assert not (tmp_path / "dataset").exists(), "a refused dataset leaves no half artifact"
    return str(caught.value)


def counts(manifest) -> dict[str, int]:
    """Check -> rows that it found."""
    return {finding.check: finding.num_rows for finding in manifest.findings}


def test_a_good_dataset_is_written_with_its_counts(tmp_path, llama_directory):
    manifest = run(tmp_path, llama_directory, colour_rows())
    parts = {part: read_part(tmp_path / "dataset", part) for part in ("train", "validation", "test")}
    assert {part: len(rows) for part, rows in parts.items()} == manifest.num_rows
    assert sum(manifest.num_rows.values()) == 150
    assert manifest.labels == ("blue", "green", "red")
    assert read_manifest(tmp_path / "dataset") == manifest
    assert {row.inputs["text"] for rows in parts.values() for row in rows} == {row["text"] for row in colour_rows()}


def test_the_same_rows_give_the_same_bytes_and_another_order_the_same_digest(tmp_path, llama_directory):
    first = run(tmp_path, llama_directory, colour_rows(), name="one")
    run(tmp_path, llama_directory, colour_rows(), name="two")
    hashes = [
        [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((tmp_path / name).iterdir())] for name in ("one", "two")
    ]
    assert hashes[0] == hashes[1]
    assert run(tmp_path, llama_directory, colour_rows()[::-1], name="three").content_digest == first.content_digest
    changed = colour_rows()
    changed[0]["colour"] = "blue"
    assert run(tmp_path, llama_directory, changed, name="four").content_digest != first.content_digest


def test_an_empty_dataset_is_refused(tmp_path, llama_directory):
    assert "not one usable row" in refusal(tmp_path, llama_directory, [])


def test_a_row_without_the_column_is_named(tmp_path, llama_directory):
    rows = colour_rows()
    del rows[7]["text"]
    message = refusal(tmp_path, llama_directory, rows)
    assert "rows.jsonl:8" in message
    assert "no column 'text'" in message


def test_a_label_that_only_evaluation_rows_have_is_refused(tmp_path, llama_directory):
    write_jsonl(tmp_path / "test.jsonl", [{"text": f"plum {i}", "colour": "purple"} for i in range(3)] + colour_rows(60)[40:])

    def with_test_file(text):
        return text.replace("  target_column: colour", "  target_column: colour\n  test_uri: test.jsonl\n  split: {test: 0.0}")

    message = refusal(tmp_path, llama_directory, colour_rows(), edit=with_test_file)
    assert "Labels that no training row has: purple" in message
    assert "test.jsonl:1" in message


def test_training_rows_that_a_test_row_repeats_are_left_out(tmp_path, llama_directory):
    write_jsonl(tmp_path / "test.jsonl", colour_rows(45))

    def with_test_file(text):
        return text.replace("  target_column: colour", "  target_column: colour\n  test_uri: test.jsonl\n  split: {test: 0.0}")

    manifest = run(tmp_path, llama_directory, colour_rows(150), edit=with_test_file)
    assert manifest.num_rows["test"] == 45
    assert sum(manifest.num_rows.values()) == 45 + 150 - counts(manifest)["leakage"]
    assert manifest.num_dropped == {"leakage": counts(manifest)["leakage"]}
    assert counts(manifest)["leakage"] >= 45


def test_text_beyond_the_context_is_refused_with_the_arithmetic(tmp_path, llama_directory):
    rows = colour_rows()
    rows[3]["text"] = "ruby " * 30
    message = refusal(tmp_path, llama_directory, rows)
    assert "context of 64 tokens less 4 prompt tokens leaves 60" in message
    assert "rows.jsonl:4" in message
    assert "tokens" in message


def test_the_longest_candidate_leaves_the_least_room(tmp_path, llama_directory):
    rows = colour_rows()
    rows[3]["text"] = "ruby " * 30
    candidates = "training: {candidates: [{num_tokens: 3}, {num_tokens: 9}], "
    message = refusal(tmp_path, llama_directory, rows, edit=lambda recipe: recipe.replace("training: {", candidates))
    assert "context of 64 tokens less 9 prompt tokens leaves 55" in message


def test_one_label_is_no_choice(tmp_path, llama_directory):
    rows = [row | {"colour": "red"} for row in colour_rows()]
    assert "1 different labels; a choice needs two" in refusal(tmp_path, llama_directory, rows)


def test_too_many_contradictions_are_refused_and_a_few_are_told(tmp_path, llama_directory):
    rows = colour_rows()
    few = [*rows, {"text": rows[0]["text"], "colour": "blue"}]
    assert counts(run(tmp_path, llama_directory, few, name="few"))["conflicts"] == 2
    many = rows + [{"text": row["text"], "colour": "blue"} for row in rows[:40]]
    assert "same input as another row, and another answer" in refusal(tmp_path, llama_directory, many)


def test_a_verbaliser_for_a_label_that_is_not_there_is_refused(tmp_path, llama_directory):
    edit = lambda text: text.replace("  type: classification", "  type: classification\n  verbalisers: {rde: ' red'}")
    assert "names labels that no row has: rde" in refusal(tmp_path, llama_directory, colour_rows(), edit=edit)


def test_labels_said_with_the_same_words_are_refused(tmp_path, llama_directory):
    edit = lambda text: text.replace("  type: classification", "  type: classification\n  verbalisers: {red: ' x', blue: ' x'}")
    with pytest.raises(InvalidRecipe, match="cannot be told apart"):
        run(tmp_path, llama_directory, colour_rows(), edit=edit)


def test_a_dataset_that_changed_since_it_was_resolved_is_refused(tmp_path, llama_directory):
    path = write_jsonl(tmp_path / "rows.jsonl", colour_rows())
    resolved = resolve_recipe(str(write_recipe(tmp_path / "recipe.yaml", llama_directory, path)))
    write_jsonl(path, colour_rows(151))
    with pytest.raises(VerificationFailed, match="changed since the run began"):
        validate_dataset(resolved, tmp_path / "dataset", tmp_path / "dataset.html")


def test_the_report_is_written_before_a_refusal_and_names_the_rows(tmp_path, llama_directory):
    rows = colour_rows()
    rows[4]["colour"] = ""
    refusal(tmp_path, llama_directory, rows)
    page = (tmp_path / "dataset.html").read_text()
    assert "Refused" in page
    assert "rows.jsonl:5" in page


def test_the_report_escapes_what_rows_say(tmp_path, llama_directory):
    rows = [*colour_rows(), {"text": "x", "colour": "<script>alert(1)</script>"}]
    run(tmp_path, llama_directory, rows)
    assert "<script>alert" not in (tmp_path / "dataset.html").read_text()


def test_repeated_rows_are_counted(tmp_path, llama_directory):
    manifest = run(tmp_path, llama_directory, colour_rows() + colour_rows()[:3])
    assert counts(manifest)["duplicates"] == 3


def test_a_killed_write_leaves_no_half_artifact(tmp_path, llama_directory, monkeypatch):
    import pyarrow.parquet

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_batch", fail)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, llama_directory, colour_rows())
    assert not (tmp_path / "dataset").exists()
    monkeypatch.undo()
    run(tmp_path, llama_directory, colour_rows())
    assert json.loads((tmp_path / "dataset" / "manifest.json").read_bytes())["schema_version"] == 1


def test_a_test_row_with_an_unlikely_label_is_told_but_never_dropped(tmp_path, llama_directory):
    """A test without the rows that a simple model gets wrong would flatter every prompt."""
    rows = [{"text": f"{thing} {number}", "colour": colour} for number in range(40) for colour, thing in PAIRS]
    for row in rows[::11]:
        row["colour"] = "blue" if row["colour"] != "blue" else "red"

    def dropping(text):
        wishes = "on_finding: {wrong_labels: drop}\n  limits: {similarity: 1.0}"
        return text.replace('limits: {similarity: 1.0}  # "ruby number 1" and "ruby number 10" are two rows here', wishes)

    manifest = run(tmp_path, llama_directory, rows, edit=dropping)
    said = {found.severity: found.num_rows for found in manifest.findings if found.check == "wrong_labels"}
    assert manifest.num_dropped["wrong_labels"] == said["drop"] > 3
    assert said["warn"] >= 1
    untouched = run(tmp_path, llama_directory, rows, name="untouched")
    assert manifest.num_rows["test"] == untouched.num_rows["test"]
    assert manifest.num_rows["train"] < untouched.num_rows["train"]


def test_a_manifest_of_an_unknown_version_is_refused(tmp_path, llama_directory):
    run(tmp_path, llama_directory, colour_rows())
    path = tmp_path / "dataset" / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version":1}', '"schema_version":2}'))
    with pytest.raises(VerificationFailed, match="not a valid DatasetManifest"):
        read_manifest(tmp_path / "dataset")
