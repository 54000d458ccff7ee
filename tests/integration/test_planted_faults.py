"""Planted faults of every kind: each is found by the check that it belongs to, in the right rows, and nothing else is."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import zstandard

from softprompt.data.examined import Found
from softprompt.data.validate import examine
from softprompt.embedded.fault_kinds import BREAKERS, NEW_QUEUE, PERSONAL_VALUES, TRIGGER, Row
from softprompt.embedded.faults import KINDS, plant_faults
from softprompt.embedded.tickets import generate_tickets
from softprompt.errors import DatasetRefused
from tests.examining import QUEUES, Said, artifact, jsonl, resolved, said_of, sound_tickets

SPLIT = "split_column: split\nsplit: {test: 0.0}"
LISTED = f", labels: [{', '.join(QUEUES)}]"


@pytest.fixture(scope="module")
def sound() -> list[Row]:
    return sound_tickets()


@dataclass(frozen=True)
class Kind:
    """What is expected of a planted kind: check, severity, and more of the recipe."""

    check: str
    severity: str = "warn"
    dataset: str = ""
    task: str = ""
    num_each: int = 3
    also: frozenset[str] = frozenset()
    """Checks that may find something, too, and are right."""


ROW_KINDS = {
    **{kind: Kind("unreadable", "refuse") for kind in BREAKERS},
    **{kind: Kind("personal_data") for kind in PERSONAL_VALUES},
    "duplicates": Kind("duplicates"),
    "near_duplicates": Kind("near_duplicates"),
    "conflicts": Kind("conflicts"),
    "leakage": Kind("leakage", "drop", SPLIT),
    "near_leakage": Kind("leakage", "drop", SPLIT),
    "odd_characters": Kind("odd_characters", num_each=5),
    "mojibake": Kind("mojibake"),
    "mixed_scripts": Kind("mixed_scripts"),
    "instructions": Kind("instructions", num_each=5),
    "languages": Kind("languages"),
    "too_long": Kind("too_long", "refuse"),
    "new_label": Kind("unknown_labels", "refuse", task=LISTED, also=frozenset({"rare_labels", "imbalance"})),
}


def test_the_sound_tickets_are_sound(sound, tmp_path):
    said = said_of(resolved(tmp_path, {"rows.jsonl": jsonl(sound)}, wrong_labels="warn"), tmp_path)
    assert said.refusal == ""
    assert said.checks <= {"wrong_labels"}
    assert len(said.lines("wrong_labels")) <= 0.02 * len(sound), "false alarms"


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_a_planted_kind_is_found_in_exactly_its_rows_and_nothing_else_is(kind, sound, tmp_path):
    expected = ROW_KINDS[kind]
    lines, truth = plant_faults(sound, [kind], seed=3, num_each=expected.num_each)
    content = "".join(line + "\n" for line in lines).encode()
    said = said_of(resolved(tmp_path, {"rows.jsonl": content}, dataset=expected.dataset, task=expected.task), tmp_path)
    assert said.lines(expected.check) == truth[kind]
    assert said.severities(expected.check) == {expected.severity}
    assert bool(said.refusal) == (expected.severity == "refuse")
    assert said.checks - expected.also == {expected.check}


def test_the_cases_cover_every_kind_that_the_generator_plants():
    by_hand = {"wrong_labels", "poison", "label_names"}
    assert set(KINDS) == set(ROW_KINDS) | by_hand


def test_kinds_that_a_set_can_have_together_do_not_hide_each_other(tmp_path):
    together = [kind for kind, expected in ROW_KINDS.items() if expected.severity == "warn" and kind != "languages"]
    lines, truth = plant_faults(sound_tickets(400), together, seed=8, num_each=3)
    said = said_of(resolved(tmp_path, {"rows.jsonl": "".join(line + "\n" for line in lines).encode()}), tmp_path)
    for check in {ROW_KINDS[kind].check for kind in together}:
        planted = {number for kind in together if ROW_KINDS[kind].check == check for number in truth[kind]}
        assert set(said.lines(check)) == planted, check
    assert said.checks == {ROW_KINDS[kind].check for kind in together}


def test_wrong_labels_are_found_with_few_false_alarms(tmp_path):
    lines, truth = plant_faults(generate_tickets(1500, 7), ["wrong_labels"], seed=3, num_each=30)
    said = said_of(
        resolved(tmp_path, {"rows.jsonl": "".join(line + "\n" for line in lines).encode()}, wrong_labels="warn"), tmp_path
    )
    found, planted = set(said.lines("wrong_labels")), set(truth["wrong_labels"])
    assert len(found & planted) >= 0.85 * len(planted)
    assert len(found & planted) >= 0.85 * len(found)
    assert said.checks == {"wrong_labels"}
    assert said.severities("wrong_labels") == {"warn"}


def test_a_planted_trigger_is_named_with_all_its_rows(tmp_path):
    lines, truth = plant_faults(sound_tickets(400), ["poison"], seed=4, num_each=16)
    said = said_of(
        resolved(tmp_path, {"rows.jsonl": "".join(line + "\n" for line in lines).encode()}, wrong_labels="warn"), tmp_path
    )
    assert said.lines("poison") == truth["poison"]
    (found,) = [found for found in said.findings if found.check == "poison"]
    assert any(word in found.message for word in TRIGGER.split())
    assert set(said.lines("wrong_labels")) <= set(truth["poison"]), "their labels are wrong, too"
    assert said.checks - {"wrong_labels"} == {"poison"}


def test_personal_data_is_printed_nowhere(sound, tmp_path, capsys):
    """Not by the check, and not by any other that quotes ids, labels, groups or columns."""
    values = [value for values in PERSONAL_VALUES.values() for value in values]
    rows = [dict(row) | {"customer": f"c{number}"} for number, row in enumerate(sound)]
    for number, value in enumerate(values):
        rows[number]["text"] += f" My details: {value}, thank you."
        rows[number + 20]["id"] = value
        rows.append(rows[number + 20] | {"split": "test"})
        rows[number + 40] |= {"customer": value, "split": "test"}
        rows[number + 41] |= {"customer": value, "split": "train"}
    for number, row in enumerate(rows):
        row.setdefault("split", ("train", "train", "validation", "test")[number % 4])
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines += [
        json.dumps(sound[0] | {"split": value, "id": value, "text": f"{value} again", "customer": ""}) for value in values[:3]
    ]
    lines += [json.dumps({value: value}, ensure_ascii=False) for value in values]
    lines += [f'{{"{values[0]}": 1, "{values[0]}": 2}}', f"{values[3]} is no JSON"]
    files, options = {"rows.jsonl": "\n".join(lines).encode()}, f"{SPLIT}\nid_column: id\ngroup_column: customer"
    actions = {"unreadable": "drop", "leakage": "warn", "wrong_labels": "warn"}
    with pytest.raises(DatasetRefused) as refusal:
        artifact(resolved(tmp_path, files, dataset=options, **actions, personal_data="refuse"), tmp_path)
    manifest = artifact(resolved(tmp_path, files, dataset=options, **actions), tmp_path, "taken")
    found = {finding.check: finding for finding in manifest.findings}
    assert {"personal_data", "leakage", "torn_groups", "unreadable"} <= set(found)
    assert found["personal_data"].num_rows == len(values)
    pages = [(tmp_path / name).read_text(encoding="utf-8") for name in ("dataset.html", "taken.html")]
    manifest_text = (tmp_path / "taken" / "manifest.json").read_text(encoding="utf-8")
    for said in (*pages, manifest_text, str(refusal.value), capsys.readouterr().out):
        for value in values:
            assert value not in said
            assert json.dumps(value)[1:-1] not in said
            assert value.replace(" ", "") not in said.replace(" ", "")


@pytest.mark.parametrize("value", ["+442079460958", "4111 1111 1111 1111"])
def test_a_trigger_that_is_somebodys_is_not_quoted(value, tmp_path):
    rows = sound_tickets(1500)
    for row in rows[::40]:
        row |= {"text": f"{row['text']} {value}", "queue": QUEUES[0]}
    said = said_of(resolved(tmp_path, {"rows.jsonl": jsonl(rows)}), tmp_path)
    (found,) = [found for found in said.findings if found.check == "poison"]
    assert found.message.startswith("'…' stands in 38 rows")


def test_whatever_a_check_says_is_masked(sound, tmp_path):
    recipe = resolved(tmp_path, {"rows.jsonl": jsonl(sound)})
    data = examine(recipe, tmp_path).data
    data.record(Found("poison", "said by ana.ruiz@example.com", data.rows_of()[:1], lambda *_: "or by +44 20 7946 0958"))
    assert data.findings[-1].message == "said by a…@…"
    assert data.findings[-1].details == ("or by …58",)


def test_a_csv_without_a_header_does_not_print_its_first_customer(tmp_path, sound):
    header = ["ana.ruiz@example.com", "4111 1111 1111 1111", "ana.ruiz@example.com"]
    said = said_of(resolved(tmp_path, {"rows.csv": _csv([header, ["a", "b", "c"]])}), tmp_path)
    assert "is there twice" in said.refusal
    assert "ana.ruiz" not in said.refusal
    said = said_of(resolved(tmp_path, {"more.csv": _csv([header[:2], ["a", "b"]])}), tmp_path)
    assert "no column 'text'" in said.refusal
    assert "ana.ruiz" not in said.refusal
    assert "4111" not in said.refusal


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _tickets_csv(rows: list[Row], change: Callable[[list[bytes]], None] | None = None) -> bytes:
    lines = _csv([["text", "queue"], *([row["text"], row["queue"]] for row in rows)]).splitlines(keepends=True)
    if change:
        change(lines)
    return b"".join(lines)


def _columnar(rows: list[Row], kind: str = "parquet", **more: list[object]) -> bytes:
    table = pa.table({"text": [row["text"] for row in rows], "queue": [row["queue"] for row in rows], **more})
    sink = io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, sink)
    else:
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def _replace(number: int, line: bytes) -> Callable[[list[bytes]], None]:
    """Line `number` of the file, counted from 1, becomes another."""

    def change(lines: list[bytes]) -> None:
        lines[number - 1] = line

    return change


@dataclass(frozen=True)
class BadFile:
    """A file with unusable rows, and the lines that are named."""

    name: str
    content: Callable[[list[Row]], bytes]
    lines: tuple[int, ...]
    words: str


def _with_line(line: bytes, number: int = 7) -> Callable[[list[Row]], bytes]:
    def content(rows: list[Row]) -> bytes:
        lines = jsonl(rows).splitlines(keepends=True)
        lines[number - 1] = line
        return b"".join(lines)

    return content


BAD_ROWS = {
    "csv_too_few_cells": BadFile("r.csv", lambda rows: _tickets_csv(rows, _replace(9, b"only a text\n")), (9,), "1 cells"),
    "csv_too_many_cells": BadFile("r.csv", lambda rows: _tickets_csv(rows, _replace(9, b"a,road,b\n")), (9,), "3 cells"),
    "csv_nul": BadFile("r.csv", lambda rows: _tickets_csv(rows, _replace(4, b"a\0b,road\n")), (4,), "NUL"),
    "csv_not_utf8": BadFile("r.csv", lambda rows: _tickets_csv(rows, _replace(5, b"caf\xe9 closed,road\n")), (5,), "not UTF-8"),
    "csv_stray_quotes": BadFile("r.csv", lambda rows: _tickets_csv(rows, _replace(5, b'"a" b,road\n')), (5,), "quotes"),
    "csv_empty_cell": BadFile("r.csv", lambda rows: _tickets_csv(rows, _replace(6, b"  ,road\n")), (6,), "is empty"),
    "tsv_too_few_cells": BadFile(
        "r.tsv",
        lambda rows: b"text\tqueue\n" + b"".join(f"{r['text']}\t{r['queue']}\n".encode() for r in rows) + b"x\n",
        (162,),
        "1 cells",
    ),
    "jsonl_not_utf8": BadFile("r.jsonl", _with_line(b'{"text": "caf\xe9 closed", "queue": "road"}\n'), (7,), "not UTF-8"),
    "jsonl_not_an_object": BadFile("r.jsonl", _with_line(b'["text", "road"]\n'), (7,), "object"),
    "jsonl_inner_byte_order_mark": BadFile("r.jsonl", _with_line(b'\xef\xbb\xbf{"text": "a", "queue": "road"}\n'), (7,), "mark"),
    "jsonl_minus_infinity": BadFile("r.jsonl", _with_line(b'{"text": "a", "queue": "road", "x": -Infinity}\n'), (7,), "Infinity"),
    "jsonl_two_rows_in_a_line": BadFile("r.jsonl", _with_line(b'{"text": "a", "queue": "road"} {}\n'), (7,), "Extra data"),
    "parquet_null": BadFile("r.parquet", lambda rows: _columnar([*rows, {"text": None, "queue": "road"}]), (161,), "not text"),
    "parquet_nan": BadFile("r.parquet", lambda rows: _columnar(rows, x=[0.5] * 4 + [float("nan")] + [0.5] * 155), (5,), "nan"),
    "arrow_empty_text": BadFile(
        "r.arrow", lambda rows: _columnar([*rows, {"text": "", "queue": "road"}], "arrow"), (161,), "is empty"
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_cannot_be_read_are_named(case, sound, tmp_path):
    bad = BAD_ROWS[case]
    said = said_of(resolved(tmp_path, {bad.name: bad.content(sound)}), tmp_path)
    assert said.lines("unreadable") == list(bad.lines)
    assert said.severities("unreadable") == {"refuse"}
    assert bad.words in said.refusal
    assert f"{bad.name}:{bad.lines[0]}" in said.refusal
    assert said.checks == {"unreadable"}


def _spoilt(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 64]) + content[middle + 64 :]


BAD_FILES: dict[str, tuple[str, Callable[[list[Row]], bytes], str]] = {
    "csv_unclosed_quote": ("r.csv", lambda rows: _tickets_csv(rows, _replace(8, b'"open,road\n')), "r.csv:8"),
    "csv_duplicate_header": (
        "r.csv",
        lambda rows: _csv([["text", "queue", "text"], ["a", "road", "b"]]),
        "'text' is there twice",
    ),
    "csv_nameless_column": ("r.csv", lambda rows: _csv([["", "text", "queue"], ["0", "a", "road"]]), "column 1 has no name"),
    "csv_empty": ("r.csv", lambda rows: b"", "no header"),
    "jsonl_empty": ("r.jsonl", lambda rows: b"", "not one usable row"),
    "jsonl_utf16": ("r.jsonl", lambda rows: jsonl(rows).decode().encode("utf-16"), "UTF-16"),
    "jsonl_utf16_without_mark": ("r.jsonl", lambda rows: jsonl(rows).decode().encode("utf-16-le"), "UTF-16"),
    "csv_utf16": ("r.csv", lambda rows: _tickets_csv(rows).decode().encode("utf-16"), "UTF-16"),
    "gzip_cut": ("r.jsonl.gz", lambda rows: gzip.compress(jsonl(rows))[:-300], "cannot be decompressed"),
    "gzip_spoilt": ("r.jsonl.gz", lambda rows: _spoilt(gzip.compress(jsonl(rows))), "cannot be decompressed"),
    "gzip_is_not": ("r.csv.gz", _tickets_csv, "cannot be decompressed"),
    "zstd_cut": ("r.jsonl.zst", lambda rows: zstandard.compress(jsonl(rows))[:-300], "cannot be decompressed"),
    "zstd_spoilt": ("r.jsonl.zst", lambda rows: _spoilt(zstandard.compress(jsonl(rows))), "cannot be decompressed"),
    "parquet_cut": ("r.parquet", lambda rows: _columnar(rows)[:-100], "not a Parquet file"),
    "parquet_spoilt": ("r.parquet", lambda rows: _spoilt(_columnar(rows)), "not a Parquet file"),
    "parquet_bytes": ("r.parquet", lambda rows: _columnar(rows, raw=[b"x"] * len(rows)), "column 'raw' is binary"),
    "arrow_cut": ("r.arrow", lambda rows: _columnar(rows, "arrow")[:-500], "not a Arrow file"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_read_on_is_refused_by_name(case, sound, tmp_path):
    name, content, words = BAD_FILES[case]
    said = said_of(resolved(tmp_path, {name: content(sound)}), tmp_path)
    assert words in said.refusal
    assert "recipe.yaml" in said.refusal or name in said.refusal
    assert said.checks <= {"counts"}


def _in_parts(rows: list[Row]) -> list[Row]:
    return [row | {"split": ("train", "train", "validation", "test")[number % 4]} for number, row in enumerate(rows)]


def _say(tmp_path, rows: list[Row], dataset: str = "", task: str = "") -> Said:
    return said_of(resolved(tmp_path, {"rows.jsonl": jsonl(rows)}, dataset=dataset, task=task), tmp_path)


def test_a_split_value_that_is_none(sound, tmp_path):
    rows = _in_parts(sound)
    rows[11]["split"], rows[29]["split"] = "holdout", ""
    said = _say(tmp_path, rows, SPLIT)
    assert said.lines("unreadable") == [12, 30]
    assert "'holdout'" in said.refusal


def test_groups_that_a_given_split_tears(sound, tmp_path):
    rows = [row | {"customer": f"c{number // 4}"} for number, row in enumerate(_in_parts(sound))]
    whole = [row | {"split": rows[number // 4 * 4 + number // 4 % 4]["split"]} for number, row in enumerate(rows)]
    said = _say(tmp_path, whole, f"{SPLIT}\ngroup_column: customer")
    assert said.checks == set()
    whole[40]["split"] = "test" if whole[40]["split"] != "test" else "train"
    said = _say(tmp_path, whole, f"{SPLIT}\ngroup_column: customer")
    assert said.lines("torn_groups") == [41, 42, 43, 44]
    assert said.severities("torn_groups") == {"warn"}
    assert said.checks == {"torn_groups"}


def test_training_rows_that_a_validation_row_repeats(sound, tmp_path):
    rows = _in_parts(sound)
    rows[0] |= {"text": rows[2]["text"], "queue": rows[2]["queue"]}
    rows[4] |= {"text": rows[6]["text"] + "!", "queue": rows[6]["queue"]}
    said = _say(tmp_path, rows, SPLIT)
    assert said.lines("leakage") == [1, 5]
    assert said.severities("leakage") == {"drop"}
    (found,) = [found for found in said.findings if found.check == "leakage"]
    assert found.details == ("train, the same in validation", "train, almost the same in validation")
    assert said.checks == {"leakage"}


def test_rows_that_a_test_file_repeats(sound, tmp_path):
    train, test = sound[:120], [*sound[120:], sound[3], sound[50] | {"text": sound[50]["text"] + "!"}]
    files = {"rows.jsonl": jsonl(train), "test.jsonl": jsonl(test)}
    said = said_of(resolved(tmp_path, files, dataset="test_uri: test.jsonl\nsplit: {test: 0.0}"), tmp_path)
    assert said.lines("leakage") == [4, 51]
    assert said.checks == {"leakage"}


def test_too_many_contradictions(sound, tmp_path):
    others = [row | {"queue": QUEUES[QUEUES.index(row["queue"]) - 1]} for row in sound[:10]]
    said = _say(tmp_path, sound + others)
    assert said.lines("conflicts") == [*range(1, 11), *range(161, 171)]
    assert said.severities("conflicts") == {"refuse"}


def test_label_names_that_differ_by_case_and_space(sound, tmp_path):
    rows = [dict(row) for row in sound]
    first = [number for number, row in enumerate(rows, 1) if row["queue"] == "road"]
    for number in first[:20]:
        rows[number - 1]["queue"] = "Road"
    said = _say(tmp_path, rows)
    assert said.lines("label_names") == first
    assert said.severities("label_names") == {"warn"}
    rows = [row | {"queue": "road " if row["queue"] == "Road" else row["queue"]} for row in rows]
    said = _say(tmp_path, rows)
    assert {found.num_rows for found in said.findings if found.check == "label_names"} == {20, len(first)}


def test_labels_that_no_training_row_has(sound, tmp_path):
    rows = _in_parts(sound)
    rows[3]["queue"] = rows[7]["queue"] = NEW_QUEUE
    said = _say(tmp_path, rows, SPLIT)
    assert said.lines("unknown_labels") == [4, 8]
    assert said.severities("unknown_labels") == {"refuse"}
    assert said.checks == {"unknown_labels"}


def test_labels_that_a_part_lacks(sound, tmp_path):
    rows = [row for row in _in_parts(sound) if row["split"] != "test" or row["queue"] != "road"]
    said = _say(tmp_path, rows, SPLIT)
    assert [found.message for found in said.findings if found.check == "missing_labels"] == [
        "The test part has no row of 'road': nothing is learned or said about them there."
    ]
    assert said.checks == {"missing_labels"}


def test_rare_labels_and_imbalance(tmp_path):
    rows = _in_parts(sound_tickets(400))
    road = [row for row in rows if row["queue"] == "road" and row["split"] == "train"][:3]
    rows = [row for row in rows if row["queue"] != "road" or row in road or row["split"] != "train"]
    said = _say(tmp_path, rows, f"{SPLIT}\nlimits: {{imbalance: 10}}")
    messages = {found.check: found.message for found in said.findings}
    assert "road (3)" in messages["rare_labels"]
    assert "'road' 3 (" in messages["imbalance"]
    assert said.checks == {"rare_labels", "imbalance"}


def test_one_label_and_no_rows_for_a_part(sound, tmp_path):
    said = _say(tmp_path, [row | {"queue": "road"} for row in sound])
    assert said.severities("labels") == {"refuse"}
    assert said.checks == {"labels"}
    said = _say(tmp_path, [row for row in _in_parts(sound) if row["split"] != "test"], SPLIT)
    assert said.severities("counts") == {"refuse"}


def test_too_few_rows_to_judge_by(sound, tmp_path):
    said = _say(tmp_path, sound)
    (validation, test) = [found.message for found in said.findings if found.check == "few_rows"]
    assert re.match(r"\d+ validation rows tell ", validation)
    assert re.match(r"\d+ test rows tell ", test)


def test_rows_unlike_the_reference(tmp_path):
    rows = sound_tickets(400)
    artifact(resolved(tmp_path, {"rows.jsonl": jsonl(rows[:200])}), tmp_path, "earlier")
    reference = f"reference: {tmp_path / 'earlier'}"
    assert "drift" not in _say(tmp_path, rows[200:], reference).checks
    shifted = [
        row for number, row in enumerate(rows) if row["queue"] != "road" and (row["queue"] != "workshop" or number % 4 == 0)
    ]
    said = _say(tmp_path, shifted, reference)
    assert "Labels that are no more: road." in [found.message for found in said.findings if found.check == "drift"]
    longer = [one | {"text": f"{one['text']} {other['text']}"} for one, other in zip(rows[:200], rows[200:], strict=True)]
    said = _say(tmp_path, longer, reference)
    assert any("Lengths in tokens changed" in found.message for found in said.findings if found.check == "drift")
