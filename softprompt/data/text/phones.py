"""Phone numbers: international ones, and those that a region's people write among themselves (Google's libphonenumber)."""

import re
from collections.abc import Iterator
from itertools import islice

from softprompt.data.text.matches import Match

_PUNCTUATION = r" ().\-/\xa0\u202f\u2010-\u2015"
_INTERNATIONAL = re.compile(rf"(?<![\w+])\(?(?:[+＋]|00)(?=\D{{0,2}}[1-9１-９٠-٩۱-۹])[\d{_PUNCTUATION}]{{7,32}}")
_NATIONAL = re.compile(
    rf"(?<![\w.,#+€$£¥/-])(?<![€$£¥#] )\(?\d(?:[{_PUNCTUATION}]{{0,3}}\d){{6,13}}"
    r"(?!\w|[.,/-]\d| ?(?:[€$£¥%]|EUR|USD|GBP))"
)

_PHONE_WORD = re.compile(
    r"\b(?:tele?(?:ph|f|kom)?\w*|phone|call(?: me)?|ring|mobile?|cell\w*|fax|whatsapp|sms|text me|reach|handy\w*|ruf\w*|"
    r"cellulare|port[áa]vel|m[óo]vil|portable|appel\w*|chiam\w*|ll[áa]m\w*|ligue|bel)\b",
    re.IGNORECASE,
)
_OTHER_NUMBER_WORD = re.compile(
    r"\b(?:order|invoice|reference|ref|ticket|booking|tracking|parcel|account|customer|policy|serial|transaction|article|item|case|"
    r"id|sku|iban|nhs|ssn|bestell\w*|rechnung\w*|auftrag\w*|kunden\w*|konto\w*|sendung\w*|commande|facture|dossier|compte|colis|"
    r"pedido|factura|cuenta|fatura|encomenda|conta|ordine|fattura|conto|spedizione|bestelling|factuur|rekening)\b",
    re.IGNORECASE,
)
_CONTEXT_CHARACTERS = 32


def phones(text: str, region: str = "", most_candidates: int | None = None) -> Iterator[Match]:
    """Valid numbers that begin with a plus sign or 00; with a region also its national ones, unless they are order numbers.

    Args:
        text: Any text.
        region: ISO 3166 code, for example `GB`, of the people who wrote the text; without it national numbers are not looked for.
        most_candidates: Pieces that are looked at; all when None.

    Yields:
        Each number; an international one is found twice when a region is given.
    """
    for candidate in islice(_INTERNATIONAL.finditer(text), most_candidates):
        yield from _verified(candidate.group(), candidate.start(), None)
    if region:
        for candidate in islice(_NATIONAL.finditer(text), most_candidates):
            if _may_be_phone(candidate, text):
                yield from _verified(candidate.group(), candidate.start(), region)


def _verified(piece: str, start: int, region: str | None) -> Iterator[Match]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    shift = 0
    if region is None and (zeros := re.match(r"\(?00", piece)):
        # The library takes 00 for a prefix only in regions that dial it; written out it is a plus sign.
        piece, shift = piece.replace("00", "+", 1), 1
        start -= zeros.start()
    leniency = Leniency.VALID if region is None else Leniency.STRICT_GROUPING
    for found in PhoneNumberMatcher(piece, region, leniency=leniency, max_tries=4):
        yield Match("phone", start + (found.start + shift if found.start else 0), start + found.end + shift)


def _may_be_phone(candidate: re.Match[str], text: str) -> bool:
    """Whether the words before, the grouping or the trunk prefix speak for a phone number rather than an order number."""
    before = text[max(0, candidate.start() - _CONTEXT_CHARACTERS) : candidate.start()]
    if _PHONE_WORD.search(before):
        return True
    return not _OTHER_NUMBER_WORD.search(before) and (not candidate.group().isdecimal() or candidate.group().startswith("0"))
