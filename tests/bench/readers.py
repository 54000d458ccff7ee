"""What reading a row costs, for each format: `python -m tests.bench.readers`.

Rows of four columns, about 150 bytes as JSON; CPU time of the process, the best of three.
"""

import argparse
import csv
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from softprompt.data.reading.records import DataFile, read_records


def main() -> None:
    """Print microseconds a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    num_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        for file in write_files(Path(folder), num_rows):
            seconds = min(_seconds(file, num_rows) for _ in range(3))
            print(
                f"{file.name:<16}{seconds / num_rows * 1e6:6.2f} us a row{file.path.stat().st_size / num_rows:8.1f} bytes a row"
            )


def write_files(folder: Path, num_rows: int) -> Iterator[DataFile]:
    """The same rows in each format."""
    text = "My card was declined at the supermarket twice today, why is that happening: tell me?"
    rows = [{"id": f"t-{n:07}", "text": text, "label": "card_declined", "region": "north"} for n in range(num_rows)]
    quoted = [row | {"text": text.replace("twice", '"twice"')} for row in rows]
    floats = [row | {"score": n / 7} for n, row in enumerate(rows)]
    _jsonl(folder / "plain.jsonl", rows)
    _jsonl(folder / "quotes.jsonl", quoted)
    _jsonl(folder / "floats.jsonl", floats)
    (folder / "plain.jsonl.gz").write_bytes(gzip.compress((folder / "plain.jsonl").read_bytes(), 1))
    with pa.output_stream(str(folder / "plain.jsonl.zst"), compression="zstd") as file:
        file.write((folder / "plain.jsonl").read_bytes())
    for name, written in (("plain.csv", rows), ("quotes.csv", quoted)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(written)
    table = pa.Table.from_pylist(floats)
    parquet.write_table(table, folder / "floats.parquet")
    with pa.ipc.new_file(folder / "floats.arrow", table.schema) as writer:
        writer.write_table(table)
    return (DataFile(path.name, path) for path in sorted(folder.iterdir()))


def _jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _seconds(file: DataFile, num_rows: int) -> float:
    start = time.process_time()
    found = sum(record.cells is not None for record in read_records([file]))
    assert found == num_rows, f"{found} rows of {file.name}"
    return time.process_time() - start


if __name__ == "__main__":
    main()
