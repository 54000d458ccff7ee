"""Writing systems."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.text.scripts import script_of, scripts_mixed

SCRIPTS = {
    "": "",
    "12 € !": "",
    "12 … „": "",
    "card": "Latin",
    "Überweisung": "Latin",
    "Где моя карта?": "Cyrillic",
    "Πού είναι;": "Greek",
    "我的卡在哪里": "Han",
    "わたしのかあど": "Hiragana",
    "カード": "Katakana",
    "카드": "Hangul",
    "أين بطاقتي": "Arabic",
    "איפה הכרטיס": "Hebrew",
    "मेरा कार्ड": "Devanagari",
    "บัตรของฉัน": "Thai",
    "ბარათი": "Georgian",
    "ကတ်": "Myanmar",
    "ᚠᚢᚦ": "Other",
    "iPhone у меня сломался": "Cyrillic",
}
MIXED = {
    "pаypal": "'pаypal': Cyrillic U+0430 among Latin letters",
    "my pаssword": "'pаssword': Cyrillic U+0430 among Latin letters",
    "Сard": "'Сard': Cyrillic U+0421 among Latin letters",
    "micrоsoft": "'micrоsoft': Cyrillic U+043E among Latin letters",
    "АMAZON": "'АMAZON': Cyrillic U+0410 among Latin letters",
    "gοοgle": "'gοοgle': Greek U+03BF among Latin letters",
    "Αpple": "'Αpple': Greek U+0391 among Latin letters",
    "bаnk": "'bаnk': Cyrillic U+0430 among Latin letters",
    "refunԁ": "'refunԁ': Cyrillic U+0501 among Latin letters",
    "ѕecure": "'ѕecure': Cyrillic U+0455 among Latin letters",
    "COVІD": "'COVІD': Cyrillic U+0406 among Latin letters",
    "привeт": "'привeт': Latin U+0065 among Cyrillic letters",
    "кaрта": "'кaрта': Latin U+0061 among Cyrillic letters",
    "Mосква": "'Mосква': Latin U+004D among Cyrillic letters",
    "ok, then аpple": "'аpple': Cyrillic U+0430 among Latin letters",
}
FINE = [
    "plain ASCII",
    "Überweisung für Łukasz",
    "Где моя карта?",
    "Моя карта Visa Gold",
    "SMSка не пришла",
    "googleом",
    "нет SMSу",
    "iPhone-ом",
    "Яndex",
    "5 μm, kΩ, Δt, πr, λx",
    "TNFα and IFNγ",
    "β-blocker",
    "αβγ",
    "Tу-154",
    "hν",
    "私のiPhone",
    "T-shirt и джинсы",
]


@pytest.mark.parametrize(("text", "expected"), SCRIPTS.items())
def test_the_script_of_most_letters(text, expected):
    assert script_of(text) == expected


@pytest.mark.parametrize(("text", "expected"), MIXED.items())
def test_look_alike_letters_inside_a_word_are_found(text, expected):
    assert scripts_mixed(text) == expected


@pytest.mark.parametrize("text", FINE)
def test_foreign_words_and_symbols_are_fine(text):
    assert scripts_mixed(text) == ""


@given(st.text())
def test_no_text_breaks_them(text):
    assert isinstance(scripts_mixed(text), str)
    assert isinstance(script_of(text), str)
