"""Files become one table of rows; what cannot be used is counted and named."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from softprompt.base_model import load_text_side
from softprompt.data.contract import CONVERSATION, Contract, RowFault
from softprompt.data.measure import Measurer, Measures
from softprompt.data.reading.records import DataFile, Record, read_records
from softprompt.data.rows import MOST_PLACES, Row
from softprompt.data.table import RowTable, TableWriter
from softprompt.data.text.personal_data import mask
from softprompt.engine.conversation import chat_renderer
from softprompt.errors import InvalidRecipe, UnsupportedBaseModel
from softprompt.fetch import fetch_base
from softprompt.recipe import Recipe

ROWS_BETWEEN_REPORTS = 250_000

Source = tuple[tuple[DataFile, ...], bool]
"""Files, and whether all their rows are test rows."""


@dataclass
class Faults:
    """Records that cannot be used: how many, and the first of them."""

    count: int = 0
    first: list[tuple[str, str]] = field(default_factory=list)
    """(`FILE:LINE`, why), personal data masked."""

    def add(self, record: Record, why: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < MOST_PLACES:
            # A file without a header has somebody's row for column names.
            self.first.append((f"{record.file}:{record.line}", mask(why)))


def ingest_here(
    sources: Sequence[Source], recipe: Recipe, table: Path, told: Callable[[int], None]
) -> tuple[RowTable, Faults, Measures]:
    """Read and measure files in this process.

    Args:
        sources: (files, whether all their rows are test rows) pairs.
        recipe: The recipe.
        table: File to write.
        told: Called with the number of rows so far, now and then.
    """
    contract = contract_for(recipe)
    faults = Faults()
    with TableWriter(table, contract.input_columns, contract.spec.subgroup_columns) as writer:
        for number, row in enumerate(iter_rows(sources, contract, faults), start=1):
            writer.add(row)
            if number % ROWS_BETWEEN_REPORTS == 0:
                told(number)
    rows = RowTable(table)
    measurer = Measurer(recipe.dataset.split.seed)
    return rows, faults, Measures.joined(map(measurer, rows.batches()))


def contract_for(recipe: Recipe) -> Contract:
    """The contract of a recipe's dataset; conversations need the base's chat template.

    Raises:
        InvalidRecipe: The base has no chat template.
    """
    if not recipe.dataset.messages_column:
        return Contract(recipe.dataset, recipe.input_columns)
    text_side = load_text_side(fetch_base(recipe.base_model.uri))
    try:
        return Contract(recipe.dataset, (CONVERSATION,), chat_renderer(text_side))
    except UnsupportedBaseModel as error:
        raise InvalidRecipe(
            error.what,
            where="dataset.messages_column",
            expected=error.expected,
            hint="Use a chat model, or target_column with a template of your own.",
        ) from None


def iter_rows(sources: Sequence[Source], contract: Contract, faults: Faults) -> Iterator[Row]:
    """The rows of files as they are read; what cannot be used is added to `faults`."""
    for files, are_test in sources:
        for record in read_records(files):
            try:
                found = list(contract.rows(record))
            except RowFault as fault:
                faults.add(record, str(fault))
                continue
            for row in found:
                yield row.in_part("test") if are_test else row
