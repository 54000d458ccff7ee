"""Test rows whose input the training saw."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softprompt.data.dataset import iter_part
from softprompt.data.input_digests import digests_of, is_among
from softprompt.data.rows import Row


def leaked_rows(rows: Sequence[Row], dataset: Path) -> tuple[int, ...]:
    """Indices of rows whose input, case and white space aside, stands in the dataset's training part."""
    found = is_among(digests_of(rows), digests_of(iter_part(dataset, "train")))
    return tuple(np.flatnonzero(found).tolist())
