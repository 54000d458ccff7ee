"""CSV and TSV: records start where they start, faults stay with their rows, and no row is invented after a lost quote."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.data.reading import limits
from softprompt.data.reading.delimited import delimited_records
from softprompt.data.reading.lines import lines_of
from softprompt.errors import DatasetRefused


def records(content: bytes, delimiter=","):
    blocks = (content[at : at + limits.BLOCK_BYTES] for at in range(0, len(content), limits.BLOCK_BYTES))
    return list(delimited_records("a.csv", lines_of(blocks, "a.csv"), delimiter=delimiter))


def seen(content: bytes):
    return [(record.line, record.cells or record.fault) for record in records(content)]


def test_quoted_line_ends_delimiters_and_quotes_are_text():
    content = b'text,label\r\n"one\ntwo\r\nthree\rfour",x\n\n"a, ""b""",y\r'
    assert seen(content) == [
        (2, {"text": "one\ntwo\r\nthree\rfour", "label": "x"}),
        (7, {"text": 'a, "b"', "label": "y"}),
    ]


FAULTS = {
    "too few": (b"b", "1 cells, the header has 2"),
    "too many": (b"b,c,d", "3 cells, the header has 2"),
    "not UTF-8": (b"caf\xe9,x", "not UTF-8: byte 0xe9 at offset 3 of the line"),
    "not UTF-8 in a quoted line": (b'"a\n\xff",x', "not UTF-8: byte 0xff at offset 0 of the line"),
    "NUL": (b"a\0b,x", "a NUL byte"),
    "a mark": (b"\xef\xbb\xbfa,x", "a byte-order mark that is not at the start of the file"),
    "quotes inside": (b'"say "hi" to me",x', "quotes that do not enclose a cell"),
    "too long": (b"x" * limits.MAX_LINE_BYTES + b",y", "longer than 1048576 bytes"),
    "too long, over lines": (b'"' + b"x" * limits.MAX_LINE_BYTES + b'\nmore,"",\n",y', "longer than 1048576 bytes"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_and_reading_goes_on(case):
    line, fault = FAULTS[case]
    found = records(b"text,label\na,x\n" + line + b"\nc,z\n")
    assert [record.line for record in found] == [2, 3, 4 + line.count(b"\n")]
    assert fault in found[1].fault
    assert found[1].cells is None
    assert found[2].cells == {"text": "c", "label": "z"}


REFUSED = {
    "nothing": (b"", "no header"),
    "blank": (b"\n\r\n\r", "no header"),
    "no name": (b",text\n", "column 1 has no name"),
    "a name twice": (b"text,text\n", "'text' is there twice"),
    "too many names": (",".join(map(str, range(1001))).encode(), "1001 columns, at most 1000"),
    "a header that is too long": (b"x" * (limits.MAX_LINE_BYTES + 1), "longer than"),
    "a header that is not UTF-8": (b"caf\xe9\n", "not UTF-8"),
    "a second mark": (b"\xef\xbb\xbf\xef\xbb\xbftext\n", "byte-order mark"),
    "a quote without end": (b'text,label\na,b\n"open,x\nmore,y\n', "a.csv:3"),
    "a quote without end, long": (b'text,label\n"open,x\n' + b"more,y\n" * 200_000, "a.csv:2"),
    "a quote without end before a long line": (b'text\n"open\n' + b"x" * (limits.MAX_LINE_BYTES + 1), "a.csv:2"),
    "a long line within quotes": (b'text\n"open\n' + b"x" * (limits.MAX_LINE_BYTES + 1) + b'\nend"\n', "a.csv:2"),
    "a record of lines that is too long": (b"a,b,c\n" + b",".join([b'"' + b"x" * 500_000 + b'\n"'] * 3), "a.csv:2"),
    "quotes that mislead": (b'text,label\n"a\nb"c,x\n', "a.csv:2"),
    "quotes that may go on": (b'text,label\n"a"b,"x\ny,z\n', "a.csv:2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_on_is_refused_with_its_place(case):
    content, reason = REFUSED[case]
    with pytest.raises(DatasetRefused) as caught:
        records(content)
    assert reason in str(caught.value)
    assert "a.csv" in caught.value.where


def test_the_empty_name_that_pandas_writes_is_explained():
    with pytest.raises(DatasetRefused) as caught:
        records(b",text\n0,a\n")
    assert "index=False" in caught.value.hint


cells = st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"', "\r", "\n", ",", "\t"]
)


@given(st.lists(st.tuples(cells, cells), max_size=6), st.sampled_from([",", "\t"]), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=400)
def test_what_the_standard_writer_writes_is_read_back(rows, delimiter, end):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    found = records(text.getvalue().encode(), delimiter)
    assert [tuple(record.cells.values()) for record in found] == rows
    lines = text.getvalue().encode().splitlines()
    assert all(lines[record.line - 1].startswith(b'"') for record in found)


@given(st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"a", b"\xff", b"\0", b"\xef\xbb\xbf"]), max_size=40))
@settings(max_examples=600)
def test_any_bytes_give_records_or_a_refusal(parts):
    try:
        found = records(b"x,y\n" + b"".join(parts))
    except DatasetRefused:
        return
    assert all((record.cells is None) == bool(record.fault) for record in found)
    assert [record.line for record in found] == sorted({record.line for record in found})
