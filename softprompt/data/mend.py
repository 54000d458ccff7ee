"""A dataset without the rows that were dropped or would refuse it, and what became of each of these.

Leaving rows out changes what checks see: a label may lose its last training row, a cluster its middle. So the checks run again
over what is left, until they leave nothing out; the cleaned set then validates as it is.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from softprompt.base_model import load_text_side
from softprompt.data.contract import Contract, RowFault
from softprompt.data.examined import Examined, Rows
from softprompt.data.ingest import Faults, contract_for
from softprompt.data.reading.records import Record, read_records
from softprompt.data.row_files import check_writable, rows_file
from softprompt.data.rows import Finding
from softprompt.data.table import RowTable
from softprompt.data.text.personal_data import mask
from softprompt.data.validate import Examination, divided, run_checks
from softprompt.errors import InvalidRequest
from softprompt.fetch import fetch_base
from softprompt.recipe import Recipe
from softprompt.recipe.dataset import DatasetSpec
from softprompt.resolve import ResolvedRecipe

MOST_ROUNDS = 20
"""Each leaves out at least a row; models of the rest may find new ones a few times, never so often."""

Place = tuple[str, int, bool]
"""(file, line, whether it is of the test rows' own files): one record."""


class Reason(NamedTuple):
    """Why a row was left out."""

    check: str
    reason: str


@dataclass
class Mended:
    """What is left of a dataset.

    Attributes:
        reasons: Row -> why it was left out.
        remaining: Findings that refuse what is left; rows alone do not mend them.
        num_kept: Records that were written.
        num_dropped: Check -> records that were left out.
        files: What was written.
    """

    reasons: dict[int, Reason]
    remaining: list[Finding]
    num_kept: int = 0
    num_dropped: Counter[str] = field(default_factory=Counter)
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Outputs:
    """Where the cleaned set goes.

    Attributes:
        rows: File of the rows; with `dataset.test_uri`, of those that are not test rows.
        tests: File of the test rows, where they have files of their own.
        log: File that says of each row why it was left out.
    """

    rows: Path
    tests: Path | None
    log: Path

    @classmethod
    def at(cls, path: Path, spec: DatasetSpec) -> "Outputs":
        """The files that go with a name."""
        stem, dot, endings = path.name.partition(".")
        tests = path.with_name(f"{stem}.test{dot}{endings}") if spec.test_uri else None
        return cls(path, tests, path.with_name(f"{path.name}.dropped.jsonl"))

    def check(self, resolved: ResolvedRecipe, *, overwrite: bool) -> None:
        """Find out before the work whether they may be written.

        Args:
            resolved: The recipe, with the places of the source.
            overwrite: Whether files that are there may be replaced.

        Raises:
            InvalidRequest: A file is there, is the source itself or would become part of it, or cannot be written.
        """
        lists = lists_of(resolved.recipe.dataset)
        for path in filter(None, (self.rows, self.tests, self.log)):
            check_writable(path, () if path == self.log else lists)
            _refuse_source(path, resolved)
            if path.exists() and not overwrite:
                raise InvalidRequest(
                    "There is a file of this name.", where=str(path), hint="Take another name, or add --overwrite."
                )


def _refuse_source(path: Path, resolved: ResolvedRecipe) -> None:
    for source in filter(None, (resolved.dataset, resolved.test_dataset)):
        own = Path(unquote(urlsplit(source.uri).path)).resolve()
        if source.uri.startswith("file://") and path.resolve().is_relative_to(own):
            raise InvalidRequest(
                "The cleaned set would replace the dataset, or become part of it.",
                where=str(path),
                hint="Write it elsewhere; the source stays as it is.",
            )


def mend(resolved: ResolvedRecipe, found: Examination, outputs: Outputs, folder: Path) -> Mended:
    """Write a dataset without the rows that are dropped or would refuse it.

    Args:
        resolved: The recipe.
        found: What examining the dataset gave.
        outputs: Where to write.
        folder: For tables of rows.
    """
    mended = without_faults(resolved, found, folder)
    recipe = resolved.recipe
    contract = contract_for(recipe)
    _write(recipe, contract, found, outputs, mended)
    return mended


def without_faults(resolved: ResolvedRecipe, found: Examination, folder: Path) -> Mended:
    """Leave rows out until the checks leave no more out."""
    text_side = load_text_side(fetch_base(resolved.recipe.base_model.uri))
    table, measures = found.data.table, found.data.measures
    origin: Rows = np.arange(len(table))
    record = _records(table, resolved.recipe.dataset)
    mended = Mended({}, [])
    for number in range(MOST_ROUNDS):
        data = divided(resolved, table, measures, mends=True)
        run_checks(data, found.faults if number == 0 else Faults(), text_side)
        mended.remaining = [finding for finding in data.findings if finding.severity == "refuse"]
        if data.kept.all():
            break
        mended.reasons |= {int(origin[row]): reason for row, reason in _reasons(data)}
        # A conversation stays whole: without one of its turns it would be another one.
        whole = ~np.isin(record[origin], record[origin[~data.kept]])
        (stays,) = np.nonzero(whole)
        table = table.written(stays, folder / f"rows.{number}.arrow")
        measures, origin = measures.take(stays), origin[stays]
    return mended


def _reasons(data: Examined) -> Iterator[tuple[int, Reason]]:
    """Each row that was left out, and why."""
    (gone,) = np.nonzero(~data.kept)
    for some in np.array_split(gone, len(gone) // 1024 + 1):
        for place, row in zip(some.tolist(), data.take(some), strict=True):
            by = data.drops[data.dropped_by[place]]
            yield place, Reason(by.check, by.said_of(place, row) or by.message)


def _records(table: RowTable, spec: DatasetSpec) -> NDArray[np.int64]:
    """`[R]` the same number for rows of one record: the turns of a conversation."""
    found = [number for number, (_, rows) in enumerate(groupby(_places(table, spec))) for _ in rows]
    return np.array(found, np.int64)


def _places(table: RowTable, spec: DatasetSpec) -> Iterator[Place]:
    """Where each row's record is."""
    for batch in table.batches():
        columns = (batch.column(name).to_pylist() for name in ("file", "line", "part"))
        yield from ((file, line, bool(spec.test_uri) and part == "test") for file, line, part in zip(*columns, strict=True))


def _write(recipe: Recipe, contract: Contract, found: Examination, outputs: Outputs, mended: Mended) -> None:
    """Read the source once more: each record goes to the cleaned set as it was, or to the log."""
    columns, table = columns_used(recipe), found.data.table
    rows = _RowsInStep(table, recipe.dataset)
    with rows_file(outputs.log, ("file", "line", "id", "check", "reason")) as log:
        for (files, are_test), path in zip(found.sources, filter(None, (outputs.rows, outputs.tests)), strict=True):
            with rows_file(path, columns, lists_of(recipe.dataset)) as keep:
                for record in read_records(files):
                    places = rows.of((record.file, record.line, are_test))
                    why = _why_not(contract, record, places, mended)
                    if why is None:
                        assert record.cells is not None, "a record with rows has cells"
                        keep(record.cells)
                        mended.num_kept += 1
                    else:
                        name = table.take(places[:1])[0].id if places else ""
                        place = {"file": record.file, "line": record.line, "id": mask(name)}
                        log(place | {"check": why.check, "reason": mask(why.reason)})
                        mended.num_dropped[why.check] += 1
            mended.files.append(path)
    mended.files.append(outputs.log)


def columns_used(recipe: Recipe) -> list[str]:
    """The columns that a recipe reads, each once."""
    spec = recipe.dataset
    inputs = () if spec.messages_column else recipe.input_columns
    wanted = [spec.id_column, *inputs, spec.target_column, spec.messages_column, spec.split_column, spec.group_column]
    return list(dict.fromkeys(filter(None, [*wanted, spec.must_pass_column, *spec.subgroup_columns])))


def lists_of(spec: DatasetSpec) -> tuple[str, ...]:
    """The columns whose cells are no text."""
    return tuple(filter(None, [spec.messages_column]))


class _RowsInStep:
    """The rows of each record, in step with reading the records once more."""

    def __init__(self, table: RowTable, spec: DatasetSpec) -> None:
        self._groups = groupby(enumerate(_places(table, spec)), key=lambda pair: pair[1])
        self._place: Place | None = None
        self._next()

    def _next(self) -> None:
        self._place, rows = next(self._groups, (None, iter(())))
        self._rows = [row for row, _ in rows]

    def of(self, place: Place) -> list[int]:
        """Places in the table of a record's rows; none where it cannot be used."""
        if self._place != place:
            return []
        rows = self._rows
        self._next()
        return rows


def _why_not(contract: Contract, record: Record, places: list[int], mended: Mended) -> Reason | None:
    """Why a record is left out; None: it is kept."""
    if not places:
        return Reason("unreadable", _fault(contract, record))
    return next((mended.reasons[place] for place in places if place in mended.reasons), None)


def _fault(contract: Contract, record: Record) -> str:
    try:
        list(contract.rows(record))
    except RowFault as fault:
        return str(fault)
    raise AssertionError("a record without rows has a fault")
