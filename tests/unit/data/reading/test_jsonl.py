"""JSON Lines: the strict parser's word is what counts, and the fast one never says otherwise."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from softprompt.data.reading import jsonl, limits
from softprompt.data.reading.lines import lines_of

GOOD = '{"text": "a", "n": 1}'

FAULTS = {
    "broken": ('{"text": "a"', "not JSON: Expecting ',' delimiter at character 13"),
    "more after it": ('{"text": "a"} {}', "not JSON: Extra data at character 14"),
    "nothing": ("?", "not JSON: Expecting value at character 1"),
    "a raw control character": ('{"text": "a\x01"}', "not JSON: Invalid control character"),
    "a form feed": ("\x0c", "not JSON"),
    "a list": ("[1]", "a row is an object with columns, this is list"),
    "a duplicate key": ('{"a": 1, "b": 2, "a": 1}', "duplicate key 'a'"),
    "a duplicate key behind a blank": ('{"a": 1, "a" : 1}', "duplicate key 'a'"),
    "a duplicate key behind a tab": ('{"a":1,"a"\t:1}', "duplicate key 'a'"),
    "a duplicate key that looks escaped": ('{"a\\\\":1,"a\\\\" :2}', "duplicate key 'a\\\\'"),
    "a duplicate key written otherwise": ('{"a": 1, "\\u0061": 2}', "duplicate key 'a'"),
    "a duplicate key inside": ('{"a": {"b": 1, "b": 2}}', "duplicate key 'b'"),
    "NaN": ('{"a": NaN}', "NaN is not a number"),
    "infinity": ('{"a": -Infinity}', "-Infinity is not a number"),
    "infinity by size": ('{"a": 1e999}', "1e999 is larger than a number may be"),
    "infinity by length": ('{"a": [-1%s.0]}' % ("0" * 400), "is larger than a number may be"),
    "an endless integer": ('{"a": %s}' % ("9" * 5000), "Exceeds the limit"),
    "half a pair": ('{"a": "x\\ud83d"}', "half a surrogate pair, U+D83D"),
    "half a pair in a key": ('{"\\uDE00": 1}', "half a surrogate pair, U+DE00"),
    "too deep": ('{{"a": {}1{}}}'.format("[" * limits.MAX_DEPTH, "]" * limits.MAX_DEPTH), "nested deeper than 32"),
    "far too deep": ('{"a": %s' % ("[" * 100_000), "nested deeper than 32"),
    "not UTF-8": (b'{"a": "caf\xe9"}', "not UTF-8: byte 0xe9 at offset 10 of the line"),
    "a surrogate as bytes": (b'{"a": "\xed\xa0\x80"}', "not UTF-8: byte 0xed"),
    "a second mark": ("\ufeff" + GOOD, "a byte-order mark that is not at the start of the file"),
    "too long": ('{"a": "%s"}' % ("x" * limits.MAX_LINE_BYTES), "longer than 1048576 bytes"),
    "too many columns": (json.dumps({str(n): 1 for n in range(1001)}), "1001 columns, at most 1000 are read"),
    "too many columns, compact": (json.dumps({str(n): 1 for n in range(1001)}, separators=(",", ":")), "1001 columns"),
}


def records(content: bytes):
    blocks = (content[at : at + limits.BLOCK_BYTES] for at in range(0, len(content), limits.BLOCK_BYTES))
    return list(jsonl.jsonl_records("a.jsonl", lines_of(blocks, "a.jsonl")))


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_and_reading_goes_on(case):
    line, fault = FAULTS[case]
    line = line.encode() if isinstance(line, str) else line
    found = records(GOOD.encode() + b"\n" + line + b"\n" + GOOD.encode())
    assert [(record.line, record.cells is not None) for record in found] == [(1, True), (2, False), (3, True)]
    assert fault in found[1].fault
    assert found[1].file == "a.jsonl"


def test_what_only_looks_like_a_fault_is_a_row():
    rows = [
        {"a": "{[" * 40},
        {"a": 'say "hi" : "you"', "b": '":"'},
        {"a": "\\", "b": "\\u d800 \\ud800"},
        {"a": "😀", "b": 1e308, "c": -0.0, "d": 2**100},
        {"a": [[{"b": None}]]},
        {"": ""},
        {},
    ]
    assert [record.cells for record in records("\n".join(map(json.dumps, rows)).encode())] == rows


def test_the_deepest_row_that_is_read():
    line = '{{"a": {}1{}}}'.format("[" * (limits.MAX_DEPTH - 1), "]" * (limits.MAX_DEPTH - 1))
    assert jsonl.depth_of(records(line.encode())[0].cells) == limits.MAX_DEPTH


def test_blank_lines_are_passed_over_and_counted():
    assert [record.line for record in records(b"\n  \r\n" + GOOD.encode() + b"\r\t\n" + GOOD.encode())] == [3, 5]


def test_a_thousand_columns_are_read():
    row = {str(n): n for n in range(1000)}
    assert records(json.dumps(row).encode())[0].cells == row


def judged_strictly(line: bytes):
    """What the standard parser alone says of a line."""
    return [] if not line.strip(b" \t\r\n") else [jsonl._record("a.jsonl", 1, line)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
pairs = st.lists(st.tuples(st.sampled_from(["a", "b", "a\\", '"', ":", "é"]) | st.text(max_size=3), values), max_size=5)
blanks = st.sampled_from(["", "", " ", "\t", "  "])


@st.composite
def objects(draw):
    """Objects as text, with duplicate keys, NaN and blanks in odd places."""

    def member(key, value):
        written = json.dumps(value, ensure_ascii=draw(st.booleans()))
        return f"{draw(blanks)}{json.dumps(key)}{draw(blanks)}:{draw(blanks)}{written}{draw(blanks)}"

    members = [member(key, value) for key, value in draw(pairs)]
    text = "{" + ",".join(members) + "}"
    return text.replace("\n", "").replace("\r", "").encode("utf-8", "surrogatepass")


tokens = st.sampled_from(
    [
        '{"a":',
        '"a"',
        '"a":1,',
        '"b":',
        ":",
        ",",
        '"',
        "\\",
        '\\"',
        " ",
        "\t",
        "}",
        "{",
        "[",
        "]",
        "1",
        "1e999",
        "NaN",
        "é",
        "\\u0061",
    ]
)


@given(objects() | st.lists(tokens, max_size=14).map(lambda parts: "".join(parts).encode()))
@example(b'{"a":1,"a" :2}')
@example(b'{"a\\\\":1,"a\\\\" :2}')
@example(b'{"a":"\\" ","a" :2}')
@settings(max_examples=1500)
def test_the_fast_parser_never_contradicts_the_strict_one(line):
    assert repr(records(line)) == repr(judged_strictly(line))


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), max_size=4))
@settings(max_examples=300)
def test_rows_that_python_writes_strictly_are_read_as_they_were(rows):
    strict = []
    for row in rows:
        try:
            text = json.dumps(row, allow_nan=False, ensure_ascii=False).encode()
        except ValueError:
            continue
        strict.append((row, text))
    found = records(b"\n".join(text for _, text in strict))
    assert [record.cells for record in found] == [row for row, _ in strict]
