"""Typing errors of the kinds that break models (Belinkov & Bisk 2018): a wrong key, letters that are lost, doubled or swapped."""

import re
from collections.abc import Callable
from random import Random

TYPO_RATE = 0.1
"""Share of words that get an error. A text with a word long enough gets one at least."""
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"(?<![^\W_])[^\W\d_]{4,}(?![^\W_])")


def with_typos(text: str, random: Random) -> str:
    """One error in every tenth word of four letters or more, at any letter but the first.

    Words with digits stay as they are: a number with an error is another number. A letter that is on no QWERTY keyboard is lost,
    doubled or swapped, never mistaken for its neighbour.
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    chosen = [word for word in words if random.random() < TYPO_RATE] or [random.choice(words)]
    for word in reversed(chosen):
        text = text[: word.start()] + _mistyped(word.group(), random) + text[word.end() :]
    return text


def _mistyped(word: str, random: Random) -> str:
    place = random.randrange(1, len(word))
    return random.choice(_ERRORS)(word, place, random)


def _wrong_key(word: str, place: int, random: Random) -> str:
    neighbours = NEIGHBOURS.get(word[place].lower())
    if not neighbours:
        return _lost(word, place, random)
    key = random.choice(neighbours)
    return word[:place] + (key.upper() if word[place].isupper() else key) + word[place + 1 :]


def _lost(word: str, place: int, _: Random) -> str:
    return word[:place] + word[place + 1 :]


def _doubled(word: str, place: int, _: Random) -> str:
    return word[: place + 1] + word[place:]


def _swapped(word: str, place: int, random: Random) -> str:
    """With the letter before it; the first letter keeps its place, and of two like letters one is lost instead."""
    place = max(place, 2)
    if word[place - 1] == word[place]:
        return _lost(word, place, random)
    return word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]


def _neighbours() -> dict[str, str]:
    """Letter -> the letters on the keys around it; each row of keys lies half a key to the right of the one above."""
    found: dict[str, str] = {}
    for number, row in enumerate(_ROWS):
        above = _ROWS[number - 1] if number else ""
        below = _ROWS[number + 1] if number + 1 < len(_ROWS) else ""
        for place, letter in enumerate(row):
            beside = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
            found[letter] = beside + above[place : place + 2] + below[max(place - 1, 0) : place + 1]
    return found


NEIGHBOURS = _neighbours()
_ERRORS: tuple[Callable[[str, int, Random], str], ...] = (_wrong_key, _lost, _doubled, _swapped)
