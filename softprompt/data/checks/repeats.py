"""Equal and almost equal inputs: repeated, with contradicting answers, or on both sides of the line between training and test."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from softprompt.data.examined import Examined, Found, Rows, rows_that, shown
from softprompt.data.rows import Row
from softprompt.data.split import TEST


def check_duplicates(data: Examined) -> Iterator[Found]:
    """The same input and answer again, in one part; the first stays."""
    rows = data.rows_of()
    key = np.stack([data.measures.input_digest[rows], data.measures.target_digest[rows], data.part[rows].astype(np.uint64)], 1)
    first = first_of(key)
    again = np.nonzero(first != np.arange(len(rows)))[0]
    if len(again):
        original = dict(zip(rows[again].tolist(), rows[first[again]].tolist(), strict=True))
        message = f"{rows_that(len(again), 'repeats', 'repeat')} another row's input and answer."
        yield Found("duplicates", message, rows[again], lambda place, _: f"as {data.take([original[place]])[0].place}")


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
    """Almost the same input as an earlier row of the same part; equal inputs are duplicates' or conflicts' business."""
    rows = data.rows_of()
    _, unique = np.unique(data.measures.input_digest[rows], return_index=True)
    rows = rows[np.sort(unique)]
    first = first_of(np.stack([data.near[rows], data.part[rows].astype(np.int64)], 1))
    again = np.nonzero(first != np.arange(len(rows)))[0]
    if len(again):
        original = dict(zip(rows[again].tolist(), rows[first[again]].tolist(), strict=True))
        message = f"{rows_that(len(again), 'says', 'say')} almost what another row of their part says."
        yield Found("near_duplicates", message, rows[again], lambda place, _: f"like {data.take([original[place]])[0].place}")


def check_leakage(data: Examined) -> Iterator[Found]:
    """Training and validation rows whose input is, or almost is, a test row's: a test must ask what training never saw."""
    rows = data.rows_of()
    tested = data.part[rows] == TEST
    exact = np.isin(data.measures.input_digest[rows], data.measures.input_digest[rows[tested]])
    almost = np.isin(data.near[rows], data.near[rows[tested]])
    leaked = rows[~tested & (exact | almost)]
    if len(leaked):
        same = set(rows[~tested & exact].tolist())
        message = (
            f"{rows_that(len(leaked), 'asks', 'ask')} in training or validation what a test row asks: {len(same):,} in the same "
            f"words, {len(leaked) - len(same):,} almost."
        )
        yield Found(
            "leakage", message, leaked, lambda place, row: f"{row.part}, {'the same' if place in same else 'almost the same'}"
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


def _answer(_: int, row: Row) -> str:
    return f"{row.part}, {shown(row.target)}"
