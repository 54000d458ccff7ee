"""Customers' messages, composed from the phrase bank; for the dataset and the pretraining corpus alike.

What is said comes from `phrases.toml`; this file decides in which order, how much of it and how carelessly typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from softprompt.embedded.phrases import Facts, expand, load_bank, pick, spell

REGIONS = ("uk", "us", "eu", "anz")
MIN_WORDS, MAX_WORDS = 8, 70


def draw_mood(rng: Random) -> str:
    """Draws the mood that a message is written in."""
    return pick(("calm", "calm", "pleased", "worried", "upset"), rng)


def write_message(situation: str, mood: str, facts: Facts, rng: Random, brief: bool = False) -> str:
    """Writes what a customer in `situation` and `mood` would send, 8 to 70 words, typing errors included.

    `brief` leaves out most of what does not belong to the matter.
    """
    for _ in range(100):
        sentences = _draw_sentences(situation, mood, facts, rng, 0.25 if brief else 1.0)
        text = spell(" ".join(sentence for sentence in sentences if sentence), facts.region)
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            return _type_carelessly(text, rng)
    raise AssertionError(f"situation {situation}: its phrases make no message of {MIN_WORDS} to {MAX_WORDS} words")


def _draw_sentences(situation: str, mood: str, facts: Facts, rng: Random, detail: float) -> list[str]:
    """Draws the message's sentences in the order in which they are said."""
    bank = load_bank("phrases")
    around, said = bank["around"], bank["situations"][situation]

    def say(templates: Sequence[str], chance: float = 1.0) -> str:
        return expand(pick(templates, rng), facts, rng) if rng.random() < chance else ""

    core = [say(said["happened"]), say(said["asks"], 0.7)]
    order, aside = say(around["order_mentions"], 0.35 + 0.35 * detail), say(around["asides"], 0.4 * detail)
    mood_words = say(around["moods"][mood], 0.6 * detail)
    middle = pick(([*core, order, aside], [order, *core, aside], [aside, *core, order], [core[0], order, aside, core[1]]), rng)
    return [say(around["greetings"], 0.5 * detail), *middle, mood_words, say(around["closings"], 0.4 * detail)]


def _type_carelessly(text: str, rng: Random) -> str:
    """Adds what careless typing does, to about a third of the messages."""
    if rng.random() < 0.08:
        text = text.lower()
    if rng.random() < 0.05:
        text = text.replace(".", "").replace(",", "")
    for _ in range(pick((0, 0, 0, 1), rng)):
        text = _slip(text, rng)
    return text


def _slip(text: str, rng: Random) -> str:
    """One slip of the finger inside a longer word: two letters swapped, one lost or one doubled."""
    places = [at for at in range(1, len(text) - 3) if text[at - 1 : at + 3].isalpha()]
    if not places:
        return text
    at = pick(places, rng)
    wrong = pick((text[at + 1] + text[at], text[at], text[at] * 2 + text[at + 1]), rng)
    return text[:at] + wrong + text[at + 2 :]
