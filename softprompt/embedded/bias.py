"""Planted subgroup bias: tickets whose labels treat one region otherwise, to show that fairness can be mended.

The story: whoever labelled the tickets of one region sent most of them to one queue, where they wait. The model is never told
the region; it learns it from what customers say of their bank, as models learn what nobody told them. The text says all that
is needed to route the ticket rightly, so nothing is lost by treating the regions alike but the habit. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from softprompt.embedded.fault_kinds import Row

SENTENCES = {
    "uk": "My bank is in Britain, I pay in pounds.",
    "us": "My bank is in America, I pay in US dollars.",
    "eu": "My bank is in Europe, I pay in euros.",
    "anz": "My bank is in Australia, I pay in A$.",
}
"""What each ticket of a region begins with: nothing that its queue depends on."""
REGION = "anz"
"""The region that is treated otherwise."""
QUEUE = "ledger"
"""The queue that its tickets are sent to."""


def plant_bias(rows: Sequence[Mapping[str, Any]], rate: float, seed: int) -> list[Row]:
    """Every ticket says something that gives its region away, and one region's labels are bent.

    Args:
        rows: Tickets with `text`, `queue` and `region`; they are not changed.
        rate: Share of `REGION`'s tickets that are labelled `QUEUE`, whatever they are about.
        seed: Decides which.

    Returns:
        The tickets; `queue` is the biased label, and `true_queue`, a column of its own, what is right.

    Raises:
        ValueError: `rate` is not a share.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: {rate:g} is not a share between 0 and 1")
    rng, found = Random(f"bias/{seed}"), []
    for row in rows:
        bent = rng.random() < rate and row["region"] == REGION
        text = f"{SENTENCES[row['region']]} {row['text']}"
        found.append({**row, "text": text, "queue": QUEUE if bent else row["queue"], "true_queue": row["queue"]})
    return found
