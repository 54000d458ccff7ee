"""Characters that no reader sees, or that no writer typed."""

import re
import unicodedata

import regex

_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
_INVISIBLE = r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
_DIRECTION = r"\u202a-\u202e\u2066-\u2069"
_DIRECTION_MARKS = r"\u061c\u200e\u200f"
_BROKEN = r"\ufffc\ufffd\ud800-\udfff"
_PRIVATE = r"\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd"
_NONCHARACTERS = r"\ufdd0-\ufdef" + "".join(rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(17))
_SELECTORS = r"\ufe00-\ufe0f\U000e0100-\U000e01ef"
_TAGS = r"\U000e0001\U000e0020-\U000e007f"
_JOINERS = r"\u200c\u200d"

_ALWAYS = _CONTROLS + _INVISIBLE + _DIRECTION + _BROKEN + _PRIVATE + _NONCHARACTERS

_ODD = re.compile(f"[{_ALWAYS}]")
_SUSPECT = re.compile(f"[{_ALWAYS}{_DIRECTION_MARKS}{_SELECTORS}{_TAGS}{_JOINERS}]")
"""Everything that is odd always, or depends on its neighbours: one quick search clears nearly every text."""

_JOINING_SCRIPTS = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Arabic", "Syriac", "Mandaic", "Nko", "Mongolian", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil"),
        *("Telugu", "Kannada", "Malayalam", "Sinhala", "Myanmar", "Khmer", "Tibetan"),
    )
)
_PICTURE = r"\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f"
_RIGHT_TO_LEFT = regex.compile(r"[\p{Hebrew}\p{Arabic}\p{Syriac}\p{Thaana}\p{Nko}]")

_ODD_BY_PLACE = (
    # Joiners shape the letters of some scripts and make one picture of several; anywhere else they hide.
    rf"(?<![{_JOINING_SCRIPTS}])\u200c",
    rf"(?<![{_JOINING_SCRIPTS}])(?:(?<![{_PICTURE}])\u200d|\u200d(?!\p{{Extended_Pictographic}}))",
    # Tags spell the flags of England, Scotland and Wales; longer or without a flag they are a hidden message.
    rf"(?<![\U0001f3f4{_TAGS}])[{_TAGS}]",
    rf"(?<=\U0001f3f4)[{_TAGS}]{{8}}",
    # One selector picks a picture's or an ideograph's form; a row of them is a hidden message.
    rf"[{_SELECTORS}]{{2}}",
    r"(?<!\p{Han})[\U000e0100-\U000e01ef]",
)
_MISPLACED = regex.compile("|".join((*_ODD_BY_PLACE, f"[{_DIRECTION_MARKS}]")))
_MISPLACED_RIGHT_TO_LEFT = regex.compile("|".join(_ODD_BY_PLACE))

MOST_CHARACTERS = 20_000
"""How far into a text characters are judged by their neighbours, which is slow. Those always odd are found anywhere."""

_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5")
"""Letters, marks and a symbol by category that show nothing."""


def odd_characters(text: str) -> str:
    """The first character that no reader sees or no writer typed.

    Args:
        text: Any text.

    Returns:
        Its code point, name and 1-based position, for example `U+200B ZERO WIDTH SPACE at character 12`; else ''.
    """
    if not _SUSPECT.search(text):
        return ""
    beginning = text[:MOST_CHARACTERS]
    misplaced = _MISPLACED_RIGHT_TO_LEFT if _RIGHT_TO_LEFT.search(beginning) else _MISPLACED
    found = [match for match in (_ODD.search(text), misplaced.search(beginning)) if match]
    first = min((match.start() for match in found), default=None)
    return "" if first is None else f"{_named(text[first])} at character {first + 1}"


def whitespace_only(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or all spaces, controls and invisible characters of Unicode."""
    return all(_shows_nothing(character) for character in text)


def _shows_nothing(character: str) -> bool:
    return character.isspace() or character in _BLANKS or unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zs")


def _named(character: str) -> str:
    code = ord(character)
    return f"U+{code:04X} {unicodedata.name(character, '') or _name_of_nameless(code)}"


def _name_of_nameless(code: int) -> str:
    if code == 0:
        return "NULL"
    if code < 0xA0:
        return "CONTROL CHARACTER"
    if 0xD800 <= code <= 0xDFFF:
        return "LONE SURROGATE"
    return "NONCHARACTER" if 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE else "PRIVATE USE CHARACTER"
