"""Equal and almost equal inputs: repeated, with contradicting answers, or on both sides of the line between training and test."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from softprompt.data.examined import Examined, Found, Rows, rows_that, shown
from softprompt.data.rows import PARTS, Row


def check_duplicates(data: Examined) -> Iterator[Found]:
    """The same input and answer again, in one part; one of them stays."""
    rows = data.rows_of()
    key = np.stack([data.measures.input_digest[rows], data.measures.target_digest[rows], data.part[rows].astype(np.uint64)], 1)
    keeper = _keepers(data, "duplicates", rows, key)
    again = np.array(sorted(row for row in keeper if row != keeper[row]), np.int64)
    if len(again):
        message = f"{rows_that(len(again), 'repeats', 'repeat')} another row's input and answer."
        yield Found("duplicates", message, again, lambda place, _: f"as {data.take([keeper[place]])[0].place}")


def check_conflicts(data: Examined) -> Iterator[Found]:
    """The same input with different answers."""
    rows = data.rows_of()
    names, inverse = np.unique(data.measures.input_digest[rows], return_inverse=True)
    pairs = np.unique(np.stack([inverse.astype(np.uint64), data.measures.target_digest[rows]], 1), axis=0)
    answers = np.bincount(pairs[:, 0].astype(np.int64), minlength=len(names))
    disputed = rows[answers[inverse] > 1]
    if not len(disputed):
        return
    disputed = disputed[np.lexsort((disputed, data.measures.input_digest[disputed]))]
    limit = data.recipe.dataset.limits.conflicts
    too_many = len(disputed) > limit * len(rows) and data.recipe.dataset.on_finding.conflicts != "drop"
    message = f"{len(disputed):,} rows have the same input as another row, and another answer."
    if too_many:
        message += f" That is {len(disputed) / len(rows):.1%} of the rows; beyond {limit:.1%} nothing good can be learned."
    yield Found("conflicts", message, disputed, _answer, severity="refuse" if too_many else None)


def check_near_duplicates(data: Examined) -> Iterator[Found]:
    """Almost the same input as another row of the same part; equal inputs are duplicates' or conflicts' business."""
    rows, digest = data.rows_of(), data.measures.input_digest
    keeper = _keepers(data, "near_duplicates", rows, np.stack([data.near[rows], data.part[rows].astype(np.int64)], 1))
    again = np.array(sorted(row for row in keeper if digest[row] != digest[keeper[row]]), np.int64)
    if len(again):
        message = f"{rows_that(len(again), 'says', 'say')} almost what another row of their part says."
        yield Found("near_duplicates", message, again, lambda place, _: f"like {data.take([keeper[place]])[0].place}")


def check_leakage(data: Examined) -> Iterator[Found]:
    """Rows whose input is, or almost is, that of a later part's row: a test must ask what nothing before it saw."""
    rows = data.rows_of()
    latest = _latest_part(data, data.near, rows)
    leaked = rows[data.part[rows] < latest]
    if not len(leaked):
        return
    asked_by = dict(zip(rows.tolist(), latest.tolist(), strict=True))
    same = set(rows[data.part[rows] < _latest_part(data, data.measures.input_digest, rows)].tolist())
    message = (
        f"{rows_that(len(leaked), 'asks', 'ask')} in training or validation what a row of a later part asks: {len(same):,} in "
        f"the same words, {len(leaked) - len(same):,} almost."
    )
    yield Found(
        "leakage",
        message,
        leaked,
        lambda place, row: f"{row.part}, {'the same' if place in same else 'almost the same'} in {PARTS[asked_by[place]]}",
    )


def check_torn_groups(data: Examined) -> Iterator[Found]:
    """Rows of one group (`group_column`) that a given split has put into different parts."""
    if not data.recipe.dataset.group_column:
        return
    rows = data.rows_of()
    names = data.table.column("group").combine_chunks().dictionary_encode().indices.to_numpy()[rows]
    spread = np.unique(np.stack([names, data.part[rows]], 1), axis=0)
    torn = np.bincount(spread[:, 0], minlength=int(names.max(initial=0)) + 1)[names] > 1
    grouped = np.array([bool(row.group) for row in data.table.take(rows[torn])], bool)
    found = rows[torn][grouped]
    if len(found):
        message = f"{len(found):,} rows belong to groups that the given split tears apart: a test row's group is in training."
        yield Found("torn_groups", message, found, lambda _, row: f"{row.part}, group {shown(row.group)}")


def first_of(key: NDArray[np.integer]) -> Rows:
    """For each row of `[R, K]` the place of the first row with the same key."""
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    found: Rows = first[inverse.ravel()].astype(np.int64)
    return found


def _keepers(data: Examined, check: str, rows: Rows, key: NDArray[np.integer]) -> dict[int, int]:
    """Rows that share their key -> the one of them that stays: the first in the files, as people read them.

    Where the others are dropped, the first by content: the same rows in another order leave the same dataset.
    """
    first = first_of(key)
    shared = np.isin(first, first[first != np.arange(len(rows))])
    rows, key = rows[shared], key[shared]
    if data.action(check) == "drop":
        order = data.by_content(rows)
        rows, key = rows[order], key[order]
    return dict(zip(rows.tolist(), rows[first_of(key)].tolist(), strict=True))


def _answer(_: int, row: Row) -> str:
    return f"{row.part}, {shown(row.target)}"


def _latest_part(data: Examined, key: NDArray[np.integer], rows: Rows) -> NDArray[np.int8]:
    """For each of these rows the last part that any of them with its key is in."""
    _, group = np.unique(key[rows], return_inverse=True)
    last = np.zeros(len(rows), np.int8)
    np.maximum.at(last, group, data.part[rows])
    found: NDArray[np.int8] = last[group]
    return found
