"""Planted faults: a dataset with known defects, to show that validation finds them and finds nothing else.

Every row carries at most one fault, so the truth names each faulty line under exactly one kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from softprompt.embedded.phrases import pick

Row = dict[str, Any]

COPY_KINDS = ("duplicates", "leakage")
CHANGE_KINDS = ("wrong_labels", "invalid_json", "missing_column", "nan", "empty_text", "wrong_type")
KINDS = COPY_KINDS + CHANGE_KINDS
"""Every kind of fault; `broken` stands for the five kinds of unreadable rows."""
BROKEN_KINDS = CHANGE_KINDS[1:]


def encode_row(row: Mapping[str, Any]) -> str:
    """One row as one line of JSON, without the newline."""
    return json.dumps(row, ensure_ascii=False)


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
        The lines without newlines, and for each kind its 1-based line numbers. A copied row (`duplicates`, `leakage`)
        stands after its original, and the number is the copy's. With `leakage` every row has a column `split`
        (`train`, `validation` or `test`), and a copy's split is not its original's.

    Raises:
        ValueError: an unknown kind, or too few rows for this many faults.
    """
    rng, chosen = Random(seed), _resolve_kinds(kinds)
    if num_each * len(chosen) > len(rows):
        raise ValueError(f"{len(rows)} rows cannot carry {num_each} faults of {len(chosen)} kinds; give more rows")
    sound = [dict(row) for row in rows]
    if "leakage" in chosen:
        for row in sound:
            row["split"] = pick(("train",) * 8 + ("validation", "test"), rng)
    entries: list[tuple[str, str]] = [("", encode_row(row)) for row in sound]
    victims = _distinct_indices(len(rows), num_each * len(chosen), rng)
    queues = sorted({str(row["queue"]) for row in sound})
    copies: list[tuple[int, str, Row]] = []
    for position, index in enumerate(victims):
        kind = chosen[position % len(chosen)]
        if kind in COPY_KINDS:
            copies.append((index, kind, _copy(sound[index], kind, position)))
        else:
            entries[index] = (kind, _BREAKERS[kind](dict(sound[index]), queues, rng))
    # From the last original to the first: what is inserted behind an original never moves one still to be handled.
    for index, kind, copy in sorted(copies, key=lambda item: -item[0]):
        place = index + 1 + int(rng.random() * (len(entries) - index))
        entries.insert(place, (kind, encode_row(copy)))
    truth = {kind: [number for number, (fault, _) in enumerate(entries, 1) if fault == kind] for kind in chosen}
    return [line for _, line in entries], truth


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


def _copy(row: Row, kind: str, number: int) -> Row:
    """The same text under a new id; for `leakage` in another split, else in the same one."""
    copy = {**row, "id": f"{row['id']}-{kind}-{number}"}
    if kind == "leakage":
        copy["split"] = "test" if row["split"] == "train" else "train"
    return copy


def _mislabel(row: Row, queues: Sequence[str], rng: Random) -> str:
    return encode_row({**row, "queue": pick([queue for queue in queues if queue != row["queue"]], rng)})


def _truncate(row: Row, queues: Sequence[str], rng: Random) -> str:
    line = encode_row(row)
    return line[: len(line) // 2]


def _drop_column(row: Row, queues: Sequence[str], rng: Random) -> str:
    del row[pick(("text", "queue"), rng)]
    return encode_row(row)


def _put_nan(row: Row, queues: Sequence[str], rng: Random) -> str:
    return encode_row({**row, "text": float("nan")})


def _empty(row: Row, queues: Sequence[str], rng: Random) -> str:
    return encode_row({**row, "text": pick(("", "   ", "\n"), rng)})


def _mistype(row: Row, queues: Sequence[str], rng: Random) -> str:
    wrong: Any = pick((17, ["a", "list"], {"an": "object"}, None), rng)
    return encode_row({**row, "text": wrong})


_BREAKERS: dict[str, Callable[[Row, Sequence[str], Random], str]] = {
    "wrong_labels": _mislabel,
    "invalid_json": _truncate,
    "missing_column": _drop_column,
    "nan": _put_nan,
    "empty_text": _empty,
    "wrong_type": _mistype,
}
