"""Templates and the phrase bank: how the embedded tickets and the pretraining corpus are worded.

This file owns the small template notation and the facts of one ticket. What is said with them (queues, replies,
documents) belongs to `tickets` and `corpus`. Standard library only, so that importing it costs nothing.

Notation: `{a|b|}` picks one alternative, may be empty and may nest; `<name>` is filled by a fact of the ticket, by a
word of its region, or by a slot of the bank, in that order; what fills it is a template itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeAlias, TypeVar, Union

FOLDER = Path(__file__).parent
_PIECE = re.compile(r"[{}|]|<[a-z_0-9]+>|[^{}|<]+|<")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeioAEIO]|um)")
_SENTENCE_START = re.compile(r"(?:^|(?<=[a-z][.!?] ))[a-z]")

Node: TypeAlias = Union[str, "Slot", "Choice"]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that a fact fills: `<order>`."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Alternatives of which one is taken: `{a|b}`."""

    options: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one ticket is about; the same fact reads the same wherever it is named."""

    region: str
    values: dict[str, str] = field(default_factory=dict)


def pick(options: Sequence[Value], rng: Random) -> Value:
    """Takes one of `options`; by `random()` alone, whose stream is the same in every Python version."""
    return options[int(rng.random() * len(options))]


@cache
def load_bank(name: str) -> Mapping[str, Any]:
    """Reads `<name>.toml` beside this file, once."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def parse(template: str) -> tuple[Node, ...]:
    """Turns template text into nodes."""
    options, closed_by = _parse_options(iter(_PIECE.findall(template)))
    if closed_by or len(options) != 1:
        raise ValueError(f"template {template!r}: a brace or bar too many")
    return options[0]


def _parse_options(pieces: Iterator[str]) -> tuple[list[tuple[Node, ...]], str]:
    """Reads alternatives up to the closing brace or the end."""
    options: list[list[Node]] = [[]]
    for piece in pieces:
        if piece == "}":
            return [tuple(option) for option in options], piece
        if piece == "|":
            options.append([])
        elif piece == "{":
            inner, closed_by = _parse_options(pieces)
            if not closed_by:
                raise ValueError("template: an opening brace without its closing one")
            options[-1].append(Choice(tuple(inner)))
        else:
            options[-1].append(Slot(piece[1:-1]) if len(piece) > 1 and piece[0] == "<" else piece)
    return [tuple(option) for option in options], ""


def expand(template: str, facts: Facts, rng: Random) -> str:
    """Fills a template: choices made, slots filled, `a`/`an` and sentence capitals put right."""
    text = "".join(_words(parse(template), facts, rng))
    text = _ARTICLE.sub(r"\1n ", " ".join(text.split()).replace(" .", ".").replace(" ,", ","))
    return _SENTENCE_START.sub(lambda match: match.group().upper(), text)


def _words(nodes: tuple[Node, ...], facts: Facts, rng: Random) -> Iterator[str]:
    """Gives the literal pieces that `nodes` expand to."""
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Choice):
            yield from _words(pick(node.options, rng), facts, rng)
        elif node.name in facts.values:
            yield facts.values[node.name]
        else:
            yield from _words(parse(pick(_fillers(node.name, facts.region), rng)), facts, rng)


def _fillers(slot: str, region: str) -> Sequence[str]:
    """What may fill `slot` in `region`."""
    bank = load_bank("phrases")
    in_region = bank["regions"][region].get(slot)
    found: Sequence[str] = in_region if in_region is not None else bank["slots"][slot]
    return found


def draw_facts(region: str, rng: Random, order_digits: int = 6) -> Facts:
    """Draws the facts of one ticket: order number, products, amount, courier, names."""
    slots = load_bank("phrases")["slots"]
    product, product2 = pick(slots["product"], rng), pick(slots["product"], rng)
    while product2 == product:
        product2 = pick(slots["product"], rng)
    low = 10 ** (order_digits - 1)
    facts = Facts(region)
    facts.values.update(
        order_id=str(low + int(rng.random() * 9 * low)),
        product=product,
        products=_plural(product),
        product2=product2,
        name=pick(slots["name"], rng),
        pounds=str(6 + int(rng.random() ** 2 * 290)),
        pence=pick(("99", "50", "95", "00", "49", "20"), rng),
        dom=str(4 + int(rng.random() * 17)),
    )
    for shared in ("amount", "courier", "transfer"):
        facts.values[shared] = expand(f"<{shared}>", facts, rng)
    return facts


def _plural(product: str) -> str:
    return product if product.endswith("s") else product + "s"


def spell(text: str, region: str) -> str:
    """Applies the region's spelling to whole words, keeping a leading capital."""
    spelling: Mapping[str, str] = load_bank("phrases")["regions"][region].get("spelling", {})
    for ours, theirs in spelling.items():
        if ours in text.lower():
            text = re.sub(rf"\b{ours}\b", theirs, text)
            text = re.sub(rf"\b{ours.capitalize()}\b", theirs.capitalize(), text)
    return text
