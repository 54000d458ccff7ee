"""Texts that try to instruct the model that reads them (prompt injection)."""

import base64
import binascii
import re
import string
from itertools import islice

from softprompt.data.text.instruction_phrases import MOST_WORDS, PHRASES

_FOLDS: dict[int, int | str | None] = {
    **{ord(mark): " " for mark in string.punctuation + "’‘“”„«»¡¿…–—\xa0\u202f"},
    **{
        ord(accented): plain for accented, plain in zip("áàâãäåçéèêëíìîïñóòôõöúùûüýÿ", "aaaaaaceeeeiiiinooooouuuuyy", strict=True)
    },
    **dict.fromkeys(range(0x300, 0x370)),  # accents that follow their letter
    **{wide: chr(wide - 0xFEE0) for wide in range(0xFF21, 0xFF5B)},
    **dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)),  # invisible, and good to hide a word with
}

_PATTERNS: dict[str, list[re.Pattern[str]]] = {
    word: [phrase.pattern for phrase in PHRASES if word in phrase.words]
    for word in {word for phrase in PHRASES for word in phrase.words}
}
_TELLING = frozenset((*_PATTERNS, "system"))
_MOST_PLACES = 500

_MARKERS = re.compile(
    r"""
      <\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|eot_id|(?:start|end)_header_id|begin_of_text|tool_call)\|?>
    | \[/?inst\] | <</?sys>> | \[tool_calls\] | \[/?system_prompt\]
    | </?(?:start_of_turn|end_of_turn|tool_calls?|tool_response|function_calls?|function=\w|invoke[ ]name=|system_prompt)
    | ^[ ]{0,9}\#{2,9}[ ]?(?:new[ ]|system[ ])?(?:instructions?|system|prompt|response|assistant)[ ]?:
    | ^[ ]{0,9}\#{2,9}[ ]?(?:instructions?|system[ ]prompt)[ ]{0,9}$
    | ^[ ]{0,9}\[?system(?:[ ](?:message|prompt|override))?\]?[ ]?:[ ]{0,9}(?:you[ ](?:are|must|will|should|now|can)|ignore
        |disregard|forget|always|never|do[ ]not|don't|answer|reply|respond|output|act|from[ ]now|the[ ](?:user|assistant)
        |override|du[ ]bist|tu[ ]es|eres|sei[ ]un|je[ ]bent)\b
    | ^[ ]{0,9}system[ ]prompt[ ]?[:=]
    | "(?:tool_calls|function_call)"\s{0,9}:
    | \{\s{0,9}"name"\s{0,9}:\s{0,9}"[\w.-]{1,64}"\s{0,9},\s{0,9}"(?:arguments|parameters)"\s{0,9}:
    """,
    re.VERBOSE | re.MULTILINE,
)

_ENCODED = re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{60,}={0,2}(?![\w+/])")
_FEWEST_ENCODED = 60
_MOST_ENCODED = 20
_MOST_SHOWN = 60


def find_instruction(text: str) -> str:
    """The first phrase that tells a model to disobey or to take a new role, markup of a chat template, or a hidden message.

    Args:
        text: Any text.

    Returns:
        The phrase, in lower case and without accents and punctuation, or the markup; else ''.
    """
    lower = text.lower()
    words = lower.translate(_FOLDS).split()
    telling = not _TELLING.isdisjoint(words)
    found = ""
    if telling or _may_hold_markup(text):
        found = _markup(lower) or _phrase(words)
    if not found and len(text) >= _FEWEST_ENCODED and _has_long_piece(text):
        found = _encoded(text)
    return found if len(found) <= _MOST_SHOWN else found[: _MOST_SHOWN - 1] + "…"


def _may_hold_markup(text: str) -> bool:
    return "<" in text or "[" in text or "##" in text or "{" in text or "_call" in text


def _markup(lower: str) -> str:
    found = _MARKERS.search(lower)
    return found.group().strip() if found else ""


def _phrase(words: list[str]) -> str:
    """Looks only around telling words, so that the cost does not grow with a text's length."""
    places = (place for place, word in enumerate(words) if word in _PATTERNS)
    for place in islice(places, _MOST_PLACES):
        nearby = " ".join(words[max(0, place - MOST_WORDS) : place + MOST_WORDS])
        for pattern in _PATTERNS[words[place]]:
            if found := pattern.search(nearby):
                return found.group()
    return ""


def _has_long_piece(text: str) -> bool:
    """Whether there may be a word of `_FEWEST_ENCODED` characters: it would fill one of these slices without a space."""
    half = _FEWEST_ENCODED // 2
    return any(" " not in text[start : start + half] for start in range(0, len(text) - half + 1, half))


def _encoded(text: str) -> str:
    """A long run of base 64 that holds text: pictures and keys hold none."""
    for run in islice(_ENCODED.finditer(text), _MOST_ENCODED):
        if _hides_text(run.group()):
            return run.group()
    return ""


def _hides_text(run: str) -> bool:
    whole = run.rstrip("=")
    try:
        hidden = base64.b64decode(whole[: len(whole) // 4 * 4]).decode(errors="strict")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return all(character.isprintable() or character.isspace() for character in hidden)
