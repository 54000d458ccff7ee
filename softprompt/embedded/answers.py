"""Questions about a passage, with the words of the passage that answer them: extractive question answering.

A passage is a ticket and the shop's reply to it; asked is what the shop does, or by when. Where the passage does not say it, that
is the answer. The answers are words of the reply that do not depend on order or product (`company.toml`): the embedded base is
too small to copy a number that it never saw. The shipped `data/answers.jsonl` was made by

    python -m softprompt.embedded.answers --rows 1000 --seed 19 --out softprompt/embedded/data/answers.jsonl

and a test makes it again, byte for byte. Standard library only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

from softprompt.embedded.fault_kinds import Row
from softprompt.embedded.phrases import FOLDER, load_bank, pick
from softprompt.embedded.tickets import generate_tickets, write_jsonl

DATASET = FOLDER / "data" / "answers.jsonl"
DATASET_ROWS, DATASET_SEED = 1000, 19
QUESTIONS = {"done": "What does the shop do?", "when": "By when?"}
NOT_SAID = "not said"


def generate_answers(num_rows: int, seed: int) -> list[Row]:
    """Makes `num_rows` questions, no two about the same passage; the same seed makes the same rows.

    Returns:
        Rows with `id`, `passage`, `question`, `answer` (words of the passage, or `NOT_SAID`) and `asked` (a key of `QUESTIONS`).
    """
    rng = Random(seed)
    answers_of = {queue["name"]: queue["answers"] for queue in load_bank("company")["queues"].values()}
    rows: list[Row] = []
    for number, ticket in enumerate(generate_tickets(num_rows, seed)):
        asked = pick(list(QUESTIONS), rng)
        rows.append(
            {
                "id": f"a-{number:06d}",
                "passage": f"{ticket['text']}\nReply: {ticket['reply']}",
                "question": QUESTIONS[asked],
                "answer": answers_of[ticket["queue"]].get(asked, NOT_SAID),
                "asked": asked,
            }
        )
    return rows


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
