"""Payment card numbers: an issuer's prefix, its length, the Luhn digit, and the way people group the digits."""

import re
from collections.abc import Iterator
from itertools import islice

from softprompt.data.text.matches import Match

_RUN = re.compile(r"(?<![0-9A-Za-z])[0-9]+(?:[ \xa0\u202f.\-\u2010-\u2013][0-9]+)*(?![0-9A-Za-z])")
_GROUP = re.compile("[0-9]+")
_LAYOUTS = ((4, 4, 4, 4, 3), (4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 3, 3, 3))

_ISSUERS = re.compile(
    """
      4 [0-9]{12} (?:[0-9]{3}){0,2}                                                         # Visa
    | (?: 5[1-5] | 222[1-9] | 22[3-9][0-9] | 2[3-6][0-9]{2} | 27[01][0-9] | 2720 ) [0-9]*   # Mastercard
    | 3[47] [0-9]{13}                                                                       # American Express
    | 3 (?: 0[0-5] | [689][0-9] ) [0-9]{11}                                                 # Diners Club
    | (?: 6011 | 64[4-9] | 65 ) [0-9]*                                                      # Discover
    | 35 (?: 2[89] | [3-8][0-9] ) [0-9]{12,15}                                              # JCB
    | 62 [0-9]*                                                                             # UnionPay
    | (?: 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 676[1-3] ) [0-9]*                       # Maestro
    """,
    re.VERBOSE,
)
_FIXED_LENGTHS = re.compile("5[1-5]|2")
_CONTEXT = re.compile("card|visa|credit|debit|karte|carte|tarjeta|carta|cart[aã]o|kaart", re.IGNORECASE)
_CONTEXT_CHARACTERS = 40


def cards(text: str, most_candidates: int | None = None) -> Iterator[Match]:
    """Card numbers of 14 to 19 digits, and of 13 where the words before speak of a card: so long are product codes too.

    Args:
        text: Any text.
        most_candidates: Runs of digits that are looked at, and groups in each; all when None.

    Yields:
        Each number.
    """
    for run in islice(_RUN.finditer(text), most_candidates):
        if run.end() - run.start() < 13:
            continue
        groups = [group.span() for group in islice(_GROUP.finditer(text, *run.span()), most_candidates)]
        first = 0
        while first < len(groups):
            used = next((used for used in _spans(groups, first) if _is_card(text, groups[first : first + used])), 0)
            if used:
                yield Match("card", groups[first][0], groups[first + used - 1][1])
            first += used or 1


def _spans(groups: list[tuple[int, int]], first: int) -> Iterator[int]:
    lengths = tuple(end - start for start, end in groups[first : first + 5])
    if 13 <= lengths[0] <= 19:
        yield 1
    for layout in _LAYOUTS:
        if lengths[: len(layout)] == layout:
            yield len(layout)


def _is_card(text: str, groups: list[tuple[int, int]]) -> bool:
    from stdnum import luhn

    digits = "".join(text[start:end] for start, end in groups)
    if not _ISSUERS.fullmatch(digits) or len(set(digits)) == 1 or not luhn.is_valid(digits):
        return False
    if _FIXED_LENGTHS.match(digits):
        return len(digits) == 16
    start = groups[0][0]
    return len(digits) > 13 or bool(_CONTEXT.search(text[max(0, start - _CONTEXT_CHARACTERS) : start]))
