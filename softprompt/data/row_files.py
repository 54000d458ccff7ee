"""Writing rows to a file for people: JSONL, CSV, TSV or Parquet by its ending, complete or not at all."""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as parquet

from softprompt.errors import InvalidRequest
from softprompt.fetch.data_files import compression_of, format_of

ROWS_A_GROUP = 8192
WRITTEN = ("jsonl", "csv", "tsv", "parquet")
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

Cells = Mapping[str, Any]
Write = Callable[[Cells], None]


def check_writable(path: Path, columns_of_lists: Sequence[str]) -> None:
    """Find out before the work whether rows can be written to a file of this name.

    Args:
        path: The file.
        columns_of_lists: Columns whose cells are no text: conversations.

    Raises:
        InvalidRequest: No such folder, another ending, or a format whose cells are text only.
    """
    kind = format_of(path.name)
    if kind not in WRITTEN:
        endings = ".jsonl, .csv, .tsv (each also with .gz or .zst after it) or .parquet"
        raise InvalidRequest("Rows are not written in this format.", where=str(path), expected=f"a name that ends in {endings}")
    if columns_of_lists and kind in ("csv", "tsv"):
        raise InvalidRequest("Conversations do not fit into cells.", where=str(path), expected="a .jsonl or .parquet file")
    if not path.absolute().parent.is_dir():
        raise InvalidRequest("There is no such folder to write to.", where=str(path.absolute().parent))


@contextmanager
def rows_file(path: Path, columns: Sequence[str], columns_of_lists: Sequence[str] = ()) -> Iterator[Write]:
    """Open a file of rows; gives a function that writes one.

    Args:
        path: The file; it is there when the context ends without an error, else it stays as it was.
        columns: Of the rows, in order.
        columns_of_lists: Those that hold conversations.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    kind = format_of(path.name)
    try:
        if kind == "parquet":
            with _parquet(draft, columns, columns_of_lists) as write:
                yield write
        else:
            with _text(draft, compression_of(path.name)) as file:
                yield _jsonl(file, columns) if kind == "jsonl" else _delimited(file, columns, "\t" if kind == "tsv" else ",")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _text(path: Path, compression: str) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        if compression == "gzip":
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed, io.TextIOWrapper(packed, "utf-8", newline="") as file:
                yield file
        elif compression == "zstd":
            with pa.CompressedOutputStream(raw, "zstd") as packed, io.TextIOWrapper(packed, "utf-8", newline="") as file:
                yield file
        else:
            with io.TextIOWrapper(raw, "utf-8", newline="") as file:
                yield file


def _jsonl(file: IO[str], columns: Sequence[str]) -> Write:
    def write(cells: Cells) -> None:
        file.write(json.dumps({name: cells[name] for name in columns}, ensure_ascii=False, allow_nan=False) + "\n")

    return write


def _delimited(file: IO[str], columns: Sequence[str], delimiter: str) -> Write:
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    return lambda cells: writer.writerow([_as_cell(cells[name]) or "" for name in columns])


@contextmanager
def _parquet(path: Path, columns: Sequence[str], columns_of_lists: Sequence[str]) -> Iterator[Write]:
    schema = pa.schema([(name, MESSAGES if name in columns_of_lists else pa.string()) for name in columns])
    waiting: list[dict[str, Any]] = []
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_pylist(waiting, schema=schema))
                waiting.clear()

        def write(cells: Cells) -> None:
            waiting.append({name: cells[name] if name in columns_of_lists else _as_cell(cells[name]) for name in columns})
            if len(waiting) == ROWS_A_GROUP:
                flush()

        yield write
        flush()


def _as_cell(value: Any) -> str | None:
    """A cell as the text that the contract takes it for."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
