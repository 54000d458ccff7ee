"""International bank account numbers: country, length, structure and checksum (ISO 13616, by python-stdnum)."""

import functools
import re
from collections.abc import Iterator

from softprompt.data.text.matches import Match

_CANDIDATE = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[ \xa0-]?[0-9]{2}(?:[ \xa0\u202f.-]?[0-9A-Za-z]){11,30}")
_SEPARATORS = re.compile(r"[^0-9A-Za-z]")


def ibans(text: str, most_candidates: int | None = None) -> Iterator[Match]:
    """Account numbers of every country in the registry.

    Args:
        text: Any text.
        most_candidates: Pieces that are looked at; all when None.

    Yields:
        Each account number.
    """
    position = 0
    for _ in range(len(text) if most_candidates is None else most_candidates):
        candidate = _CANDIDATE.search(text, position)
        if candidate is None:
            return
        end = _end_of_iban(text, candidate)
        if end:
            yield Match("iban", candidate.start(), end)
        # What follows a rejected beginning may be a beginning itself: `is GB29 ...`.
        position = end or candidate.start() + 2


def _end_of_iban(text: str, candidate: re.Match[str]) -> int:
    """Where the country's length ends: words that follow the number belong to the candidate but not to the number."""
    from stdnum import iban

    length = _length(candidate.group()[:2].upper())
    places = [place for place in range(*candidate.span()) if text[place].isalnum()]
    if not length or len(places) < length:
        return 0
    end = places[length - 1] + 1
    number = _SEPARATORS.sub("", text[candidate.start() : end])
    goes_on = end < len(text) and text[end].isalnum()
    return end if not goes_on and iban.is_valid(number, check_country=False) else 0


@functools.cache
def _length(country: str) -> int:
    from stdnum import numdb

    properties = numdb.get("iban").info(country)[0][1]
    return 4 + sum(int(number) for number in re.findall(r"(\d+)!", properties["bban"])) if properties else 0
