"""Training, validation, test.

A row's part follows from a hash of its input, so the same rows land in the same part when others are added, and equal inputs land
together. Rows that are almost the same, and rows of one group, are a cluster: all go where the member with the smallest digest
goes, so that a test row never has a twin in training. Shares, and so the shares of labels, are met in expectation.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from softprompt.data.rows import PARTS
from softprompt.recipe.dataset import SplitSpec

TRAIN, VALIDATION, TEST = range(len(PARTS))


def split(
    place: NDArray[np.float64], digest: NDArray[np.uint64], cluster: NDArray[np.int64], spec: SplitSpec
) -> NDArray[np.int8]:
    """The part of each row, as a place in `PARTS`.

    Args:
        place: `[R]` each row's own draw from [0, 1).
        digest: `[R]` each row's input digest.
        cluster: `[R]` the same number for rows that must stay together.
        spec: Shares of the parts.
    """
    return drawn(place[leaders(digest, cluster)], spec)


def leaders(digest: NDArray[np.uint64], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row the row of its cluster with the smallest digest: it does not depend on the order of the rows."""
    order = np.lexsort((digest, cluster))
    starts = np.nonzero(np.diff(cluster[order], prepend=-1))[0]
    sizes = np.diff(np.append(starts, len(order)))
    found = np.empty(len(order), np.int64)
    found[order] = np.repeat(order[starts], sizes)
    return found


def moved(place: NDArray[np.float64], part: NDArray[np.int8], spec: SplitSpec) -> NDArray[np.int64]:
    """Rows that their cluster took to another part than their own draw would have."""
    return np.nonzero(drawn(place, spec) != part)[0]


def joined(*groupings: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """One cluster number for rows that any of the groupings keeps together; numbers below zero join nothing."""
    from softprompt.data.near import clusters

    num_rows = len(groupings[0])
    pairs = [np.zeros((0, 2), np.int64)]
    for grouping in groupings:
        names = np.asarray(grouping, np.int64)
        (rows,) = np.nonzero(names >= 0)
        _, first, inverse = np.unique(names[rows], return_index=True, return_inverse=True)
        pairs.append(np.stack([rows[first][inverse], rows], 1))
    return clusters(num_rows, np.concatenate(pairs))


def drawn(place: NDArray[np.float64], spec: SplitSpec) -> NDArray[np.int8]:
    """The part of each row by its own draw, as a place in `PARTS`."""
    bounds = [spec.test, spec.test + spec.validation]
    return np.array([TEST, VALIDATION, TRAIN], np.int8)[np.searchsorted(bounds, place, side="right")]
