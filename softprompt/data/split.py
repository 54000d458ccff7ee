"""Divide rows into training, validation and test by a hash of their content.

The same rows land in the same part when others are added, and equal inputs land together, so a test row never has a twin in
training. Shares are met in expectation.
"""

from softprompt.data.rows import Part, Row
from softprompt.documents import sha256_hex
from softprompt.recipe import SplitSpec


def split_rows(rows: list[Row], spec: SplitSpec) -> list[Row]:
    """Put each row into its part; order is kept."""
    return [row.in_part(_part(row, spec)) for row in rows]


def _part(row: Row, spec: SplitSpec) -> Part:
    place = int(sha256_hex(f"{spec.seed}/{row.input_digest}".encode())[:13], 16) / 16**13
    if place < spec.test:
        return "test"
    return "validation" if place < spec.test + spec.validation else "train"
