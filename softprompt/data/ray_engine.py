"""Reading and measuring over a Ray cluster: files are parsed and rows measured by Ray Data's workers, in order.

The functions that do the work are those of the local engine. The driver receives rows and numbers as they come and writes the
same table, so it needs disk for the rows and some 170 bytes of memory for each.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from softprompt.data.contract import RowFault
from softprompt.data.ingest import Faults, Source, contract_for
from softprompt.data.measure import EMPTY, Measurer, Measures
from softprompt.data.reading.records import DataFile, Record, read_records
from softprompt.data.rows import Row
from softprompt.data.table import ROWS_A_BATCH, RowTable, TableWriter, columns_of, row_of, table_schema
from softprompt.ray_session import start_ray
from softprompt.recipe import Recipe

OBJECT_STORE_BYTES = 512 * 1024 * 1024
"""Of a local Ray: some batches of rows on their way."""
FAULT = "fault:"
"""Column of what is wrong with a record; rows have an empty one."""


class ReadFile:
    """Reads a file into tables of rows and faults.

    Args:
        recipe: Says what the columns mean.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Iterator[pa.Table]:
        """Rows of one file, in order, some thousand at a time."""
        contract = contract_for(self._recipe)
        schema = table_schema(contract.input_columns, contract.spec.subgroup_columns).append(pa.field(FAULT, pa.string()))
        (name,), (path,), (is_test,) = batch["name"], batch["path"], batch["is_test"]
        rows: list[tuple[Row, str]] = []
        for record in read_records([DataFile(str(name), Path(str(path)))]):
            rows += _rows_and_faults(contract, record, is_test=bool(is_test))
            if len(rows) >= ROWS_A_BATCH:
                yield _table(rows, schema)
                rows = []
        yield _table(rows, schema)


class MeasureBatch:
    """Adds the rows' numbers to a table.

    Args:
        recipe: Says the split's seed.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._measurer = Measurer(recipe.dataset.split.seed)

    def __call__(self, batch: pa.Table) -> dict[str, NDArray[Any]]:
        """Columns of the table and of `Measures` side by side."""
        columns = {name: np.array(batch.column(name).to_pylist(), object) for name in batch.schema.names}
        pieces = batch.combine_chunks().to_batches()
        return columns | (self._measurer(pieces[0]) if pieces else EMPTY)


def ingest_on_ray(
    sources: Sequence[Source], recipe: Recipe, table: Path, told: Callable[[int], None]
) -> tuple[RowTable, Faults, Measures]:
    """Read and measure files over Ray's workers; the same table and numbers as by the local engine.

    Args:
        sources: (files, whether all their rows are test rows) pairs; workers must reach the files under the same paths.
        recipe: The recipe.
        table: File to write.
        told: Called with the number of rows so far, after each batch.
    """
    start_ray(object_store_bytes=OBJECT_STORE_BYTES)
    import ray.data

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    files = [{"name": file.name, "path": str(file.path), "is_test": is_test} for found, is_test in sources for file in found]
    stream = (
        ray.data.from_items(files, override_num_blocks=len(files))
        .map_batches(ReadFile(recipe), batch_size=1, batch_format="numpy")
        .map_batches(MeasureBatch, fn_constructor_args=(recipe,), batch_size=ROWS_A_BATCH, batch_format="pyarrow", concurrency=1)
    )
    contract = contract_for(recipe)
    faults, numbers, count = Faults(), [], 0
    with TableWriter(table, contract.input_columns, contract.spec.subgroup_columns) as writer:
        for batch in stream.iter_batches(batch_size=None, batch_format="numpy"):
            good = np.array([not fault for fault in batch[FAULT]], bool)
            numbers.append({name: batch[name][good] for name in EMPTY})
            for record in _records(batch):
                fault = record.pop(FAULT)
                if fault:
                    faults.add(Record(record["file"], record["line"], None, fault), fault)
                else:
                    writer.add(row_of(record))
            count += int(good.sum())
            told(count)
    return RowTable(table), faults, Measures.joined(numbers)


def _rows_and_faults(contract: Any, record: Record, *, is_test: bool) -> list[tuple[Row, str]]:
    try:
        return [(row.in_part("test") if is_test else row, "") for row in contract.rows(record)]
    except RowFault as fault:
        empty = dict.fromkeys(contract.input_columns, "")
        return [
            (Row("", record.line, empty, "", dict.fromkeys(contract.spec.subgroup_columns, ""), file=record.file), str(fault))
        ]


def _table(rows: Sequence[tuple[Row, str]], schema: pa.Schema) -> pa.Table:
    columns = columns_of([row for row, _ in rows], schema.remove(schema.get_field_index(FAULT)))
    return pa.Table.from_pydict(columns | {FAULT: [fault for _, fault in rows]}, schema=schema)


def _records(batch: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
    names = [name for name in batch if name not in EMPTY]
    for cells in zip(*(batch[name].tolist() for name in names), strict=True):
        yield dict(zip(names, cells, strict=True))
