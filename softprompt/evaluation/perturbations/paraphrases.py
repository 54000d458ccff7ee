"""The recipe's own paraphrases: JSONL with `id` of a row and its text in other words, in the template's columns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from softprompt.data.reading.records import DataFile, read_records
from softprompt.errors import InvalidRequest

ID = "id"


def read_paraphrases(path: Path, *, columns: Sequence[str], ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Row id -> column -> text.

    Args:
        path: A `.jsonl` file.
        columns: The template's; others are passed over.
        ids: Of all rows of the dataset. Paraphrases of rows that became no test rows are read and never asked for.

    Raises:
        InvalidRequest: No such file, a line that is no row, an id that no row has, a second paraphrase of one row, or a column
            that is missing or empty.
    """
    if not path.is_file():
        raise InvalidRequest(
            "There is no file of paraphrases.", where=str(path), hint="See evaluation.paraphrases in the recipe."
        )
    found: dict[str, dict[str, str]] = {}
    known = frozenset(ids)
    for where, cells in _lines(path):
        row = cells.get(ID)
        if not isinstance(row, str) or row not in known:
            raise _wrong("A paraphrase belongs to no row.", where, f"{ID}: the id of a row of the dataset", row)
        if row in found:
            raise _wrong("A row has two paraphrases.", where, "one line for each id", row)
        found[row] = _texts(where, cells, columns)
    return found


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for record in read_records([DataFile(path.name, path)]):
        where = f"{path}:{record.line}"
        if record.cells is None:
            raise _wrong("A paraphrase cannot be read.", where, "a JSON object", record.fault)
        yield where, record.cells


def _texts(where: str, cells: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    for column in columns:
        text = cells.get(column)
        if not isinstance(text, str) or not text.strip():
            raise _wrong("A paraphrase lacks a column of the template.", where, f"{column}: a text", text)
    return {column: cells[column] for column in columns}


def _wrong(what: str, where: str, expected: str, actual: object) -> InvalidRequest:
    shown = "nothing" if actual is None else str(actual)[:100]
    return InvalidRequest(what, where=where, expected=expected, actual=shown, hint="Correct the line or take it out.")
