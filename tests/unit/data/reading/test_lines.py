"""Lines: any line end, any block size, and nothing held of a line that is too long."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.reading import limits
from softprompt.data.reading.lines import TooLong, lines_of
from softprompt.errors import DatasetRefused


@pytest.fixture
def short_lines(monkeypatch):
    monkeypatch.setattr(limits, "MAX_LINE_BYTES", 12)


def in_blocks(content, size):
    return (content[at : at + size] for at in range(0, len(content), size))


# Blocks of one byte would hide a byte-order mark and are not what files give; the mark has tests of its own.
@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b'"', b"\x85", b"\xc2\x85", b"\x0b"]), max_size=60), st.integers(1, 20)
)
def test_lines_are_those_of_universal_newlines_wherever_blocks_end(parts, size):
    content = b"".join(parts)
    assert list(lines_of(in_blocks(content, size), "a")) == content.splitlines(keepends=True)


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b'"', b"a" * 12, b'"' * 13]), max_size=60), st.integers(1, 12))
def test_a_line_that_is_too_long_is_one_item_with_its_quotes(parts, size):
    content = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAX_LINE_BYTES", 12)
        found = list(lines_of(in_blocks(content, size), "a"))
    lines = content.splitlines(keepends=True)
    assert found == [TooLong(line.count(b'"')) if len(line.rstrip(b"\r\n")) > 12 else line for line in lines]


def test_nothing_is_held_of_a_line_that_is_too_long():
    block = b"x" * limits.BLOCK_BYTES
    tracemalloc.start()
    found = list(lines_of((block for _ in range(400)), "a"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == [TooLong(0)]
    assert peak < 5 * limits.MAX_LINE_BYTES


def test_the_longest_line_that_is_read():
    line = b"x" * limits.MAX_LINE_BYTES
    content = line + b"\r\n" + line + b"y\n" + line
    assert [type(found) for found in lines_of(in_blocks(content, limits.BLOCK_BYTES), "a")] == [bytes, TooLong, bytes]


def test_the_mark_is_taken_off_once_and_at_the_start_only():
    mark = b"\xef\xbb\xbf"
    assert list(lines_of(iter([mark + mark + b"a\n", mark + b"b"]), "a")) == [mark + b"a\n", mark + b"b"]
    assert list(lines_of(iter([mark]), "a")) == []
    assert list(lines_of(iter([]), "a")) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(encoding):
    with pytest.raises(DatasetRefused, match="not UTF-8") as caught:
        list(lines_of(iter(['{"text": "a"}\n'.encode(encoding)]), "rows.jsonl"))
    assert encoding[:6].upper() in caught.value.actual
    assert "iconv" in caught.value.hint
    assert caught.value.where == "rows.jsonl"
