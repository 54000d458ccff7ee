"""Questions to the made-up shop and the page of its help that answers each: retrieval as the ranking of a few titles.

A question is a customer's message from the phrase bank, as a ticket is, but briefer; the titles stand in `company.toml`.
The shipped `data/faq.jsonl` was made by

    python -m softprompt.embedded.faq --rows 1000 --seed 17 --out softprompt/embedded/data/faq.jsonl

and a test makes it again, byte for byte. Standard library only.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random

from softprompt.embedded.fault_kinds import Row
from softprompt.embedded.messages import REGIONS, draw_mood, write_message
from softprompt.embedded.phrases import FOLDER, draw_facts, load_bank, pick
from softprompt.embedded.tickets import write_jsonl

DATASET = FOLDER / "data" / "faq.jsonl"
DATASET_ROWS, DATASET_SEED = 1000, 17
ARTICLES: dict[str, str] = {situation: queue["article"] for situation, queue in load_bank("company")["queues"].items()}


def generate_questions(num_rows: int, seed: int) -> list[Row]:
    """Makes `num_rows` questions, no two with the same text; the same seed makes the same questions.

    Returns:
        Rows with `id`, `question`, `article` (one of `ARTICLES`) and `region`.
    """
    rng = Random(seed)
    rows: list[Row] = []
    seen: set[str] = set()
    while len(rows) < num_rows:
        situation = pick(list(ARTICLES), rng)
        facts = draw_facts(pick(REGIONS, rng), rng)
        question = write_message(situation, draw_mood(rng), facts, rng, brief=True)
        if question not in seen:
            seen.add(question)
            rows.append(
                {"id": f"q-{len(rows):06d}", "question": question, "article": ARTICLES[situation], "region": facts.region}
            )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes a dataset of questions and help pages."""
    parser = argparse.ArgumentParser(prog="python -m softprompt.embedded.faq", description=main.__doc__)
    parser.add_argument("--rows", type=int, default=DATASET_ROWS, help="number of questions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=DATASET_SEED, help="the same seed gives the same bytes")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file to write")
    options = parser.parse_args(arguments)
    write_jsonl(generate_questions(options.rows, options.seed), options.out)


if __name__ == "__main__":
    main()
