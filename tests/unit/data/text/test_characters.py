"""Odd characters and texts that show nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.text.characters import odd_characters, whitespace_only

ODD = {
    "NUL\x00": "U+0000 NULL at character 4",
    "bell\x07": "U+0007 CONTROL CHARACTER at character 5",
    "\x1b[31mred": "U+001B CONTROL CHARACTER at character 1",
    "delete\x7f": "U+007F CONTROL CHARACTER at character 7",
    "C1 \x85": "U+0085 CONTROL CHARACTER at character 4",
    "zero\u200bwidth": "U+200B ZERO WIDTH SPACE at character 5",
    "joined\u2060words": "U+2060 WORD JOINER at character 7",
    "soft\xadhyphen": "U+00AD SOFT HYPHEN at character 5",
    "\ufeffmark": "U+FEFF ZERO WIDTH NO-BREAK SPACE at character 1",
    "invoice\u202egpj.exe": "U+202E RIGHT-TO-LEFT OVERRIDE at character 8",
    "an \u2066isolate\u2069": "U+2066 LEFT-TO-RIGHT ISOLATE at character 4",
    "mark\u200f without need": "U+200F RIGHT-TO-LEFT MARK at character 5",
    "lost \ufffd": "U+FFFD REPLACEMENT CHARACTER at character 6",
    "an object \ufffc": "U+FFFC OBJECT REPLACEMENT CHARACTER at character 11",
    "a logo \ue001": "U+E001 PRIVATE USE CHARACTER at character 8",
    "plane 16 \U0010fffd": "U+10FFFD PRIVATE USE CHARACTER at character 10",
    "none \uffff": "U+FFFF NONCHARACTER at character 6",
    "none \ufdd0": "U+FDD0 NONCHARACTER at character 6",
    "none \U0001fffe": "U+1FFFE NONCHARACTER at character 6",
    "half \ud83d": "U+D83D LONE SURROGATE at character 6",
    "latin\u200djoiner": "U+200D ZERO WIDTH JOINER at character 6",
    "latin\u200cjoiner": "U+200C ZERO WIDTH NON-JOINER at character 6",
    "👩\u200d and nothing": "U+200D ZERO WIDTH JOINER at character 2",
    "hidden \U000e0069\U000e0067": "U+E0069 TAG LATIN SMALL LETTER I at character 8",
    "flag 🏴" + "\U000e0069" * 20: "U+E0069 TAG LATIN SMALL LETTER I at character 7",
    "bits ☺\ufe0f\ufe0e": "U+FE0F VARIATION SELECTOR-16 at character 7",
    "latin a\U000e0100": "U+E0100 VARIATION SELECTOR-17 at character 8",
    "filler \u3164": "U+3164 HANGUL FILLER at character 8",
}
FINE = [
    "",
    "Plain words, 12 €.",
    "tab\tand\r\nlines",
    "Müller, Çelik, Łódź, naïve",
    "no-break\xa0space, narrow\u202fone",
    "“quotes” – dashes — dots…",
    "family 👨\u200d👩\u200d👧\u200d👦",
    "a doctor 👩🏽\u200d⚕\ufe0f",
    "heart ❤\ufe0f and on fire ❤\ufe0f\u200d🔥",
    "keycap 1\ufe0f\u20e3",
    "England 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Germany 🇩🇪",
    "می\u200cخواهم",  # Persian
    "क्\u200dष and क्\u200cष",  # Hindi
    "ශ්\u200dරී ලංකා",  # Sinhala
    "שלום\u200f!",  # Hebrew with a mark
    "مرحبا\u200e ABC",  # Arabic with a mark
    "葛\U000e0100城市",  # an ideograph's form
    "日本語、中文、한국어",
    "Ελληνικά, Русский",
]


@pytest.mark.parametrize(("text", "expected"), ODD.items(), ids=ascii)
def test_the_first_odd_character_is_named_with_its_place(text, expected):
    assert odd_characters(text) == expected


@pytest.mark.parametrize("text", FINE, ids=ascii)
def test_what_people_write_is_fine(text):
    assert odd_characters(text) == ""


def test_far_into_a_text_only_what_is_always_odd_is_found():
    text = "a" * 20_000
    assert odd_characters(f"{text}b\u200d\u200b") == "U+200B ZERO WIDTH SPACE at character 20003"
    assert odd_characters(f"{text}b\u200d") == ""


BLANK = [
    "",
    " ",
    "\n\t ",
    "\xa0\u2003\u3000",
    "\u200b\u200b",
    "\ufeff",
    "\u2800",
    "\u3164",
    "\x00",
    "\u200e \u200f",
    "\u2028",
    "\xad",
    "\U000e0020",
]
SHOWN = ["a", " . ", "0", "日", "\u200bx", "😀", "…", "\ufffd"]


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_a_text_of_spaces_and_invisible_characters_shows_nothing(text):
    assert whitespace_only(text)


@pytest.mark.parametrize("text", SHOWN, ids=ascii)
def test_one_visible_character_is_enough(text):
    assert not whitespace_only(text)


@given(
    st.text(
        st.characters(blacklist_categories=("Cc", "Cf", "Co", "Cn", "Cs", "Mn")).filter(
            lambda c: c not in "\ufffc\ufffd\u115f\u1160\u3164\uffa0"
        )
    )
)
def test_letters_digits_and_symbols_of_any_script_are_fine(text):
    assert odd_characters(text) == ""


@given(st.text(), st.sampled_from("\x00\x08\x9f\u200b\u202a\ue000\ufffd"), st.text())
def test_none_is_missed_wherever_it_stands(before, odd, after):
    assert odd_characters(before + odd + after) != ""
