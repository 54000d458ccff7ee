"""E-mail addresses."""

import re
from collections.abc import Iterator
from itertools import islice

from softprompt.data.text.matches import Match

_AT = re.compile(r"(?<=[\w+-])[@＠](?=\w)")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?[.．])+(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w@])", re.IGNORECASE)
_LONGEST_LOCAL, _LONGEST_DOMAIN = 64, 254


def e_mails(text: str, most_candidates: int | None = None) -> Iterator[Match]:
    """Addresses with a domain of two labels or more whose last one is letters.

    Args:
        text: Any text.
        most_candidates: At signs that are looked at; all when None.

    Yields:
        Each address.
    """
    taken = 0
    for at in islice(_AT.finditer(text), most_candidates):
        # Windows around each at sign instead of one pattern over the text: its cost does not grow with long runs of letters.
        local = _LOCAL.search(text[max(taken, at.start() - _LONGEST_LOCAL) : at.start()])
        domain = _DOMAIN.match(text[at.end() : at.end() + _LONGEST_DOMAIN])
        if local and domain:
            start, taken = at.start() - len(local.group().lstrip(".'")), at.end() + domain.end()
            yield Match("e_mail", start, taken)
