"""The rows of a dataset in one Arrow file, written as they are read and mapped into memory: on disk however many they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from softprompt.data.rows import PARTS, Row

ROWS_A_BATCH = 8192
INPUT, SUBGROUP = "input:", "subgroup:"
"""Prefixes of a table's columns of these kinds."""


class TableWriter:
    """Writes rows into a new file; use as a context manager.

    Args:
        path: File to write.
        input_columns: The rows' inputs.
        subgroup_columns: The rows' subgroups.
    """

    def __init__(self, path: Path, input_columns: Sequence[str], subgroup_columns: Sequence[str]) -> None:
        self._schema = table_schema(input_columns, subgroup_columns)
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)
        self._waiting: list[Row] = []

    def add(self, row: Row) -> None:
        """Append a row."""
        self._waiting.append(row)
        if len(self._waiting) == ROWS_A_BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_batch(pa.RecordBatch.from_pydict(columns_of(self._waiting, self._schema), schema=self._schema))
            self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._flush()
        self._writer.close()
        self._file.close()


class RowTable:
    """Rows of a file that `TableWriter` wrote.

    Args:
        path: The file; it must stay while the table is used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        sizes = [self._reader.get_batch(number).num_rows for number in range(self._reader.num_record_batches)]
        self._starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return self._reader.schema

    @property
    def num_batches(self) -> int:
        """How many pieces the file has."""
        return int(self._reader.num_record_batches)

    def batch(self, number: int) -> pa.RecordBatch:
        """One piece, mapped."""
        return self._reader.get_batch(number)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All pieces in order."""
        return (self.batch(number) for number in range(self.num_batches))

    def column(self, name: str) -> pa.ChunkedArray:
        """A column, mapped."""
        return pa.chunked_array([batch.column(name) for batch in self.batches()], self._reader.schema.field(name).type)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(name.removeprefix(INPUT) for name in self._reader.schema.names if name.startswith(INPUT))

    def written(self, rows: NDArray[np.integer[Any]], path: Path) -> "RowTable":
        """Some rows as a table of their own.

        Args:
            rows: Their places, ascending.
            path: File to write.
        """
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self.schema) as writer:
            for start, batch in zip(self._starts.tolist(), self.batches(), strict=False):
                mine = rows[(rows >= start) & (rows < start + batch.num_rows)]
                writer.write_batch(batch.take(pa.array(mine - start)))
        return RowTable(path)

    def take(self, rows: NDArray[np.integer[Any]] | Sequence[int], part: NDArray[np.int8] | None = None) -> list[Row]:
        """Some rows, in the order asked for.

        Args:
            rows: Their places in the table.
            part: Each table row's part, as a place in `PARTS`; default: what the rows themselves say.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        found: list[Row | None] = [None] * len(wanted)
        for number in np.unique(numbers):
            (where,) = np.nonzero(numbers == number)
            piece = self.batch(int(number)).take(pa.array(wanted[where] - self._starts[number]))
            for place, record in zip(where.tolist(), piece.to_pylist(), strict=True):
                row = row_of(record)
                found[place] = row if part is None else row.in_part(PARTS[part[wanted[place]]])
        return [row for row in found if row is not None]


def table_schema(input_columns: Sequence[str], subgroup_columns: Sequence[str]) -> pa.Schema:
    """The columns of a table; those of a part's Parquet file are the same."""
    text = pa.string()
    own = [("id", text), ("file", text), ("line", pa.int64()), ("target", text), ("part", text), ("group", text)]
    more = [*(INPUT + name for name in input_columns), *(SUBGROUP + name for name in subgroup_columns)]
    return pa.schema([*own, ("must_pass", pa.bool_()), *((name, text) for name in more)])


def columns_of(rows: Sequence[Row], schema: pa.Schema) -> dict[str, list[Any]]:
    """Rows as columns."""
    found: dict[str, list[Any]] = {}
    for name in schema.names:
        if name.startswith(INPUT):
            found[name] = [row.inputs[name[len(INPUT) :]] for row in rows]
        elif name.startswith(SUBGROUP):
            found[name] = [row.subgroups[name[len(SUBGROUP) :]] for row in rows]
        else:
            found[name] = [getattr(row, name) for row in rows]
    return found


def row_of(record: dict[str, Any]) -> Row:
    """A row from its record of a table or of a Parquet file."""
    own = {name: value for name, value in record.items() if ":" not in name}
    inputs = {name[len(INPUT) :]: value for name, value in record.items() if name.startswith(INPUT)}
    return Row(
        inputs=inputs,
        subgroups={name[len(SUBGROUP) :]: value for name, value in record.items() if name.startswith(SUBGROUP)},
        **own,
    )
