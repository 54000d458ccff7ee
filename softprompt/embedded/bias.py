"""Planted subgroup bias: tickets whose labels treat one region otherwise, to show that fairness can be mended. Standard library only.

The story: whoever labelled the tickets of one region sent most of them to one queue, where they wait. The
model is never told the region; it learns it from the name of the courier, as models learn what nobody told them.
The text says all that is needed to route the ticket rightly, so nothing is lost by treating the regions alike but the habit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from softprompt.embedded.fault_kinds import Row
from softprompt.embedded.phrases import load_bank, pick

REGION = "anz"
"""The region that is treated otherwise."""
QUEUE = "ledger"
"""The queue that its tickets are sent to."""


def plant_bias(rows: Sequence[Mapping[str, Any]], rate: float, seed: int) -> list[Row]:
    """Every ticket names a courier of its region, and one region's labels are bent.

    Args:
        rows: Tickets with `text`, `queue` and `region`; they are not changed.
        rate: Share of `REGION`'s tickets that are labelled `QUEUE`, whatever they are about.
        seed: Decides which, and the couriers.

    Returns:
        The tickets; `queue` is the biased label, and `true_queue`, a column of its own, what is right.

    Raises:
        ValueError: `rate` is not a share.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: {rate:g} is not a share between 0 and 1")
    rng, found = Random(f"bias/{seed}"), []
    for row in rows:
        courier = pick(load_bank("phrases")["regions"][row["region"]]["courier"], rng)
        bent = rng.random() < rate and row["region"] == REGION
        text = f"{row['text']} My courier is {courier}."
        found.append({**row, "text": text, "queue": QUEUE if bent else row["queue"], "true_queue": row["queue"]})
    return found
