"""CSV and TSV, strictly, as RFC 4180 has them: a header, quotes around cells with delimiters or line ends, every cell a text.

The standard csv module parses, fed with one line at a time. After a fault inside quotes nobody knows where the next record
starts, so the file is refused rather than rows invented; a fault within one line is that row's.
"""

import csv
from collections.abc import Iterator

from softprompt.data.reading import limits
from softprompt.data.reading.lines import TooLong, encoding_fault
from softprompt.data.reading.records import Record
from softprompt.data.text.personal_data import mask
from softprompt.errors import DatasetRefused


def delimited_records(name: str, lines: Iterator[bytes | TooLong], *, delimiter: str) -> Iterator[Record]:
    """One record for each after the header; blank lines are passed over.

    Args:
        name: Of the file.
        lines: Its lines.
        delimiter: Between cells.

    Raises:
        DatasetRefused: No header, names in it that cannot be used, or a quote that is not closed.
    """
    columns: list[str] | None = None
    for line, cells, fault in _rows(_Feed(name, lines), delimiter):
        if columns is None:
            columns = _header(name, line, cells, fault)
        elif fault:
            yield Record(name, line, None, fault)
        elif len(cells) == len(columns):
            yield Record(name, line, dict(zip(columns, cells, strict=True)), "")
        else:
            yield Record(name, line, None, f"{len(cells)} cells, the header has {len(columns)}")
    if columns is None:
        raise DatasetRefused("The dataset has no header.", where=name, expected="a first line with the columns' names")


class _Feed:
    """Gives the parser its lines, and keeps what the parser does not tell.

    Attributes:
        start: Line where the record being parsed starts.
        line: The last line given.
        text: What it says.
        fault: Why the record being parsed cannot be used.
    """

    def __init__(self, name: str, lines: Iterator[bytes | TooLong]) -> None:
        self.name, self._lines = name, lines
        self.start, self.line, self.text, self.fault = 1, 0, "", ""
        self._num_bytes = 0

    def next_record(self) -> None:
        """What was parsed is done with."""
        self.start, self.fault, self._num_bytes = self.line + 1, "", 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.line += 1
            if isinstance(line, TooLong):
                yield self._passed_over(line)
                continue
            if self.line > self.start:
                self._continue_record(len(line))
            try:
                self.text = line.decode()
            except UnicodeDecodeError as error:
                self.text, self.fault = line.decode(errors="replace"), self.fault or encoding_fault(error)
            if "\0" in self.text:
                self.fault = self.fault or "a NUL byte"
            yield self.text

    def _continue_record(self, num_bytes: int) -> None:
        self._num_bytes = (self._num_bytes or len(self.text.encode())) + num_bytes
        if self._num_bytes > limits.MAX_LINE_BYTES:
            raise _unclosed(self.name, self.start, f"no end within {limits.MAX_LINE_BYTES} bytes")

    def _passed_over(self, line: TooLong) -> str:
        """Pass over the rest of a record with a line that is too long; the parser gets a blank line for it."""
        if self.line > self.start:
            raise _unclosed(self.name, self.start, f"no end within {limits.MAX_LINE_BYTES} bytes")
        num_quotes = line.num_quotes
        while num_quotes % 2 and (more := next(self._lines, None)) is not None:
            self.line += 1
            num_quotes += more.num_quotes if isinstance(more, TooLong) else more.count(b'"')
        self.fault = line.fault
        return "\n"


def _rows(feed: _Feed, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """(line where it starts, cells, fault) of each record that is not blank."""
    csv.field_size_limit(limits.MAX_LINE_BYTES)
    reader = csv.reader(iter(feed), delimiter=delimiter, strict=True)
    while True:
        try:
            for cells in reader:
                if feed.fault:
                    yield feed.start, cells, feed.fault
                elif cells:
                    yield (
                        feed.start,
                        cells,
                        "" if cells[0][:1] != "\ufeff" else "a byte-order mark that is not at the start of the file",
                    )
                feed.next_record()
        except csv.Error as error:
            yield feed.start, [], _row_fault(feed, error)
            feed.next_record()
        else:
            return


def _row_fault(feed: _Feed, error: csv.Error) -> str:
    """The fault of a row that starts and ends on its line: quotes pair up there, so the next line starts a record."""
    if feed.line == feed.start and feed.text.count('"') % 2 == 0:
        return f"quotes that do not enclose a cell: {error}"
    raise _unclosed(feed.name, feed.start, str(error)) from None


def _unclosed(name: str, line: int, actual: str) -> DatasetRefused:
    return DatasetRefused(
        "The dataset is not valid CSV: a quote is not closed.",
        where=f"{name}:{line}",
        actual=actual,
        hint='Close the quote; a quote inside a cell is written twice: "say ""hello""".',
    )


def _header(name: str, line: int, cells: list[str], fault: str) -> list[str]:
    if actual := fault or _fault_of_names(cells):
        raise DatasetRefused(
            "The header of the dataset cannot be used.",
            where=f"{name}:{line}",
            expected="a name for each column, no two the same",
            actual=mask(actual),
            hint="pandas writes a column without a name unless it is told index=False." if "no name" in actual else "",
        )
    return cells


def _fault_of_names(cells: list[str]) -> str:
    if len(cells) > limits.MAX_COLUMNS:
        return f"{len(cells)} columns, at most {limits.MAX_COLUMNS} are read"
    if "" in cells:
        return f"column {cells.index('') + 1} has no name"
    return next((f"{cell!r} is there twice" for cell in cells if cells.count(cell) > 1), "")
