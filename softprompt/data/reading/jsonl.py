"""JSON Lines, strictly: what the usual parsers swallow is a fault of its row.

Two parsers share the work. The fast one, pydantic's, would swallow duplicate keys and infinite floats, so it has the last
word only where a look at the line and at the result proves that there can be none; the standard one judges the rest and
words all faults.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from softprompt.data.reading import limits
from softprompt.data.reading.lines import TooLong, encoding_fault
from softprompt.data.reading.records import Record

_BLANKS = " \t\r\n"
_FLAT = frozenset((str, int, float, bool, type(None)))


def jsonl_records(name: str, lines: Iterator[bytes | TooLong]) -> Iterator[Record]:
    """One record a line; blank lines are passed over.

    Args:
        name: Of the file.
        lines: Its lines.
    """
    for number, line in enumerate(lines, start=1):
        if isinstance(line, TooLong):
            yield Record(name, number, None, line.fault)
            continue
        cells = _parse_plain(line)
        if cells is not None:
            yield Record(name, number, cells, "")
        elif line.strip(b" \t\r\n"):
            yield _record(name, number, line)


def _parse_plain(line: bytes) -> dict[str, Any] | None:
    """A row of texts, finite numbers, booleans and nulls without duplicate keys; None where that is not certain.

    Every key is followed by a colon. If no quote that ends a text is followed by a blank, each key's is `":`, and if there
    are as many of these as there are keys in the result, no key was there twice.
    """
    try:
        cells = from_json(line, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    if (
        cells.__class__ is dict
        and line.count(b'":') == len(cells) <= limits.MAX_COLUMNS
        and not _has_blank_after_text(line)
        and _FLAT.issuperset(kinds := set(map(type, cells.values())))
        and (float not in kinds or all(value.__class__ is not float or math.isfinite(value) for value in cells.values()))
    ):
        return cells
    return None


def _has_blank_after_text(line: bytes) -> bool:
    """Whether a blank may follow a quote other than an escaped one, which is no text's end."""
    if b'"\t' in line:
        return True
    return b'" ' in line and (b"\\\\" in line or line.count(b'" ') != line.count(b'\\" '))


def _record(name: str, number: int, line: bytes) -> Record:
    try:
        return Record(name, number, _parse_any(line), "")
    except UnicodeDecodeError as error:
        return Record(name, number, None, encoding_fault(error))
    except json.JSONDecodeError as error:
        return Record(name, number, None, f"not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return Record(name, number, None, _too_deep())
    except ValueError as error:
        return Record(name, number, None, str(error))


def _parse_any(line: bytes) -> dict[str, Any]:
    text = line.decode().strip(_BLANKS)
    if text.startswith("\ufeff"):
        raise ValueError("a byte-order mark that is not at the start of the file")
    try:
        cells, end = _SCAN(text, 0)
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, error.value) from None
    if end < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    if not isinstance(cells, dict):
        raise ValueError(f"a row is an object with columns, this is {type(cells).__name__}")  # noqa: TRY004
    if len(cells) > limits.MAX_COLUMNS:
        raise ValueError(f"{len(cells)} columns, at most {limits.MAX_COLUMNS} are read")
    if text.count("{") + text.count("[") > limits.MAX_DEPTH and depth_of(cells) > limits.MAX_DEPTH:
        raise ValueError(_too_deep())
    if "\\ud" in text or "\\uD" in text:
        _refuse_surrogates(cells)
    return cells


def depth_of(content: Any) -> int:
    """How many objects and lists lie inside each other, this one included; 0 for a text or a number."""
    depth, level = 0, [content]
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
    return depth


def _too_deep() -> str:
    return f"nested deeper than {limits.MAX_DEPTH}"


def _refuse_surrogates(cells: dict[str, Any]) -> None:
    try:
        json.dumps(cells, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair, U+{ord(error.object[error.start]):04X}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {twice!r}")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is larger than a number may be")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")


# What `decode` does, less its search for blanks, which costs as much as the rest.
_SCAN = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_float=_finite, parse_constant=_refuse_constant).scan_once  # type: ignore[attr-defined]
