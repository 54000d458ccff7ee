"""Rows of a recipe's dataset out of its files' records: every fault becomes a finding that names its line."""

from collections.abc import Sequence
from typing import Any

from softprompt.data.reading.records import DataFile, Record, read_records
from softprompt.data.rows import Finding, Row
from softprompt.recipe import DatasetSpec


class _RowFault(Exception):
    """A row cannot be used."""


def read_rows(files: Sequence[DataFile], spec: DatasetSpec, input_columns: tuple[str, ...]) -> tuple[list[Row], list[Finding]]:
    """Read the rows of files.

    Args:
        files: As `fetch_dataset` gives them.
        spec: What the columns mean.
        input_columns: The columns that the template names.

    Returns:
        The usable rows, and a finding that names the others.

    Raises:
        DatasetRefused: A file that is not read.
    """
    rows, faults = [], []
    for record in read_records(files):
        try:
            rows.append(_row(record, spec, input_columns))
        except _RowFault as fault:
            faults.append((f"{record.file}:{record.line}", str(fault)))
    return rows, [_unusable(faults)] if faults else []


def _unusable(faults: list[tuple[str, str]]) -> Finding:
    return Finding(
        "readable",
        "refuse",
        "One row cannot be used; mend or remove it."
        if len(faults) == 1
        else f"{len(faults)} rows cannot be used; mend or remove them.",
        tuple(place for place, _ in faults),
        tuple(reason for _, reason in faults),
    )


def _row(record: Record, spec: DatasetSpec, input_columns: tuple[str, ...]) -> Row:
    cells = record.cells
    if cells is None:
        raise _RowFault(record.fault)
    return Row(
        id=_cell(cells, spec.id_column) if spec.id_column else f"{record.file}:{record.line}",
        line=record.line,
        inputs={column: _cell(cells, column) for column in input_columns},
        target=_cell(cells, spec.target_column),
        subgroups={column: _cell(cells, column) for column in spec.subgroup_columns},
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
