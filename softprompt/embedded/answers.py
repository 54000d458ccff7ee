"""Questions about a passage, with the words of the passage that answer them: extractive question answering.

A passage is a customer's message from the phrase bank; asked is which order it is about or which product it names. Where the
passage does not say it, that is the answer. The shipped `data/answers.jsonl` was made by

    python -m softprompt.embedded.answers --rows 1000 --seed 19 --out softprompt/embedded/data/answers.jsonl

and a test makes it again, byte for byte. Standard library only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

from softprompt.embedded.fault_kinds import Row
from softprompt.embedded.messages import REGIONS, draw_mood, write_message
from softprompt.embedded.phrases import FOLDER, Facts, draw_facts, load_bank, pick, spell
from softprompt.embedded.tickets import write_jsonl

DATASET = FOLDER / "data" / "answers.jsonl"
DATASET_ROWS, DATASET_SEED = 1000, 19
QUESTIONS = {"order_id": "Which order is it about?", "product": "Which product does it name?"}
NOT_SAID = "not said"
KEPT_NOT_SAID = 0.3
"""Half of the passages do not say it; with so many of them kept, a quarter of the rows."""


def generate_answers(num_rows: int, seed: int) -> list[Row]:
    """Makes `num_rows` questions, no two about the same passage; the same seed makes the same rows.

    Returns:
        Rows with `id`, `passage`, `question`, `answer` (words of the passage, or `NOT_SAID`) and `asked` (a key of `QUESTIONS`).
    """
    rng = Random(seed)
    rows: list[Row] = []
    seen: set[str] = set()
    situations = list(load_bank("company")["queues"])
    while len(rows) < num_rows:
        facts = draw_facts(pick(REGIONS, rng), rng)
        passage = write_message(pick(situations, rng), draw_mood(rng), facts, rng, brief=True)
        asked = pick(list(QUESTIONS), rng)
        answer = _answer(passage, asked, facts)
        told = answer != NOT_SAID or rng.random() < KEPT_NOT_SAID
        if told and passage not in seen:
            seen.add(passage)
            rows.append(
                {
                    "id": f"a-{len(rows):06d}",
                    "passage": passage,
                    "question": QUESTIONS[asked],
                    "answer": answer,
                    "asked": asked,
                }
            )
    return rows


def _answer(passage: str, asked: str, facts: Facts) -> str:
    """What the passage says, as it says it; a mistyped word is not what was asked for."""
    said = facts.values["order_id"] if asked == "order_id" else spell(facts.values["product"], facts.region)
    return said if said in passage else NOT_SAID


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a dataset of passages, questions and answers."""
    parser = argparse.ArgumentParser(prog="python -m softprompt.embedded.answers", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=DATASET_ROWS, help="number of questions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=DATASET_SEED, help="the same seed gives the same bytes")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    options = parser.parse_args(arguments)
    write_jsonl(generate_answers(options.rows, options.seed), options.out)


if __name__ == "__main__":
    main()
