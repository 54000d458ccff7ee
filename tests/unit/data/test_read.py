"""Reading: good rows are kept, every fault is named with its line."""

import pytest

from softprompt.data.contract import Contract
from softprompt.data.ingest import Faults, iter_rows
from softprompt.data.reading.records import DataFile
from softprompt.errors import DatasetRefused
from softprompt.recipe.dataset import DatasetSpec

SPEC = DatasetSpec(uri="x", target_column="label", subgroup_columns=("region",))


def read(path, spec=SPEC):
    """(rows, (place, why) of what cannot be used)"""
    faults = Faults()
    rows = list(iter_rows([((DataFile(path.name, path),), False)], Contract(spec, ("text",)), faults))
    return rows, faults.first


def test_jsonl_and_csv_of_the_same_rows_read_alike(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a, \\"b\\"", "label": "x", "region": "n", "more": 1}\n{"text": "c", "label": "y", "region": "s"}\n'
    )
    (tmp_path / "a.csv").write_text('text,label,region\n"a, ""b""",x,n\nc,y,s\n')
    one, other = read(tmp_path / "a.jsonl"), read(tmp_path / "a.csv")
    assert [(row.inputs, row.target, row.subgroups) for row in one[0]] == [
        (row.inputs, row.target, row.subgroups) for row in other[0]
    ]
    assert one[0][0].inputs == {"text": 'a, "b"'}
    assert one[1] == other[1] == []


def test_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "a.csv").write_text('text,label,region\n"two\nlines",x,n\n\nc,y,s\n')
    assert [(row.line, row.id) for row in read(tmp_path / "a.csv")[0]] == [(2, "a.csv:2"), (5, "a.csv:5")]
    (tmp_path / "a.jsonl").write_text('\n{"text": "a", "label": "x", "region": "n"}\n')
    assert read(tmp_path / "a.jsonl")[0][0].line == 2


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label,region\r\na,x,n\r\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a", "label": "x", "region": "n"}\r\n')
    assert len(read(tmp_path / "a.csv")[0]) == len(read(tmp_path / "a.jsonl")[0]) == 1


def test_a_row_is_named_by_the_id_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "x", "region": "n", "key": "t-1"}\n')
    spec = SPEC.model_copy(update={"id_column": "key"})
    assert read(tmp_path / "a.jsonl", spec)[0][0].id == "t-1"


FAULTS = {
    "no column": ('{"label": "x", "region": "n"}', "no column 'text'"),
    "no subgroup": ('{"text": "a", "label": "x"}', "no column 'region'"),
    "a number for text": ('{"text": 1.5, "label": "x", "region": "n"}', "column 'text' is float, not text"),
    "null": ('{"text": null, "label": "x", "region": "n"}', "column 'text' is null"),
    "an empty text": ('{"text": " ", "label": "x", "region": "n"}', "column 'text' is empty"),
    "an empty label": ('{"text": "a", "label": "", "region": "n"}', "column 'label' is empty"),
    "broken JSON": ('{"text": "a"', "delimiter"),
    "a list": ("[1]", "a row is an object"),
    "NaN": ('{"text": "a", "label": NaN, "region": "n"}', "NaN"),
    "a duplicate key": ('{"text": "a", "text": "b", "label": "x", "region": "n"}', "duplicate key"),
    "a lone surrogate": ('{"text": "\\ud800", "label": "x", "region": "n"}', "surrogate pair"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_with_its_line_and_good_rows_are_kept(tmp_path, case):
    line, reason = FAULTS[case]
    good = '{"text": "a", "label": "x", "region": "n"}'
    (tmp_path / "a.jsonl").write_text(f"{good}\n{line}\n{good}\n")
    rows, faults = read(tmp_path / "a.jsonl")
    assert [row.line for row in rows] == [1, 3]
    ((place, why),) = faults
    assert place == "a.jsonl:2"
    assert reason in why


def test_a_record_of_another_width_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,region\na,x,n\nb,y\n")
    assert read(tmp_path / "a.csv")[1] == [("a.csv:3", "2 cells, the header has 3")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", "text".encode("utf-16"), "not UTF-8"),
        ("a.csv", b'text,label,region\n"open', "not valid CSV"),
        ("a.csv", b"text,text\n1,2\n", "header"),
        ("a.xlsx", b"PK", "not read as a dataset"),
        ("a.jsonl", None, "not there"),
    ],
)
def test_what_is_no_dataset_is_refused(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetRefused, match=reason) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert caught.value.exit_code == 3


def test_the_place_of_a_byte_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"b": "caf\xe9"}\n')
    place, why = read(tmp_path / "a.jsonl")[1][1]
    assert place == "a.jsonl:2"
    assert "byte 0xe9 at offset 10" in why


def test_labels_that_are_numbers_or_booleans_are_labels(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": 3, "region": "n"}\n{"text": "b", "label": true, "region": "n"}\n')
    assert [row.target for row in read(tmp_path / "a.jsonl")[0]] == ["3", "true"]
