"""A row of a dataset, and what was found wrong with rows."""

from dataclasses import dataclass, replace
from typing import Literal

from softprompt.documents import canonical_json, sha256_hex

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Row:
    """One row, with the place it came from.

    Attributes:
        id: Its name in reports: the id column's value, else `FILE:LINE`.
        line: 1-based line of the file where it starts.
        inputs: Column -> text, for the columns that the template names.
        target: The right answer: a label, or the text to generate.
        subgroups: Column -> value, for the recipe's subgroup columns.
        part: Which part of the dataset it belongs to.
    """

    id: str
    line: int
    inputs: dict[str, str]
    target: str
    subgroups: dict[str, str]
    part: Part = "train"

    def in_part(self, part: Part) -> "Row":
        """The same row in another part."""
        return replace(self, part=part)

    @property
    def input_digest(self) -> str:
        """Identity of the input text: equal inputs are one question, whatever their answers say."""
        return sha256_hex(canonical_json({column: " ".join(text.split()).casefold() for column, text in self.inputs.items()}))


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with some rows.

    Attributes:
        check: Name of the check.
        severity: `refuse`: no prompt is trained on this. `warn`: it is reported.
        message: What is wrong, and what to do.
        places: `FILE:LINE` of the rows concerned.
        details: For some of the places, what was there; parallel to `places` or empty.
    """

    check: str
    severity: Literal["refuse", "warn"]
    message: str
    places: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
