"""Rows that these tests share: the embedded tickets, real customers' messages, and ways to spoil them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import softprompt.embedded

Rows = tuple[list[str], list[str]]


@pytest.fixture(scope="session")
def tickets() -> Rows:
    path = Path(softprompt.embedded.__file__).parent / "data" / "tickets.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["queue"] for row in rows]


@pytest.fixture(scope="session")
def messages(banking77: Path) -> Rows:
    return read_part(banking77, "train")


@pytest.fixture(scope="session")
def test_messages(banking77: Path) -> Rows:
    return read_part(banking77, "test")


@pytest.fixture(scope="session")
def some_messages(messages: Rows) -> Rows:
    """A quarter of the intents: enough to be real, few enough to be quick."""
    kept = [place for place, label in enumerate(messages[1]) if label in sorted(set(messages[1]))[::4]]
    return [messages[0][place] for place in kept], [messages[1][place] for place in kept]


@pytest.fixture(scope="session")
def flip_labels() -> Callable[[list[str], float, int], tuple[list[str], set[int]]]:
    """Gives a share of rows another label; returns the labels and which rows."""

    def flip(labels, share, seed):
        rng, names, flipped = np.random.default_rng(seed), sorted(set(labels)), list(labels)
        rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
        for row in rows:
            flipped[row] = str(rng.choice([name for name in names if name != labels[row]]))
        return flipped, set(rows.tolist())

    return flip


def read_part(folder: Path, part: str) -> Rows:
    with (folder / f"{part}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]
