"""One stream of records: whatever the format and compression, the same data gives the same cells."""

import csv
import gzip
import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.reading import limits
from softprompt.data.reading.records import DataFile, Record, read_records
from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import files_at

COMPRESS = {"": lambda data: data, ".gz": gzip.compress, ".zst": zstandard.compress}
text = st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=12)
rows_of_text = st.lists(st.fixed_dictionaries({"text": text, "b": text}), min_size=1, max_size=8)


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def delimited(rows, delimiter):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def columnar(rows):
    """(name, bytes) of each format that keeps types, in each compression of its own."""
    table = pa.Table.from_pylist(rows)
    for codec in ("none", "gzip", "zstd", "snappy"):
        sink = io.BytesIO()
        parquet.write_table(table, sink, compression=codec)
        yield f"{codec}.parquet", sink.getvalue()
    for ending, new in ((".arrow", pa.ipc.new_file), (".ipc", pa.ipc.new_stream)):
        for codec in (None, "lz4", "zstd"):
            sink = io.BytesIO()
            with new(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_table(table)
            yield f"{codec}{ending}", sink.getvalue()


def cells_of(folder, name, content):
    (folder / name).write_bytes(content)
    found = list(read_records([DataFile(name, folder / name)]))
    assert all(record.file == name and not record.fault for record in found)
    return [record.cells for record in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


@given(
    st.lists(
        st.fixed_dictionaries({"text": text, "n": st.integers(-(2**63), 2**63 - 1), "good": st.booleans()}),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=40)
def test_typed_rows_are_the_same_in_every_format_and_compression(folder, rows):
    for ending, compress in COMPRESS.items():
        assert cells_of(folder, f"a.jsonl{ending}", compress(jsonl(rows))) == rows
        texts = [{column: str(value) for column, value in row.items()} for row in rows]
        assert cells_of(folder, f"a.csv{ending}", compress(delimited(rows, ","))) == texts
        assert cells_of(folder, f"a.tsv{ending}", compress(delimited(rows, "\t"))) == texts
    for name, content in columnar(rows):
        assert cells_of(folder, name, content) == rows


def test_files_of_all_formats_are_one_stream_in_their_order(tmp_path):
    rows = [{"text": "a"}, {"text": "b"}]
    (tmp_path / "deep").mkdir()
    (tmp_path / "c.csv").write_bytes(delimited(rows, ","))
    (tmp_path / "deep" / "b.JSONL.GZ").write_bytes(gzip.compress(jsonl(rows)))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = list(read_records(files_at(tmp_path)))
    places = [("a.parquet", 1), ("a.parquet", 2), ("c.csv", 2), ("c.csv", 3), ("deep/b.JSONL.GZ", 1), ("deep/b.JSONL.GZ", 2)]
    assert found == [Record(file, line, row, "") for (file, line), row in zip(places, rows * 3, strict=True)]


def test_more_rows_than_are_read_are_refused_over_all_files(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_ROWS", 3)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("{}\n{}\n")
    stream = read_records(files_at(tmp_path))
    assert len([next(stream) for _ in range(3)]) == 3
    with pytest.raises(DatasetRefused, match="more rows") as caught:
        next(stream)
    assert caught.value.where == "b.jsonl:2"


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet.gz", "a.gz", "jsonl", "a.txt"])
def test_a_file_of_another_kind_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DatasetRefused, match="kind of file") as caught:
        list(read_records([DataFile(name, tmp_path / name)]))
    assert ".jsonl" in caught.value.expected


def test_a_file_that_went_is_refused(tmp_path):
    with pytest.raises(DatasetRefused, match="not there"):
        list(read_records([DataFile("a.jsonl", tmp_path / "a.jsonl")]))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_large_file_takes_little_memory(tmp_path, ending):
    """300 MB of JSON Lines in a process of its own; peak memory over what the imports take."""
    program = """
        import gzip, re, sys
        from pathlib import Path
        from softprompt.data.reading.records import DataFile, read_records
        path = Path(sys.argv[1])
        # Not ru_maxrss, which a process takes over from the one that started it.
        peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
        small = path.with_name("small" + path.name)
        small.write_bytes((gzip.compress if path.suffix == ".gz" else bytes)(b"{}"))
        list(read_records([DataFile(small.name, small)]))
        before = peak()
        print(sum(record.cells is not None for record in read_records([DataFile(path.name, path)])), peak() - before)
    """
    line = json.dumps({"text": "some words of a customer " * 10, "label": "other"}).encode() + b"\n"
    num_rows = 300 * 10**6 // len(line)
    path = tmp_path / f"large.jsonl{ending}"
    with gzip.open(path, "wb", compresslevel=1) if ending else path.open("wb") as file:
        for _ in range(num_rows // 1000):
            file.write(line * 1000)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(path)], capture_output=True, text=True, check=True)
    num_read, growth_mib = done.stdout.split()
    print(f"{path.name}: memory grew {growth_mib} MiB")
    assert int(num_read) == num_rows // 1000 * 1000
    assert float(growth_mib) < 60
