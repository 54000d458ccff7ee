"""Personal data in a text: where it stands, and the text without it."""

import re
from collections.abc import Iterator

from softprompt.data.text.cards import cards
from softprompt.data.text.e_mails import e_mails
from softprompt.data.text.ibans import ibans
from softprompt.data.text.ip_addresses import ip_addresses
from softprompt.data.text.matches import Kind, Match
from softprompt.data.text.national_ids import national_ids
from softprompt.data.text.phones import phones

def _number(digit: str, other: str) -> re.Pattern[str]:
    return re.compile(f"{digit}(?:{other}{{0,5}}{digit}){{5}}(?:{other}{{0,5}}{digit}| ?[A-Da-d]\\b)")


_ASCII_NUMBER, _NUMBER = _number("[0-9]", "[^0-9]"), _number(r"\d", r"\D")
"""Seven digits close together: no kind of number has fewer, but for the British one that ends with a letter."""

_RANKS: dict[Kind, int] = {kind: rank for rank, kind in enumerate(("e_mail", "iban", "card", "national_id", "ip_address", "phone"))}
"""Of two kinds that claim the same characters, the one whose test is harder to pass by chance comes first."""


def may_hold_personal_data(text: str) -> bool:
    """Whether a closer look is worth it; quick, and never wrong about a no."""
    if text.isascii():
        return "@" in text or _ASCII_NUMBER.search(text) is not None
    return "@" in text or "＠" in text or _NUMBER.search(text) is not None


def find_personal_data(text: str, region: str = "", most_candidates: int | None = None) -> list[Match]:
    """E-mail addresses, phone, card, account and national identity numbers, internet addresses.

    Args:
        text: Any text.
        region: ISO 3166 code of the people who wrote it, to find national phone numbers too.
        most_candidates: How many pieces of the text each kind looks at closely, which bounds the time; all when None.

    Returns:
        In order of the text. A match inside another one is left out; two that overlap in part are both there.
    """
    if not may_hold_personal_data(text):
        return []
    found = sorted(set(_all_matches(text, region, most_candidates)), key=lambda match: (match.start, -match.end, _RANKS[match.kind]))
    outer: list[Match] = []
    for match in found:
        if not outer or match.end > outer[-1].end:
            outer.append(match)
    return outer


def mask(text: str, region: str = "") -> str:
    """The text with all personal data taken out.

    Of an e-mail address the first character remains (`j…@…`), of a number the last two digits (`…42`), and not its length.

    Args:
        text: Any text.
        region: As for `find_personal_data`.

    Returns:
        A text in which `find_personal_data` finds nothing.
    """
    while matches := find_personal_data(text, region):
        # Again, until nothing is left: what remains of a number can become a new one together with its neighbours.
        text = _without(text, matches)
    return text


def excerpt(text: str, most_characters: int = 40) -> str:
    """The beginning of a text for a report, quoted; masked before it is cut, so that no cut hides a number from the mask.

    Args:
        text: Any text.
        most_characters: What is shown of it.
    """
    return repr(mask(text[: 10 * most_characters])[:most_characters])


def _all_matches(text: str, region: str, most: int | None) -> Iterator[Match]:
    yield from e_mails(text, most)
    if _NUMBER.search(text):
        yield from ibans(text, most)
        yield from cards(text, most)
        yield from national_ids(text, most)
        yield from ip_addresses(text, most)
        yield from phones(text, region, most)


def _without(text: str, matches: list[Match]) -> str:
    pieces, position = [], 0
    for match in matches:
        start = max(match.start, position)
        pieces += [text[position:start], _remainder(match.kind, text[start : match.end])]
        position = match.end
    return "".join((*pieces, text[position:]))


def _remainder(kind: Kind, piece: str) -> str:
    if kind == "e_mail":
        return f"{piece[0]}…@…"
    return "…" + (piece[-2:] if piece[-2:].isdecimal() else "")
