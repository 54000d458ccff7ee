"""Text that was decoded with the wrong encoding: `MÃ¼ller` for `Müller`."""

import re
from itertools import islice

_PLAUSIBLE = re.compile(r"[^\x00-\x7f]{2}|[ÃÂ] ")
"""UTF-8 writes what lies outside ASCII as two bytes or more, so misread it gives two such characters in a row;
in `Ã ` the second one, a no-break space, has become an ordinary space."""

_WORD = re.compile(r"[^ \t\r\n]*[ÃÂ] |[^ \t\r\n]+")
"""Not `str.split`: a misread byte A0 is a no-break space, or has become a space, and is part of the word."""

MOST_WORDS = 50
"""Suspicious words that are tried; each attempt decodes the word in a dozen ways."""

MOST_CHARACTERS = 20_000
"""What is searched of a text; a wrong decoding shows early."""


def mojibake(text: str) -> str:
    """The first piece that is mojibake beyond doubt: it can be decoded again, and then makes sense (ftfy's heuristic).

    Args:
        text: Any text.

    Returns:
        The piece and what it was meant to be, for example `'MÃ¼ller' for 'Müller'`; else ''.
    """
    if text.isascii() or not _PLAUSIBLE.search(text):
        return ""
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    text = text[:MOST_CHARACTERS]
    if not is_bad(text):
        return ""
    words = (word[:80] for word in _WORD.findall(text) if not word.isascii())
    for word in islice((word for word in words if is_bad(word)), MOST_WORDS):
        meant = fix_encoding(word)
        if meant != word:
            return f"{word.rstrip(' ')!r} for {meant.rstrip(' ')!r}"
    return ""
