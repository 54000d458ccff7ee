"""Where a piece of personal data stands in a text."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["e_mail", "phone", "card", "iban", "national_id", "ip_address"]


@dataclass(frozen=True)
class Match:
    """A piece of personal data: never the piece itself, so that no log or report can print it by mistake.

    Attributes:
        kind: What it is.
        start: 0-based index of its first character.
        end: Index after its last character.
    """

    kind: Kind
    start: int
    end: int
