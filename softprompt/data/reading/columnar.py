"""Parquet and Arrow: a few rows in memory at a time, each with its number in place of a line.

Text, numbers, booleans, lists and structs are taken as they are; dates, times and decimals as the text Arrow writes for
them, such as `2024-01-31 12:00:00` and `1.50`. What the types rule out (bytes, maps) is refused once for the file.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from softprompt.data.reading import limits
from softprompt.data.reading.records import Record
from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import DataFile

_FILE_MAGIC = b"ARROW1"


def columnar_records(file: DataFile, kind: str) -> Iterator[Record]:
    """One record a row.

    Args:
        file: What to read.
        kind: `parquet` or `arrow`.

    Raises:
        DatasetRefused: It is not such a file, is spoilt, or has columns that cannot be cells.
    """
    batches = _parquet_batches if kind == "parquet" else _arrow_batches
    with _refusals(file, kind):
        number = 1
        for batch in batches(file):
            yield from _records(file.name, number, batch)
            number += batch.num_rows


@contextmanager
def _refusals(file: DataFile, kind: str) -> Iterator[None]:
    try:
        yield
    # Arrow's bindings answer some spoilt files with Python's own errors: a length that fits no integer, a name that is no text.
    except (OSError, pa.ArrowException, ValueError, OverflowError, KeyError) as error:
        raise DatasetRefused(
            f"The dataset is not a {kind.capitalize()} file that can be read.",
            where=file.name,
            actual=(str(error).strip().splitlines() or [type(error).__name__])[0][:300],
            hint="Copy the file again, or write it again.",
        ) from None


def _parquet_batches(file: DataFile) -> Iterator[pa.RecordBatch]:
    # A spoilt page may claim any length: what is mapped ends with the file, what is buffered is allocated first. A large
    # file is buffered all the same, because mapped pages count as the process's memory.
    mapped = file.path.stat().st_size <= limits.MAPPED_BYTES
    buffering = {"memory_map": True} if mapped else {"buffer_size": 2**20}
    with parquet.ParquetFile(file.path, pre_buffer=False, **buffering) as source:
        wanted = _as_cells(source.schema_arrow, file.name)
        for batch in source.iter_batches(limits.BATCH_ROWS, use_threads=False):
            yield batch.cast(wanted) if wanted != batch.schema else batch


def _arrow_batches(file: DataFile) -> Iterator[pa.RecordBatch]:
    """Slices of a mapped file; a file of either form, random access or stream."""
    with pa.memory_map(str(file.path)) as source:
        is_file = source.read(len(_FILE_MAGIC)) == _FILE_MAGIC
        source.seek(0)
        open_reader, options = pa.ipc.open_file if is_file else pa.ipc.open_stream, pa.ipc.IpcReadOptions(use_threads=False)
        with open_reader(source, options=options) as reader:
            wanted = _as_cells(reader.schema, file.name)
            for whole in _each_batch(reader, is_file=is_file):
                # Offsets come from the file; unchecked ones would have Arrow read beyond its buffers.
                whole.validate(full=True)
                for start in range(0, whole.num_rows, limits.BATCH_ROWS):
                    batch = whole.slice(start, limits.BATCH_ROWS)
                    yield batch.cast(wanted) if wanted != batch.schema else batch


def _each_batch(reader: Any, *, is_file: bool) -> Iterator[pa.RecordBatch]:
    return (reader.get_batch(index) for index in range(reader.num_record_batches)) if is_file else iter(reader)


def _as_cells(schema: pa.Schema, name: str) -> pa.Schema:
    """The schema whose values are cells."""
    if len(schema.names) > limits.MAX_COLUMNS:
        raise _unusable(name, f"{len(schema.names)} columns", f"<= {limits.MAX_COLUMNS} columns")
    _refuse_names(schema.names, name)
    return pa.schema([pa.field(field.name, _cell_type(field.type, field.name, name, depth=1)) for field in schema])


def _refuse_names(names: list[str], name: str) -> None:
    if "" in names:
        raise _unusable(name, f"column {names.index('') + 1} has no name", "a name for each column")
    column, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise _unusable(name, f"{column!r} is there twice", "no two columns of the same name")


def _cell_type(kind: pa.DataType, column: str, name: str, *, depth: int) -> pa.DataType:
    """The type that a column is cast to: its own, or text."""
    if depth > limits.MAX_DEPTH:
        raise _unusable(name, f"column {column!r} is nested deeper", f"a depth <= {limits.MAX_DEPTH}")
    if any(is_kind(kind) for is_kind in _TAKEN):
        return kind
    if any(is_kind(kind) for is_kind in _AS_TEXT):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()

    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_cell_type(field.type, column, name, depth=depth + 1)).with_nullable(True)

    if pa.types.is_dictionary(kind):
        return _cell_type(kind.value_type, column, name, depth=depth)
    if pa.types.is_struct(kind):
        _refuse_names([field.name for field in kind], name)
        return pa.struct([inner(field) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(inner(kind.value_field))
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(inner(kind.value_field))
    raise _unusable(name, f"column {column!r} is {str(kind)[:100]}", "text, numbers, booleans, dates, lists or structs")


_TAKEN: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_boolean,
    pa.types.is_null,
)
_AS_TEXT = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time, pa.types.is_decimal, pa.types.is_string_view)


def _unusable(name: str, actual: str, expected: str) -> DatasetRefused:
    hint = "Write the file without the column, or with a type that can be read."
    return DatasetRefused("A column of the dataset cannot be read.", where=name, expected=expected, actual=actual, hint=hint)


def _records(name: str, number: int, batch: pa.RecordBatch) -> Iterator[Record]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        rows = [_row(batch, index) for index in range(batch.num_rows)]
    look_closer = batch.nbytes > limits.MAX_LINE_BYTES or not all(map(_is_finite, batch.columns))
    for index, row in enumerate(rows):
        fault = row if isinstance(row, str) else _fault(row) if look_closer else ""
        yield Record(name, number + index, None if fault else row, fault)


def _row(batch: pa.RecordBatch, index: int) -> dict[str, Any] | str:
    """The cells of one row, or its fault."""
    try:
        return batch.slice(index, 1).to_pylist()[0]  # type: ignore[no-any-return]
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start} of a cell"


def _is_finite(column: pa.Array) -> bool:
    """Whether all numbers of a column are finite; nested ones are not looked at, so the answer is no."""
    if pa.types.is_nested(column.type):
        return False
    return not pa.types.is_floating(column.type) or pc.all(pc.is_finite(column), min_count=0).as_py()


def _fault(row: dict[str, Any]) -> str:
    num_bytes, left = 0, [*row.items()]
    while left:
        key, value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return f"column {key!r} is {value}, not a number"
        if isinstance(value, str):
            num_bytes += len(value.encode())
        elif isinstance(value, dict | list):
            left += [(key, inner) for inner in (value.values() if isinstance(value, dict) else value)]
    return f"longer than {limits.MAX_LINE_BYTES} bytes" if num_bytes > limits.MAX_LINE_BYTES else ""
