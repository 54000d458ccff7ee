"""The text that the embedded base model is pretrained on: how support departments in general write.

Records of messages with topics, teams, summaries and replies under many field names, desk plans that give teams
made-up names, dialogues, and guides to the work. The base learns from it what a message is about and how to copy
details; never the dataset's queue names as labels (but for two that any shop uses), its reply style, or a row of it:
a document in which a dataset text occurs is dropped. Made anew from a seed in seconds, so it is not stored. Standard
library only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from softprompt.embedded.messages import REGIONS, draw_mood, write_message
from softprompt.embedded.phrases import Facts, draw_facts, expand, load_bank, pick, spell
from softprompt.embedded.tickets import DATASET, QUEUES

CORPUS_DOCUMENTS, CORPUS_SEED = 30_000, 11
_SHINGLE_WORDS = 6

# What may be noted about a message or asked about it; the telling ones more often.
FIELDS = ("topic", "team", "summary", "summary", "step", "step", "reply", "reply", "mood", "region", "product", "order")


class TextFilter:
    """Finds whether any of some texts occurs in a document, whatever its case and white space."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_start: dict[str, list[str]] = {}
        for text in texts:
            words = normalise(text).split()
            self._by_start.setdefault(" ".join(words[:_SHINGLE_WORDS]), []).append(" ".join(words))

    def matches(self, document: str) -> bool:
        """Looks up every run of words; a text shorter than such a run is compared by its whole length."""
        joined = normalise(document)
        words = joined.split()
        starts = (" ".join(words[at : at + _SHINGLE_WORDS]) for at in range(len(words)))
        return any(text in joined for start in starts for text in self._by_start.get(start, ()))


def normalise(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def generate_corpus(num_documents: int = CORPUS_DOCUMENTS, seed: int = CORPUS_SEED, dataset: Path = DATASET) -> list[str]:
    """Makes the documents, less those in which a text of `dataset` occurs; the same seed makes the same documents."""
    rng = Random(seed)
    held_out = TextFilter(json.loads(line)["text"] for line in dataset.read_text(encoding="utf-8").splitlines())
    documents = (_draw_document(rng) for _ in range(num_documents))
    return [document for document in documents if not held_out.matches(document)]


def _draw_document(rng: Random) -> str:
    return pick(_KINDS, rng)(rng)


class Case:
    """One customer's matter, and what each kind of field says about it."""

    def __init__(self, rng: Random, topic: str | None = None, brief: bool = False) -> None:
        self.rng = rng
        self.topics: Mapping[str, Mapping[str, Any]] = load_bank("corpus")["topics"]
        self.topic = topic or pick(list(self.topics), rng)
        self.mood = draw_mood(rng)
        self.facts = draw_facts(pick(REGIONS, rng), rng, order_digits=pick((5, 6, 6, 6, 7), rng))
        self.message = write_message(self.topic, self.mood, self.facts, rng, brief=brief or rng.random() < 0.7)

    def say(self, templates: Sequence[str]) -> str:
        """Expands one of `templates` with this case's facts."""
        return spell(expand(pick(templates, self.rng), self.facts, self.rng), self.facts.region)

    def about(self, field: str) -> str:
        """What the topic says under `field`: `topic`, `team`, `summary` or `step`."""
        said = self.say(self.topics[self.topic][field])
        return said[:1].lower() + said[1:]

    def tell(self, field: str) -> str:
        """The value of any of `FIELDS`; a detail that the message leaves out is told as missing."""
        bank, values = load_bank("corpus")["documents"], self.facts.values
        if field == "reply":
            return self.reply()
        if field == "mood":
            return str(pick(bank["moods"][self.mood], self.rng))
        if field == "region":
            return str(pick(bank["regions"][self.facts.region], self.rng))
        if field == "product":
            return values["product"] if values["product"] in self.message else "not named"
        if field == "order":
            return values["order_id"] if values["order_id"] in self.message else "not given"
        return self.about(field)

    def reply(self) -> str:
        """A reply in the style of shops in general; it names the order where the message does."""
        style = load_bank("corpus")["replies"]
        known = self.facts.values["order_id"] in self.message
        self.facts.values["the_order"] = f"order {self.facts.values['order_id']}" if known else "your order"
        self.facts.values["item"] = self.facts.values["product"] if self.facts.values["product"] in self.message else "item"
        sentences = [self.say(style["openings"])]
        if self.mood == "upset" or self.rng.random() < 0.3:
            sentences.append(self.say(style["regrets"]))
        sentences.append(self.say(self.topics[self.topic]["reply"]))
        if not known and self.rng.random() < 0.5:
            sentences.append(self.say(style["ask_order"]))
        return " ".join(sentence for sentence in [*sentences, self.say(style["closings"])] if sentence)


def write_record(rng: Random) -> str:
    """A message and some of what is noted about it, fields in any order."""
    case, bank = Case(rng), load_bank("corpus")["documents"]
    chosen = _pick_distinct(FIELDS, pick((1, 2, 3, 4, 5), rng), rng)
    lines = [f"{pick(bank[f'{name}_names'], rng)}: {case.tell(name)}" for name in chosen]
    place = 0 if rng.random() < 0.75 else int(rng.random() * (len(lines) + 1))
    lines.insert(place, f"{pick(bank['message_names'], rng)}: {case.message}")
    return str(pick(bank["separators"], rng)).join(lines)


def write_task(rng: Random) -> str:
    """What is asked, a message, and the answer: what is asked decides what the answer is."""
    bank, case, name = load_bank("corpus"), Case(rng), pick(FIELDS, rng)
    asked, answer = case.say(bank["tasks"][name]), case.tell(name)
    if name in ("topic", "team") and rng.random() < 0.5:
        others = _pick_distinct([topic for topic in case.topics if topic != case.topic], pick((1, 2, 4, 6), rng), rng)
        options = _pick_distinct([answer, *(pick(case.topics[other][name], rng) for other in others)], 9, rng)
        asked += f" {pick(('Choose from', 'One of', 'The choices are', 'Options'), rng)}: {', '.join(options)}."
    message = f"{pick(bank['documents']['message_names'], rng)}: {case.message}"
    cue = f"{pick(bank['tasks']['cues'], rng)}: {answer}"
    order = pick(([asked, message, cue],) * 3 + ([message, asked, cue],), rng)
    return pick(("\n", "\n", "\n\n"), rng).join(order[:-1]) + f"\n{cue}"


def _pick_distinct(options: Sequence[str], num_wanted: int, rng: Random) -> list[str]:
    """Takes up to `num_wanted` different options in random order."""
    return list(dict.fromkeys(sorted(options, key=lambda _: rng.random())))[:num_wanted]


def write_desk_plan(rng: Random) -> str:
    """A made-up shop's names for its desks, then messages that are sent to them by these names."""
    bank, topics = load_bank("corpus"), load_bank("corpus")["topics"]
    chosen = _pick_distinct(list(topics), pick((2, 3, 4, 6, 8), rng), rng)
    plan = {topic: draw_desk_name(rng) for topic in chosen}
    arrow, turned = pick((": ", " = ", " - ", " -> "), rng), rng.random() < 0.5
    pairs = [(name, pick(topics[topic]["topic"] + topics[topic]["team"], rng)) for topic, name in plan.items()]
    lines = [arrow.join(reversed(pair) if turned else pair) for pair in pairs]
    title = pick(("Desks", "Our teams", "Teams", "Who does what", "Routing", "Queues"), rng)
    message_name = pick(bank["documents"]["message_names"], rng)
    cue = pick(bank["documents"]["team_names"] + bank["tasks"]["cues"], rng)
    cases = [Case(rng, pick(chosen, rng), brief=True) for _ in range(pick((2, 3, 4), rng))]
    tickets = [f"{message_name}: {case.message}\n{cue}: {plan[case.topic]}" for case in cases]
    return f"{title}\n" + pick(("\n", "\n", "; "), rng).join(lines) + "\n\n" + "\n".join(tickets)


def draw_desk_name(rng: Random) -> str:
    """One or two everyday words; never one of the dataset's queue names."""
    words: Sequence[str] = load_bank("corpus")["documents"]["code_words"]
    while True:
        name = pick(words, rng) if rng.random() < 0.7 else f"{pick(words, rng)} {pick(words, rng)}"
        if name not in QUEUES:
            return name


def write_examples(rng: Random) -> str:
    """What customers say, one sentence each, and what it is about: a training sheet for new staff."""
    bank, topics = load_bank("corpus"), load_bank("corpus")["topics"]
    happened = load_bank("phrases")["situations"]
    field = pick(("topic", "team", "summary", "step"), rng)
    arrow = pick((": ", " = ", " -> ", f" | {pick(bank['documents'].get(f'{field}_names'), rng)}: "), rng)
    lines = []
    for _ in range(pick((3, 4, 5, 6, 8), rng)):
        topic, facts = pick(list(topics), rng), draw_facts(pick(REGIONS, rng), rng)
        said = spell(expand(pick(happened[topic]["happened"] + happened[topic]["asks"][:1], rng), facts, rng), facts.region)
        about = expand(pick(topics[topic][field], rng), facts, rng)
        lines.append(f"{said}{arrow}{about[:1].lower()}{about[1:]}")
    return "\n".join(lines)


def write_dialogue(rng: Random) -> str:
    """A customer and an agent, talking."""
    case, bank = Case(rng), load_bank("corpus")["dialogue"]
    customer, agent = pick(bank["customer_names"], rng), pick(bank["agent_names"], rng)
    lines = [f"{customer}: {case.message}"]
    if case.facts.values["order_id"] not in case.message and rng.random() < 0.7:
        lines += [
            f"{agent}: {case.say(bank['check'])}",
            f"{customer}: {case.say(['It is <order_id>.', '<order_id>', 'Order <order_id>.'])}",
        ]
        case.message += f" {case.facts.values['order_id']}"
    lines.append(f"{agent}: {case.reply()}")
    if rng.random() < 0.5:
        lines += [f"{customer}: {case.say(bank['thanks'])}", f"{agent}: {case.say(bank['welcome'])}"]
    return "\n".join(lines)


def write_guide(rng: Random) -> str:
    """A short instructional text."""
    bank, facts = load_bank("corpus")["guides"], Facts(pick(REGIONS, rng))
    steps = sorted(bank["steps"], key=lambda _: rng.random())[: pick((3, 4, 5, 6), rng)]
    said = [expand(step, facts, rng) for step in steps]
    if rng.random() < 0.5:
        said = [f"{number}. {step}" for number, step in enumerate(said, 1)]
    return expand(pick(bank["titles"], rng), facts, rng) + "\n" + pick(("\n", " "), rng).join(said)


_KINDS = (write_record,) * 5 + (write_task,) * 5 + (write_examples,) * 8 + (write_desk_plan,) + (write_dialogue,) + (write_guide,)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the corpus as JSON Lines, one document a line, for reading."""
    parser = argparse.ArgumentParser(prog="python -m softprompt.embedded.corpus", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    parser.add_argument("--documents", type=int, default=CORPUS_DOCUMENTS, help="documents drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=CORPUS_SEED, help="the same seed gives the same bytes")
    options = parser.parse_args(arguments)
    documents = generate_corpus(options.documents, options.seed)
    options.out.write_bytes("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents).encode())


if __name__ == "__main__":
    main()
