"""White space and punctuation: what a copy from elsewhere, a form or a hurry changes about them."""

import re
import unicodedata
from random import Random

RATE = 0.5
"""Share of gaps, or of marks, that are changed. At least one is, where there is one."""
_GAPS = ("  ", "\t", "\n", "   ", " \n ")
_AROUND = ("", " ", "\n", "\t", "  ")


def with_other_white_space(text: str, random: Random) -> str:
    """Every second gap between words becomes blanks, a tab or a new line; around the text comes other white space or none.

    The words stay as they are.
    """
    pieces = re.split(r"(\s+)", text.strip())
    changed = _some(range(1, len(pieces), 2), random)
    for place in changed:
        pieces[place] = random.choice([gap for gap in _GAPS if gap != pieces[place]])
    return random.choice(_AROUND) + "".join(pieces) + random.choice(_AROUND)


def with_other_punctuation(text: str, random: Random) -> str:
    """Every second mark (Unicode categories P) is lost or doubled. One between digits stays: it belongs to a number."""
    marks = [
        place
        for place, letter in enumerate(text)
        if unicodedata.category(letter).startswith("P") and not _within_number(text, place)
    ]
    letters = list(text)
    for place in _some(marks, random):
        letters[place] *= random.choice((0, 2))
    return "".join(letters)


def _some(places: "range | list[int]", random: Random) -> list[int]:
    """About every second place, at least one where there is one."""
    if not places:
        return []
    return [place for place in places if random.random() < RATE] or [random.choice(places)]


def _within_number(text: str, place: int) -> bool:
    return text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit()
