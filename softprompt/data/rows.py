"""A row of a dataset, and what was found wrong with rows."""

from dataclasses import dataclass, field, replace
from typing import Literal

from softprompt.data.text.personal_data import mask
from softprompt.documents import canonical_json, sha256_hex

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
Severity = Literal["refuse", "drop", "warn"]
SEVERITIES: tuple[Severity, ...] = ("refuse", "drop", "warn")
"""Worst first."""
MOST_PLACES = 100
"""Rows that a finding names; it counts them all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, with the place it came from.

    Attributes:
        id: Its name in reports: the id column's value, else `FILE:LINE`.
        line: 1-based line of the file where it starts.
        inputs: Column -> text, for the columns that the template names.
        target: The right answer: a label, or the text to generate.
        subgroups: Column -> value, for the recipe's subgroup columns.
        part: Which part of the dataset it belongs to.
        group: Rows of one group stay in one part; empty: none.
        must_pass: Whether every approved prompt must answer it rightly.
        file: Name of the file it came from.
    """

    id: str
    line: int
    inputs: dict[str, str]
    target: str
    subgroups: dict[str, str] = field(default_factory=dict)
    part: Part = "train"
    group: str = ""
    must_pass: bool = False
    file: str = ""

    def in_part(self, part: Part) -> "Row":
        """The same row in another part."""
        return replace(self, part=part)

    @property
    def place(self) -> str:
        """Where a person finds it: file and line, and its id where that says more; an id may be somebody's address."""
        place = f"{self.file}:{self.line}" if self.file else mask(self.id)
        return place if self.id == place or not self.file else f"{place} ({mask(self.id)})"

    @property
    def input_digest(self) -> str:
        """Identity of the input text: equal inputs are one question, whatever their answers say."""
        return sha256_hex(canonical_json({column: normalised(text) for column, text in self.inputs.items()}))


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with some rows.

    Attributes:
        check: Name of the check, a key of `dataset.on_finding`.
        severity: `refuse`: no prompt is trained on this. `drop`: the rows were left out. `warn`: it is reported.
        message: What is wrong, and what to do.
        num_rows: How many rows it is about.
        places: The first of them: `FILE:LINE`, with the row's id where it has one.
        details: What was there, parallel to `places`, personal data masked.
    """

    check: str
    severity: Severity
    message: str
    num_rows: int = 0
    places: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def normalised(text: str) -> str:
    """A text as comparisons see it: without case and runs of white space."""
    return " ".join(text.split()).casefold()
