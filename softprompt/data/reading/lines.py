r"""Lines of a file as bytes, whatever ends them (`\n`, `\r\n` or `\r`); one that is too long is passed over unheld."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from softprompt.data.reading import limits
from softprompt.errors import DatasetRefused

_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


@dataclass(frozen=True, slots=True)
class TooLong:
    """Stands for a line above MAX_LINE_BYTES.

    Attributes:
        num_quotes: How many double quotes were in it: an odd number opens or closes a quoted cell.
    """

    num_quotes: int

    @property
    def fault(self) -> str:
        """For the record."""
        return f"longer than {limits.MAX_LINE_BYTES} bytes"


def lines_of(blocks: Iterator[bytes], name: str) -> Iterator[bytes | TooLong]:
    """Split blocks into lines with their ends, one item a line, so that counting items counts lines.

    Args:
        blocks: At most BLOCK_BYTES each.
        name: Of the file, for messages.

    Raises:
        DatasetRefused: The text is UTF-16 or UTF-32.
    """
    rest, skipped_quotes, skipping = b"", 0, False
    for block in _without_mark(blocks, name):
        lines = (rest + block).splitlines(keepends=True)
        # A carriage return at the block's end may be half of a line end.
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        if lines and (skipping or _is_too_long(lines[0])):
            yield TooLong(skipped_quotes + lines.pop(0).count(b'"'))
            skipped_quotes, skipping = 0, False
        yield from lines
        if skipping or _is_too_long(rest):
            skipped_quotes, skipping = skipped_quotes + rest.count(b'"'), True
            rest = b"\r" if rest.endswith(b"\r") else b""
    if skipping:
        yield TooLong(skipped_quotes)
    elif rest:
        yield rest


def _is_too_long(line: bytes) -> bool:
    return len(line) > limits.MAX_LINE_BYTES and len(line.rstrip(b"\r\n")) > limits.MAX_LINE_BYTES


def _without_mark(blocks: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The same without UTF-8's byte-order mark at the very start; anywhere else the mark is a fault of its row."""
    first = next(blocks, b"")
    _refuse_wide(first, name)
    if first := first.removeprefix(codecs.BOM_UTF8):
        yield first
    yield from blocks


def _refuse_wide(start: bytes, name: str) -> None:
    encoding = next((encoding for mark, encoding in _WIDE.items() if start.startswith(mark)), "")
    if not encoding and len(start) >= 4 and bool(start[0]) != bool(start[1]) and start[0:2].count(0) == start[2:4].count(0) == 1:
        encoding = "UTF-16"  # without a mark: every other byte of ASCII is zero
    if encoding:
        raise DatasetRefused(
            "The dataset is not UTF-8 text.",
            where=name,
            expected="UTF-8",
            actual=encoding,
            hint=f"Convert it, for example: iconv -f {encoding} -t UTF-8 IN > OUT.",
        )


def encoding_fault(error: UnicodeDecodeError) -> str:
    """The fault of text that is not UTF-8."""
    return f"not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start} of the line"
