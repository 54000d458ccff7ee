"""The writing system of a text, and words that mix two of them to look like something else."""

import re
from collections import Counter

import regex

SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Han", "Hiragana", "Katakana", "Hangul", "Arabic", "Hebrew", "Devanagari", "Bengali"),
    *("Thai", "Tamil", "Telugu", "Kannada", "Malayalam", "Gujarati", "Gurmukhi", "Oriya", "Sinhala", "Myanmar", "Khmer", "Lao"),
    *("Georgian", "Armenian", "Ethiopic", "Tibetan", "Mongolian"),
)
"""The scripts that are told apart; letters of the rest count as `Other`."""

_LETTERS = regex.compile(
    "|".join(rf"(?P<{script}>[\p{{{script}}}--\P{{L}}]+)" for script in SCRIPTS) + r"|(?P<Other>\p{L})",
    regex.V1,
)

_LOOKALIKES = {
    "Cyrillic": frozenset("аеорсухіјѕһԁԛԝАВЕКМНОРСТХУІЈЅԌ"),
    "Greek": frozenset("ονιρυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"),
    "Latin": frozenset("aeopcyxijshdqwABEKMHOPCTXYIJSGvuZN"),
}
"""Letters of each script that pass for another one's. Not here: Greek that people put into Latin words on purpose (α, μ, Ω)."""

_BORDER = re.compile(r"[A-Za-z][\u0370-\u04ff\u0500-\u052f]|[\u0370-\u04ff\u0500-\u052f][A-Za-z]")
_WORD = re.compile(r"[^\W\d_]{3,}")
_INFLECTED_ACRONYM = re.compile(r"[A-Z]{2,}[а-яё]{1,4}")
"""`SMSу`: Russian and its neighbours add endings to foreign acronyms."""


def script_of(text: str) -> str:
    """The Unicode script of most of a text's letters, for example `Latin`; '' for a text without letters."""
    if text.isascii():
        return "Latin" if re.search("[A-Za-z]", text) else ""
    letters: Counter[str] = Counter()
    for run in _LETTERS.finditer(text):
        letters[run.lastgroup] += len(run.group())
    return letters.most_common(1)[0][0] if letters else ""


def scripts_mixed(text: str) -> str:
    """The first word whose letters of a second script pass for those of the first: `pаypal` with a Cyrillic а.

    Args:
        text: Any text.

    Returns:
        The word and the letter, for example `'pаypal': CYRILLIC U+0430 among Latin letters`; else ''.
    """
    if text.isascii() or not _BORDER.search(text):
        return ""
    for word in _WORD.findall(text):
        if not word.isascii() and _BORDER.search(word) and not _INFLECTED_ACRONYM.fullmatch(word):
            disguise = _disguise(word)
            if disguise:
                return disguise
    return ""


def _disguise(word: str) -> str:
    scripts = {letter: script_of(letter) for letter in set(word)}
    counts = Counter(scripts[letter] for letter in word)
    main = counts.most_common(1)[0][0]
    strangers = [letter for letter in word if scripts[letter] != main]
    if not all(letter in _LOOKALIKES.get(scripts[letter], ()) for letter in strangers):
        return ""
    first = strangers[0]
    return f"{word[:40]!r}: {scripts[first]} U+{ord(first):04X} among {main} letters"
