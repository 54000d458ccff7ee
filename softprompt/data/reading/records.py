"""Records of a dataset, whatever its files' formats: the one door to this package."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from softprompt.data.reading import limits
from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import DataFile, compression_of, format_of, unknown_ending

__all__ = ["DataFile", "Record", "read_records"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file, or why it cannot be used.

    Attributes:
        file: Name of its file, as people know it.
        line: 1-based source line where it starts; of Parquet and Arrow the 1-based row.
        cells: Column -> text, number, boolean, None, list or dict; None with a fault.
        fault: Why it cannot be used, a short phrase; empty with cells.
    """

    file: str
    line: int
    cells: dict[str, Any] | None
    fault: str


def read_records(files: Sequence[DataFile]) -> Iterator[Record]:
    """The records of files, one after another; a fault of one row is a record, and reading goes on.

    Args:
        files: Read in this order; each by its ending.

    Raises:
        DatasetRefused: A file that cannot be read on, or too many rows.
    """
    num_records = 0
    for file in files:
        for record in _records_of(file):
            num_records += 1
            if num_records > limits.MAX_ROWS:
                raise DatasetRefused(
                    "The dataset has more rows than are read.",
                    where=f"{record.file}:{record.line}",
                    expected=f"<= {limits.MAX_ROWS} rows",
                    hint="Take a sample; a prompt has few parameters, and a hundred thousand rows are plenty.",
                )
            yield record


def _records_of(file: DataFile) -> Iterator[Record]:
    # Each reader makes Records, so it can only be imported once there are some.
    from softprompt.data.reading.columnar import columnar_records
    from softprompt.data.reading.compressed import blocks_of
    from softprompt.data.reading.delimited import delimited_records
    from softprompt.data.reading.jsonl import jsonl_records
    from softprompt.data.reading.lines import lines_of

    kind = format_of(file.name)
    if not kind:
        raise unknown_ending(file.name)
    _refuse_absent(file)
    if kind in ("parquet", "arrow"):
        return columnar_records(file, kind)
    lines = lines_of(blocks_of(file, compression_of(file.name)), file.name)
    if kind == "jsonl":
        return jsonl_records(file.name, lines)
    return delimited_records(file.name, lines, delimiter="\t" if kind == "tsv" else ",")


def _refuse_absent(file: DataFile) -> None:
    """A pipe or a device would keep the reader waiting, so that only real files are opened."""
    if not file.path.is_file():
        raise DatasetRefused(
            "The dataset is not there.",
            where=str(file.path),
            hint="Check dataset.uri; a relative path counts from the recipe's folder.",
        )
