"""Planted faults: a dataset with known defects, to show that validation finds them and finds nothing else.

Every row carries at most one fault, so the truth names each faulty line under exactly one kind. What a kind does to a row is in
`fault_kinds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from softprompt.embedded.fault_kinds import BREAKERS, CHANGES, Change, Row, encode_row, mislabel, say_again
from softprompt.embedded.phrases import pick

COPY_KINDS = ("duplicates", "near_duplicates", "conflicts", "leakage", "near_leakage")
CHANGE_KINDS = (*CHANGES, *BREAKERS)
KINDS = (*COPY_KINDS, *CHANGE_KINDS)
"""Every kind of fault; `broken` stands for the kinds of unreadable rows."""
BROKEN_KINDS = tuple(BREAKERS)

_LEAKS = ("leakage", "near_leakage")
_ALMOST = ("near_duplicates", "near_leakage")


def plant_faults(
    rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], seed: int, num_each: int = 5
) -> tuple[list[str], dict[str, list[int]]]:
    """Writes `rows` as JSONL lines with faults in them.

    Args:
        rows: sound rows with at least `id`, `text` and `queue`; they are not changed.
        kinds: any of `KINDS`, or `broken` for all of `BROKEN_KINDS`.
        seed: decides which rows, and how.
        num_each: faulty lines of each kind.

    Returns:
        The lines without newlines, and for each kind its 1-based line numbers. A copied row (`COPY_KINDS`) stands after its
        original, and the number is the copy's; of `conflicts` both are named, and of a leak the one that is not in `test`.
        With a leak every row has a column `split` (`train`, `validation` or `test`), and a copy's split is not its original's.

    Raises:
        ValueError: an unknown kind, or too few rows for this many faults.
    """
    rng, chosen = Random(seed), _resolve_kinds(kinds)
    if num_each * len(chosen) > len(rows):
        raise ValueError(f"{len(rows)} rows cannot carry {num_each} faults of {len(chosen)} kinds; give more rows")
    sound = [dict(row) for row in rows]
    if set(chosen) & set(_LEAKS):
        for row in sound:
            row["split"] = pick(("train",) * 8 + ("validation", "test"), rng)
    entries: list[tuple[str, str]] = [("", encode_row(row)) for row in sound]
    victims = _distinct_indices(len(rows), num_each * len(chosen), rng)
    queues = sorted({str(row["queue"]) for row in sound})
    copies: list[tuple[int, str, Row]] = []
    for position, index in enumerate(victims):
        kind = chosen[position % len(chosen)]
        if kind in COPY_KINDS:
            copies.append((index, kind, _copy(sound[index], kind, position, queues, rng)))
        else:
            entries[index] = (kind, _faulty_line(_CHANGE[kind](dict(sound[index]), queues, rng)))
    # From the last original to the first: what is inserted behind an original never moves one still to be handled.
    for index, kind, copy in sorted(copies, key=lambda item: -item[0]):
        place = index + 1 + int(rng.random() * (len(entries) - index))
        leaks_original = kind in _LEAKS and copy["split"] == "test"
        if kind == "conflicts" or leaks_original:
            entries[index] = (kind, entries[index][1])
        entries.insert(place, ("" if leaks_original else kind, encode_row(copy)))
    truth = {kind: [number for number, (fault, _) in enumerate(entries, 1) if fault == kind] for kind in chosen}
    return [line for _, line in entries], truth


_CHANGE: dict[str, Change] = {**CHANGES, **BREAKERS}


def _resolve_kinds(kinds: Sequence[str]) -> list[str]:
    chosen: list[str] = []
    for kind in kinds:
        chosen.extend(BROKEN_KINDS if kind == "broken" else (kind,))
    unknown = sorted(set(chosen) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown fault kinds {unknown}; known: {', '.join(KINDS)}, broken")
    return list(dict.fromkeys(chosen))


def _distinct_indices(num_rows: int, num_wanted: int, rng: Random) -> list[int]:
    """Draws row indices without repetition, by `random()` alone."""
    return sorted(range(num_rows), key=lambda _: rng.random())[:num_wanted]


def _copy(row: Row, kind: str, number: int, queues: Sequence[str], rng: Random) -> Row:
    """The same or almost the same text under a new id; for a leak in another split, else in the same one."""
    copy = {**row, "id": f"{row['id']}-{kind}-{number}"}
    if kind in _LEAKS:
        copy["split"] = "test" if row["split"] == "train" else "train"
    if kind == "conflicts":
        return mislabel(copy, queues, rng)
    return say_again(copy, rng) if kind in _ALMOST else copy


def _faulty_line(faulty: Row | str) -> str:
    return faulty if isinstance(faulty, str) else encode_row(faulty)
