"""The same rows are the same dataset, however they are written; and rows that are added leave the others where they were."""

import csv
import gzip
import hashlib
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import zstandard

from softprompt.data.dataset import read_manifest, read_part
from softprompt.data.rows import PARTS
from softprompt.embedded.fault_kinds import Row
from softprompt.embedded.faults import plant_faults
from softprompt.fetch.data_files import format_of
from tests.examining import artifact, jsonl, resolved, sound_tickets

COLUMNS = ("id", "text", "queue", "region")
OPTIONS = "id_column: id\nsubgroup_columns: [region]"


def _delimited(rows: list[Row], delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter=delimiter, lineterminator="\r\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def _arrow(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    return sink.getvalue()


def _tickets() -> list[Row]:
    """Tickets in which some rows are repeated, exactly, almost, or with another label; one text has quotes and a line end."""
    lines, _ = plant_faults(sound_tickets(), ["duplicates", "near_duplicates", "conflicts"], seed=2, num_each=4)

    rows = [json.loads(line) for line in lines]
    rows[5]["text"] = f'She said "soon",\nthen\t{rows[5]["text"]}'
    return rows


ROWS = _tickets()
WAYS: dict[str, dict[str, bytes]] = {
    "jsonl": {"r.jsonl": jsonl(ROWS)},
    "csv": {"r.csv": _delimited(ROWS, ",")},
    "tsv": {"r.tsv": _delimited(ROWS, "\t")},
    "parquet": {"r.parquet": _parquet(ROWS)},
    "arrow": {"r.arrow": _arrow(ROWS)},
    "jsonl_gz": {"r.jsonl.gz": gzip.compress(jsonl(ROWS))},
    "csv_zst": {"r.csv.zst": zstandard.compress(_delimited(ROWS, ","))},
    "backwards": {"r.jsonl": jsonl(ROWS[::-1])},
    "shuffled": {"r.jsonl": jsonl(random.Random(1).sample(ROWS, len(ROWS)))},
    "folder": {
        "many/b.jsonl": jsonl(ROWS[:50]),
        "many/a.csv": _delimited(ROWS[50:90], ","),
        "many/c.parquet": _parquet(ROWS[90:]),
    },
}


@pytest.fixture(scope="module")
def digest(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("plain")
    return artifact(resolved(folder, WAYS["jsonl"], dataset=OPTIONS), folder).content_digest


@pytest.mark.parametrize("way", WAYS)
def test_the_content_digest_does_not_depend_on_how_rows_are_written(way, digest, tmp_path):
    uri = "many" if way == "folder" else ""
    manifest = artifact(resolved(tmp_path, WAYS[way], dataset=OPTIONS, uri=uri), tmp_path)
    assert manifest.content_digest == digest
    changed = [ROWS[0] | {"queue": "road" if ROWS[0]["queue"] != "road" else "payouts"}, *ROWS[1:]]
    assert way != "jsonl" or _made(tmp_path, changed, "changed").content_digest != digest


def _made(folder: Path, rows: list[Row], name: str, **actions: str):
    return artifact(resolved(folder, {f"{name}.jsonl": jsonl(rows)}, dataset=OPTIONS, **actions), folder, name)


def test_what_is_dropped_does_not_depend_on_the_order_either(tmp_path):
    rows = [row | {"text": row["text"].upper()} if number % 3 == 0 else row for number, row in enumerate(ROWS)]
    drop = dict.fromkeys(("duplicates", "near_duplicates", "conflicts", "wrong_labels"), "drop")
    manifests = [_made(tmp_path, order, f"o{number}", **drop) for number, order in enumerate((rows, rows[::-1]))]
    assert manifests[0].num_dropped == manifests[1].num_dropped
    assert {"duplicates", "near_duplicates", "conflicts"} <= set(manifests[0].num_dropped)
    assert manifests[0].content_digest == manifests[1].content_digest


def test_the_same_input_gives_the_same_bytes(tmp_path):
    _made(tmp_path, ROWS, "same")
    first = _hashes(tmp_path / "same")
    (tmp_path / "same").rename(tmp_path / "before")
    _made(tmp_path, ROWS, "same")
    assert _hashes(tmp_path / "same") == first


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _part_of(folder: Path) -> dict[str, str]:
    """Row id -> the part it is in."""
    return {row.id: row.part for part in PARTS for row in read_part(folder, part)}


def test_added_rows_leave_the_others_where_they_were_and_what_moved_is_listed(tmp_path):
    rows = sound_tickets(200)
    _made(tmp_path, rows[:120], "few")
    joining = [row | {"id": f"new-{number}", "text": f"{row['text']}!"} for number, row in enumerate(rows[:60])]
    more = random.Random(3).sample([*rows, *joining], 260)
    manifest = _made(tmp_path, more, "more", leakage="warn")
    before, after = _part_of(tmp_path / "few"), _part_of(tmp_path / "more")
    elsewhere = {name for name in before if before[name] != after[name]}
    joined = {row["id"] for row in rows[:60]}
    assert elsewhere, "some joined a cluster that goes elsewhere"
    assert elsewhere < joined
    assert all(after[row["id"]] == after[f"new-{number}"] for number, row in enumerate(rows[:60])), "clusters stay whole"
    listed = {entry.partition("(")[2].partition(")")[0]: entry.rpartition(": ")[2] for entry in manifest.moved}
    assert {name: part for name, part in listed.items() if name in before} == {name: after[name] for name in elsewhere}
    assert manifest.num_moved == len(listed) == len(manifest.moved)
    assert read_manifest(tmp_path / "few").num_moved == 0
    alone = _made(tmp_path, joining, "alone")
    assert alone.num_moved == 0
    own = _part_of(tmp_path / "alone")
    assert {name for name, part in listed.items() if name in own} == {name for name in own if own[name] != after[name]}


def test_groups_are_never_torn_and_a_given_split_is_kept(tmp_path):
    rows = [row | {"customer": f"c{number % 40}"} for number, row in enumerate(sound_tickets())]
    artifact(resolved(tmp_path, {"g.jsonl": jsonl(rows)}, dataset=f"{OPTIONS}\ngroup_column: customer"), tmp_path, "grouped")
    parts = _part_of(tmp_path / "grouped")
    assert all(len({parts[row["id"]] for row in rows[number::40]}) == 1 for number in range(40))
    assert set(parts.values()) == set(PARTS)
    given = [row | {"split": ("train", "Training", "dev", "test")[number % 4]} for number, row in enumerate(rows)]
    manifest = artifact(
        resolved(tmp_path, {"s.jsonl": jsonl(given)}, dataset=f"{OPTIONS}\nsplit_column: split\nsplit: {{test: 0.0}}"),
        tmp_path,
        "given",
    )
    said = {"train": "train", "Training": "train", "dev": "validation", "test": "test"}
    assert _part_of(tmp_path / "given") == {row["id"]: said[row["split"]] for row in given}
    assert manifest.num_moved == 0


def test_every_way_is_one_that_the_reader_knows():
    assert {format_of(name) for files in WAYS.values() for name in files} == {"jsonl", "csv", "tsv", "parquet", "arrow"}
