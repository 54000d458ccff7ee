"""Customer-support tickets of a made-up shop: the dataset of the laptop demo, so that it downloads nothing.

A ticket is a customer's message composed from the phrase bank (`phrases.toml`), the queue it belongs to and the
shop's reply (`company.toml`). The queues share their vocabulary on purpose: customers of five queues speak of refunds.
The shipped `data/tickets.jsonl` was made by

    python -m softprompt.embedded.tickets --rows 1500 --seed 7 --out softprompt/embedded/data/tickets.jsonl

and a test makes it again, byte for byte. Standard library only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from softprompt.embedded.bias import plant_bias
from softprompt.embedded.fault_kinds import Row, encode_row
from softprompt.embedded.faults import KINDS, plant_faults
from softprompt.embedded.messages import REGIONS, draw_mood, write_message
from softprompt.embedded.phrases import FOLDER, Facts, draw_facts, expand, load_bank, pick, spell

__all__ = ["DATASET", "QUEUES", "REGIONS", "generate_tickets", "main", "plant_bias", "plant_faults", "write_jsonl"]

DATASET = FOLDER / "data" / "tickets.jsonl"
DATASET_ROWS, DATASET_SEED = 1500, 7
QUEUES: tuple[str, ...] = tuple(queue["name"] for queue in load_bank("company")["queues"].values())


def generate_tickets(num_rows: int, seed: int) -> list[Row]:
    """Makes `num_rows` tickets, no two with the same text; the same seed makes the same tickets.

    Returns:
        Rows with `id`, `text` (8 to 70 words), `queue` (one of `QUEUES`), `region` (one of `REGIONS`) and `reply`.
    """
    rng = Random(seed)
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < num_rows:
        row = _draw_ticket(f"t-{len(rows):06d}", rng)
        if row["text"] not in seen:
            seen.add(row["text"])
            rows.append(row)
    return rows


def _draw_ticket(ticket_id: str, rng: Random) -> Row:
    situation, queue = _draw_queue(rng)
    facts = draw_facts(pick(REGIONS, rng), rng)
    mood = draw_mood(rng)
    text = write_message(situation, mood, facts, rng)
    reply = _write_reply(queue, mood, text, facts, rng)
    return {"id": ticket_id, "text": text, "queue": queue["name"], "region": facts.region, "reply": reply}


def _draw_queue(rng: Random) -> tuple[str, Mapping[str, str]]:
    """Draws a situation by its queue's weight."""
    queues: list[tuple[str, Mapping[str, str]]] = list(load_bank("company")["queues"].items())
    mark = rng.random() * sum(float(queue["weight"]) for _, queue in queues)
    for situation, queue in queues:
        mark -= float(queue["weight"])
        if mark < 0:
            return situation, queue
    return queues[-1]


def _write_reply(queue: Mapping[str, str], mood: str, text: str, facts: Facts, rng: Random) -> str:
    """Writes the shop's reply: it follows from the queue and from what the message says, and from nothing else."""
    style: Mapping[str, str] = load_bank("company")["reply"]
    order_id, product = facts.values["order_id"], spell(facts.values["product"], facts.region)
    knows_order = order_id in text
    upset = mood == "upset" and any(word in text.lower() for word in _upset_words())
    told = Facts(
        facts.region,
        {
            "the_order": f"order {order_id}" if knows_order else "your order",
            "item": product if product in text else "item",
        },
    )
    sentences = [style["opening_upset" if upset else "opening"], expand(queue["reply"], told, rng)]
    if queue["needs_order"] and not knows_order:
        sentences.append(style["ask_order"])
    return " ".join([*sentences, style["closing"]])


def _upset_words() -> tuple[str, ...]:
    return (
        "disappointing",
        "annoying",
        "frustrating",
        "not happy",
        "unhappy",
        "upset",
        "fed up",
        "not good",
        "very poor",
        "mess!",
        "time!",
    )


def write_jsonl(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Writes rows as JSON Lines in UTF-8 with `\\n` ends, the same bytes on every system."""
    path.write_bytes("".join(encode_row(row) + "\n" for row in rows).encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a dataset; with `--faults` also what is wrong with it, to `<out>.truth.json`."""
    parser = argparse.ArgumentParser(prog="python -m softprompt.embedded.tickets", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=DATASET_ROWS, help="number of tickets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=DATASET_SEED, help="the same seed gives the same bytes")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    parser.add_argument("--faults", nargs="*", default=[], metavar="KIND", help=f"any of: {', '.join(KINDS)}, broken")
    parser.add_argument("--bias", type=float, metavar="RATE", help="share of labels to bend against one region, such as 0.6")
    options = parser.parse_args(arguments)
    rows = generate_tickets(options.rows, options.seed)
    if options.bias is not None:
        rows = plant_bias(rows, options.bias, options.seed)
    if not options.faults:
        write_jsonl(rows, options.out)
        return
    lines, truth = plant_faults(rows, options.faults, options.seed)
    options.out.write_bytes("".join(line + "\n" for line in lines).encode())
    Path(f"{options.out}.truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
