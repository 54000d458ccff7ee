"""Public addresses of the internet, which can point at a person."""

import ipaddress
import re
from collections.abc import Iterator
from itertools import islice

from softprompt.data.text.matches import Match

_CANDIDATE = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w.]*[0-9])|[23][0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w:]))", re.IGNORECASE
)
_FEWEST_DIGITS = 7
"""Of a version-4 address; `1.2.3.4` is a section of a manual, and 8.8.8.8 is nobody's."""

_VERSION = re.compile(r"(?:version|release|firmware|build|update|v)[ .:]*\Z", re.IGNORECASE)
_CONTEXT_CHARACTERS = 20


def ip_addresses(text: str, most_candidates: int | None = None) -> Iterator[Match]:
    """Global addresses of version 4 and 6, but not version numbers.

    Args:
        text: Any text.
        most_candidates: Pieces that are looked at; all when None.

    Yields:
        Each address.
    """
    for candidate in islice(_CANDIDATE.finditer(text), most_candidates):
        before = text[max(0, candidate.start() - _CONTEXT_CHARACTERS) : candidate.start()]
        if _is_global(candidate.group()) and not _VERSION.search(before):
            yield Match("ip_address", *candidate.span())


def _is_global(piece: str) -> bool:
    if "." in piece and len(piece) - 3 < _FEWEST_DIGITS:
        return False
    try:
        return ipaddress.ip_address(piece).is_global
    except ValueError:
        return False
