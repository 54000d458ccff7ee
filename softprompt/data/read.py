"""Read JSONL and CSV strictly: every fault becomes a finding that names its line, and the good rows are kept.

UTF-8 only (a byte-order mark is accepted), at most a megabyte a line, no duplicate JSON keys, no NaN.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.data.rows import Finding, Row
from softprompt.documents import parse_json
from softprompt.errors import DatasetRefused, VerificationFailed
from softprompt.recipe import DatasetSpec

MAX_LINE_BYTES = 1024 * 1024
SUFFIXES = (".jsonl", ".csv")


class _RowFault(Exception):
    """A row cannot be used."""


def read_rows(path: Path, spec: DatasetSpec, input_columns: tuple[str, ...]) -> tuple[list[Row], list[Finding]]:
    """Read the rows of a file.

    Args:
        path: A .jsonl or .csv file.
        spec: What the columns mean.
        input_columns: The columns that the template names.

    Returns:
        The usable rows, and one finding for each kind of fault among the others.

    Raises:
        DatasetRefused: No such file, a format that is not read, or text that is not UTF-8.
    """
    if path.suffix not in SUFFIXES:
        raise DatasetRefused(
            "This kind of file is not read as a dataset.",
            where=str(path),
            expected=" or ".join(SUFFIXES),
            actual=path.suffix or "no ending",
        )
    records = _jsonl(path) if path.suffix == ".jsonl" else _csv(path)
    rows, faults = [], []
    for line, record in records:
        try:
            rows.append(_row(record, line, path, spec, input_columns))
        except _RowFault as fault:
            faults.append((line, str(fault)))
    return rows, [_unusable(path, faults)] if faults else []


def _unusable(path: Path, faults: list[tuple[int, str]]) -> Finding:
    return Finding(
        "readable",
        "refuse",
        "One row cannot be used; mend or remove it."
        if len(faults) == 1
        else f"{len(faults)} rows cannot be used; mend or remove them.",
        tuple(f"{path.name}:{line}" for line, _ in faults),
        tuple(reason for _, reason in faults),
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetRefused(
            "The dataset is not there.",
            where=str(path),
            hint="Check dataset.uri; a relative path counts from the recipe's folder.",
        ) from None
    except OSError as error:
        raise DatasetRefused("The dataset cannot be read.", where=str(path), actual=str(error)) from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DatasetRefused(
            "The dataset is not UTF-8 text.",
            where=f"{path}:{line}",
            actual=f"byte 0x{error.object[error.start]:02x} at offset {error.start}",
            hint="Convert it, for example: iconv -f LATIN1 -t UTF-8 IN > OUT.",
        ) from None


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, record or the fault that stands in for it)."""
    for line, text in enumerate(_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            yield line, parse_json(text.encode(), source=f"{path.name}:{line}", max_bytes=MAX_LINE_BYTES)
        except VerificationFailed as error:
            yield line, _RowFault(error.actual or error.what)


def _csv(path: Path) -> Iterator[tuple[int, Any]]:
    """(line on which the record starts, record)."""
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    line = 1
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DatasetRefused("Two columns of the dataset have the same name.", where=f"{path}:1", actual=", ".join(header))
        line = reader.line_num + 1
        for cells in reader:
            if cells:
                fits = len(cells) == len(header)
                yield (
                    line,
                    dict(zip(header, cells, strict=True))
                    if fits
                    else _RowFault(f"{len(cells)} cells, the header has {len(header)}"),
                )
            line = reader.line_num + 1
    except csv.Error as error:
        raise DatasetRefused("The dataset is not valid CSV.", where=f"{path}:{line}", actual=str(error)) from None


def _row(record: Any, line: int, path: Path, spec: DatasetSpec, input_columns: tuple[str, ...]) -> Row:
    if isinstance(record, _RowFault):
        raise record
    if not isinstance(record, dict):
        raise _RowFault(f"a row is an object with columns, this is {type(record).__name__}")
    place = f"{path.name}:{line}"
    return Row(
        id=_cell(record, spec.id_column) if spec.id_column else place,
        line=line,
        inputs={column: _cell(record, column) for column in input_columns},
        target=_cell(record, spec.target_column),
        subgroups={column: _cell(record, column) for column in spec.subgroup_columns},
    )


def _cell(record: dict[str, Any], column: str) -> str:
    if column not in record:
        raise _RowFault(f"no column {column!r}; there are {', '.join(map(repr, record)) or 'none'}")
    value = record[column]
    if isinstance(value, bool | int):
        value = str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str):
        raise _RowFault(f"column {column!r} is {type(value).__name__}, not text")
    if not value.strip():
        raise _RowFault(f"column {column!r} is empty")
    return value
