"""Languages."""

import csv

import pytest

from softprompt.data.text.languages import languages

SENTENCES = {
    "en": ["My card has not arrived yet, can you help me?", "I would like to return the shoes.", "Why was my payment declined?"],
    "de": [
        "Meine Karte ist noch nicht angekommen.",
        "Ich möchte die Schuhe zurückgeben.",
        "Warum wurde meine Zahlung abgelehnt?",
    ],
    "fr": [
        "Ma carte n'est pas encore arrivée.",
        "Je voudrais retourner les chaussures.",
        "Pourquoi mon paiement a-t-il été refusé ?",
    ],
    "es": ["Mi tarjeta todavía no ha llegado.", "Quisiera devolver los zapatos, por favor.", "¿Por qué fue rechazado mi pago?"],
    "it": [
        "La mia carta non è ancora arrivata.",
        "Vorrei restituire le scarpe, per favore.",
        "Perché il mio pagamento è stato rifiutato?",
    ],
    "nl": ["Mijn kaart is nog niet aangekomen.", "Ik wil de schoenen graag terugsturen.", "Waarom is mijn betaling geweigerd?"],
}


@pytest.mark.parametrize("language", SENTENCES)
def test_ordinary_sentences_are_told_apart_or_left_undecided(language):
    verdicts = languages(SENTENCES[language])
    assert set(verdicts) <= {language, ""}
    assert verdicts.count(language) >= 2


@pytest.mark.parametrize("text", ["", "Hello", "Visa", "ok danke", "12345678901234567890123456789"])
def test_no_verdict_is_better_than_a_guess(text):
    assert languages([text]) == [""]


def test_real_messages_are_english_or_undecided(banking77):
    with (banking77 / "train.csv").open(newline="", encoding="utf-8") as file:
        verdicts = languages([row["text"] for row in csv.DictReader(file)])
    assert set(verdicts) == {"en", ""}
    assert verdicts.count("en") > 0.9 * len(verdicts)
