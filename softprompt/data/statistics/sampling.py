"""Which rows stand for all of them, and how they are dealt to folds: seeded, by label, the same for the same input."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Row numbers, or label numbers `[n]`."""


def number_labels(labels: Sequence[str]) -> tuple[tuple[str, ...], Ids]:
    """The different labels, sorted, and each row's place among them `[n]`."""
    names = tuple(sorted(set(labels)))
    places = {name: place for place, name in enumerate(names)}
    return names, np.fromiter((places[label] for label in labels), dtype=np.int64, count=len(labels))


def stratified_sample(label_ids: Ids, most_rows: int, seed: int) -> Ids:
    """Rows to look at where there are too many: each label in proportion, and at least one of each.

    Args:
        label_ids: Label number of each row `[n]`.
        most_rows: Rows wanted; exceeded only where there are more labels than that.
        seed: Decides which.

    Returns:
        Row numbers in rising order; all of them where there are no more than `most_rows`.
    """
    if len(label_ids) <= most_rows:
        return np.arange(len(label_ids))
    shuffled = np.random.default_rng(seed).permutation(len(label_ids))
    by_label = shuffled[np.argsort(label_ids[shuffled], kind="stable")]
    counts = np.bincount(label_ids)
    # Rank of each row within its label as a share of that label: cutting at one share takes the same part of each label.
    ranks = np.arange(len(by_label)) - np.repeat(np.cumsum(counts) - counts, counts)
    shares = ranks / np.repeat(counts, counts)
    return np.sort(by_label[np.argsort(shares, kind="stable")[: max(most_rows, np.count_nonzero(counts))]])


def deal_folds(label_ids: Ids, num_folds: int, seed: int, groups: Sequence[int] | Ids | None = None) -> Ids:
    """A fold for each row, so that every fold has its part of each label and no group is in two folds.

    Args:
        label_ids: Label number of each row `[n]`.
        num_folds: Folds `k`.
        seed: Decides the order in which groups are dealt.
        groups: Rows with equal numbers stay together; None lets each row stand alone.

    Returns:
        Fold numbers below `k`, `[n]`.
    """
    kin = np.arange(len(label_ids)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    _, first_rows = np.unique(kin, return_index=True)
    order = np.random.default_rng(seed).permutation(len(first_rows))
    # Dealing like cards, label after label: a label's groups go to the folds in turn.
    order = order[np.argsort(label_ids[first_rows[order]], kind="stable")]
    fold_of_group = np.empty(len(first_rows), dtype=np.int64)
    fold_of_group[order] = np.arange(len(order)) % num_folds
    return fold_of_group[kin]
