"""Text that was decoded with the wrong encoding."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.data.text.mojibake import mojibake

MEANT = [
    *(
        "Müller",
        "café",
        "naïve",
        "señor",
        "coração",
        "Größe",
        "Überweisung",
        "façade",
        "smörgåsbord",
        "It’s",
        "100€",
        "wait…",
        "“quoted",
        "Zoë",
    ),
    *("søndag", "über", "crème", "niño"),
]
FINE = [
    "",
    "plain",
    "Müller wohnt in der Größe Straße",
    "Où est mon café ? Déjà vu, naïve, garçon",
    "¿Cuánto cuesta? ¡Señor! El niño y la niña",
    "NÃO É POSSÍVEL, INFORMAÇÃO, CARTÃO",
    "È così, perché più città",
    "“Quotes” – dashes — dots… and €5, £6, ¥7",
    "Привет, где моя карта?",
    "私のカードはどこですか。",
    "Ça va? Œuvre, cœur",
    "Łódź, Kraków, żółć",
    "25°C, 5µm, ½ cup, ©, ®, ™",
    "👩‍⚕️ 👍🏽 ❤️",
    "שלום, مرحبا",
]


@pytest.mark.parametrize("meant", MEANT)
def test_utf_8_read_as_windows_1252_is_found_with_what_it_was_meant_to_be(meant):
    misread = meant.encode().decode("cp1252")
    assert mojibake(f"Please see {misread} today") == f"{misread!r} for {meant!r}"


@pytest.mark.parametrize(
    ("meant", "encoding"),
    [
        ("café", "latin-1"),
        ("café", "mac_roman"),
        ("café", "cp437"),
        ("привет", "cp1251"),
        ("привет", "cp1252"),
        ("Łódź", "latin-1"),
    ],
)
def test_other_wrong_encodings_are_found(meant, encoding):
    misread = meant.encode().decode(encoding, errors="ignore")
    assert mojibake(f"see {misread} today") == f"{misread!r} for {meant!r}"


def test_a_misread_no_break_space_is_part_of_the_word():
    assert "voilà" in mojibake("voilà".encode().decode("latin-1"))


def test_a_misread_no_break_space_that_became_a_space_is_too():
    assert mojibake("il est Ã  Paris") == "'Ã' for 'à'"
    assert mojibake("voilÃ  monsieur") == "'voilÃ' for 'voilà'"


def test_a_long_text_of_words_beyond_mending_costs_little():
    start = time.process_time()
    assert mojibake("½à é€ " * 3300) == ""
    assert time.process_time() - start < 0.02  # 0.06 if every word were tried


@pytest.mark.parametrize("text", FINE)
def test_text_in_many_languages_is_fine(text):
    assert mojibake(text) == ""


@given(st.text())
def test_no_text_breaks_it(text):
    assert isinstance(mojibake(text), str)
    assert not (text.isascii() and mojibake(text))
