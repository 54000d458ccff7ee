"""Parquet and Arrow: values become cells, numbers that are none are named with their row, spoilt files are refused."""

import datetime
import decimal
import math
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.reading import limits
from softprompt.data.reading.columnar import columnar_records
from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import DataFile

WRITERS = {
    "a.parquet": lambda table, path: parquet.write_table(table, path),
    "plain.parquet": lambda table, path: parquet.write_table(
        table, path, compression="none", use_dictionary=False, row_group_size=3
    ),
    "a.arrow": lambda table, path: _write_ipc(pa.ipc.new_file, table, path),
    "a.feather": lambda table, path: _write_ipc(pa.ipc.new_file, table, path, compression="zstd"),
    "a.ipc": lambda table, path: _write_ipc(pa.ipc.new_stream, table, path),
}


def _write_ipc(new, table, path, compression=None):
    with new(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=100)


def read(path):
    return list(columnar_records(DataFile(path.name, path), "parquet" if path.suffix == ".parquet" else "arrow"))


def written(folder, name, table):
    WRITERS[name](table, folder / name)
    return folder / name


@pytest.fixture(params=WRITERS)
def name(request):
    return request.param


def test_values_become_cells(tmp_path, name):
    table = pa.table(
        {
            "text": ["a", None],
            "n": pa.array([1, None], pa.int8()),
            "share": pa.array([0.5, None], pa.float32()),
            "good": [True, None],
            "nothing": pa.nulls(2),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "tags": [["a", None], None],
            "who": [{"name": "b", "born": datetime.date(2000, 1, 2)}, None],
            "at": pa.array([datetime.datetime.fromisoformat("2024-01-31T12:00:00.000005"), None], pa.timestamp("ns")),
            "zoned": pa.array([datetime.datetime(2024, 1, 31, 12, tzinfo=datetime.UTC), None], pa.timestamp("s", "UTC")),
            "day": [datetime.date(2024, 1, 31), None],
            "price": [decimal.Decimal("1.50"), None],
        }
    )
    first, second = read(written(tmp_path, name, table))
    assert first.cells == {
        "text": "a",
        "n": 1,
        "share": 0.5,
        "good": True,
        "nothing": None,
        "kind": "x",
        "tags": ["a", None],
        "who": {"name": "b", "born": "2000-01-02"},
        "at": "2024-01-31 12:00:00.000005000",
        "zoned": first.cells["zoned"],  # Parquet has no whole seconds
        "day": "2024-01-31",
        "price": "1.50",
    }
    assert first.cells["zoned"].startswith("2024-01-31 12:00:00")
    assert first.cells["zoned"].endswith("Z")
    assert second.cells == {**dict.fromkeys(table.column_names), "kind": "y"}


def test_rows_are_numbered_across_batches(tmp_path, name):
    found = read(written(tmp_path, name, pa.table({"n": range(1000)})))
    assert [(record.line, record.cells) for record in found] == [(n + 1, {"n": n}) for n in range(1000)]


def test_numbers_that_are_none_are_named_with_their_row(tmp_path, name):
    table = pa.table({"a": [1.0, math.nan, None, -math.inf, 2.0], "b": [[1.0], [2.0], [0.0], [3.0], [math.inf]]})
    found = read(written(tmp_path, name, table))
    assert [record.fault for record in found] == [
        "",
        "column 'a' is nan, not a number",
        "",
        "column 'a' is -inf, not a number",
        "column 'b' is inf, not a number",
    ]
    assert [record.cells is None for record in found] == [False, True, False, True, True]


def test_a_nested_number_that_is_none_is_named(tmp_path, name):
    found = read(written(tmp_path, name, pa.table({"a": [{"b": [1.0]}, {"b": [math.nan]}]})))
    assert [record.fault for record in found] == ["", "column 'a' is nan, not a number"]


def test_a_row_that_is_too_long_is_named(tmp_path, name):
    found = read(
        written(tmp_path, name, pa.table({"a": ["x" * limits.MAX_LINE_BYTES, "é" * (limits.MAX_LINE_BYTES // 2 + 1), "z"]}))
    )
    assert [record.fault for record in found] == ["", "longer than 1048576 bytes", ""]


def test_text_of_parquet_that_is_not_utf8_is_named(tmp_path):
    table = pa.table({"a": pa.array([b"good", b"caf\xe9", b"fine"])})
    path = tmp_path / "a.parquet"
    text = pa.table({"a": table["a"].combine_chunks().view(pa.string())})
    parquet.write_table(text, path)
    assert [(record.line, record.fault) for record in read(path)] == [
        (1, ""),
        (2, "not UTF-8: byte 0xe9 at offset 3 of a cell"),
        (3, ""),
    ]


UNUSABLE = {
    "bytes": (pa.table({"a": [b"x"]}), "column 'a' is binary"),
    "bytes inside": (pa.table({"a": [[{"b": b"x"}]]}), "column 'a' is binary"),
    "a map": (pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))}), "column 'a' is map"),
    "no name": (pa.table({"": ["x"]}), "column 1 has no name"),
    "a name twice": (pa.table([["x"], ["y"]], names=["a", "a"]), "'a' is there twice"),
    "too many columns": (pa.table({str(n): [n] for n in range(1001)}), "1001 columns"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_columns_that_cannot_be_cells_are_refused_by_name(tmp_path, name, case):
    table, reason = UNUSABLE[case]
    with pytest.raises(DatasetRefused) as caught:
        read(written(tmp_path, name, table))
    assert reason in caught.value.actual
    assert caught.value.where == name


def test_a_type_that_is_nested_too_deep_is_refused(tmp_path):
    kind = pa.string()
    for _ in range(limits.MAX_DEPTH):
        kind = pa.list_(kind)
    with pytest.raises(DatasetRefused, match="cannot be read") as caught:
        read(written(tmp_path, "a.arrow", pa.table({"a": pa.array([None], kind)})))
    assert "nested deeper" in caught.value.actual


@pytest.mark.parametrize(
    "spoil", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"text,label\n", lambda data: b"\0" * len(data)]
)
def test_a_spoilt_file_is_refused_by_name(tmp_path, name, spoil):
    path = written(tmp_path, name, pa.table({"a": ["some text"] * 500}))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DatasetRefused, match="file that can be read") as caught:
        read(path)
    assert caught.value.where == name


def test_a_page_that_claims_to_be_large_takes_no_memory(tmp_path):
    """The header of this file's first page, changed to claim 2^27 bytes; found by the fuzzer."""
    from tests.fuzz.fuzz_readers import _peak_mib, seed_files

    path = tmp_path / "a.parquet"
    data = seed_files()["none.parquet"]
    before = _peak_mib()
    for at in range(4, 60):
        path.write_bytes(data[:at] + b"\xfe\xff\xff\x7f" + data[at + 4 :])
        with suppress(DatasetRefused):
            read(path)
    assert _peak_mib() - before < 60


@given(st.data())
@settings(max_examples=60)
def test_columns_of_one_type_are_read_as_they_were(tmp_path_factory, data):
    name, num_rows = data.draw(st.sampled_from(sorted(WRITERS))), data.draw(st.integers(0, 200))
    kinds = [
        st.text(max_size=5),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.floats(allow_nan=False, allow_infinity=False),
    ]
    columns = {
        column: data.draw(st.lists(st.none() | kind, min_size=num_rows, max_size=num_rows))
        for column, kind in zip("abcd", kinds, strict=True)
    }
    found = read(written(tmp_path_factory.mktemp("t"), name, pa.table(columns)))
    assert [record.cells for record in found] == [
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    ]
