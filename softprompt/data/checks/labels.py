"""The label set of a classification: names, counts, balance, and whether every part has rows."""

from collections.abc import Iterator, Sequence

import numpy as np

from softprompt.data.examined import Examined, Found
from softprompt.data.rows import PARTS
from softprompt.data.split import TRAIN
from softprompt.data.statistics.balance import imbalance, missing_labels, names_alike, rare_labels, untidy_names
from softprompt.data.text.personal_data import excerpt


def check_unknown_labels(data: Examined) -> Iterator[Found]:
    """Labels that the recipe does not list, or, where it lists none, that no training row has."""
    listed = data.recipe.task.labels
    known = set(listed) if listed else {data.label_names[code] for code in np.unique(data.label[data.rows_of(TRAIN)])}
    strange = [code for code, name in enumerate(data.label_names) if name not in known]
    rows = data.rows_of()
    rows = rows[np.isin(data.label[rows], strange)]
    if len(rows):
        names = listing(sorted({data.label_names[code] for code in np.unique(data.label[rows])}))
        message = (
            f"Labels that task.labels does not list: {names}. Mend these rows, or list the labels."
            if listed
            else f"Labels that no training row has: {names}. Add training rows for them, or remove these rows."
        )
        yield Found("unknown_labels", message, rows, lambda _, row: f"{row.part}, {excerpt(row.target)}")


def check_labels(data: Examined) -> Iterator[Found]:
    """At least two labels, and verbalisers for none that does not exist."""
    counts = data.counts_by_label(TRAIN)
    trained = {name for name, count in zip(data.label_names, counts, strict=True) if count}
    if len(trained) < 2:
        message = f"Training rows have {len(trained)} different labels; a choice needs two."
        yield Found("labels", message, severity="refuse")
    untrained = sorted(set(data.recipe.task.labels) - trained)
    if untrained:
        yield Found("labels", f"task.labels lists labels that no training row has: {listing(untrained)}.", severity="refuse")
    strangers = sorted(set(data.recipe.task.verbalisers) - trained)
    if strangers:
        yield Found("labels", f"task.verbalisers names labels that no row has: {listing(strangers)}.", severity="refuse")


def check_label_names(data: Examined) -> Iterator[Found]:
    """Labels that differ by case, spaces, underscores or Unicode form only, or carry what nobody sees."""
    rows = data.rows_of()
    present = [data.label_names[code] for code in np.unique(data.label[rows])]
    for problem in (*names_alike(present), *untidy_names(present)):
        codes = [data.label_names.index(name) for name in problem.labels]
        yield Found("label_names", problem.message, rows[np.isin(data.label[rows], codes)], lambda _, row: excerpt(row.target))


def check_balance(data: Examined) -> Iterator[Found]:
    """Rare labels, and frequent ones that drown the others."""
    counts, limits = _counts(data, TRAIN), data.recipe.dataset.limits
    yield from (Found("rare_labels", problem.message) for problem in rare_labels(counts, limits.rows_of_label))
    yield from (Found("imbalance", problem.message) for problem in imbalance(counts, limits.imbalance))


def check_missing_labels(data: Examined) -> Iterator[Found]:
    """Labels that a part does not have; those that training lacks are unknown and have been told."""
    trained = set(_counts(data, TRAIN))
    by_part: dict[str, dict[str, int]] = {
        name: {label: count for label, count in _counts(data, part).items() if label in trained}
        for part, name in enumerate(PARTS)
    }
    yield from (Found("missing_labels", problem.message) for problem in missing_labels(by_part))


def check_counts(data: Examined) -> Iterator[Found]:
    """Every part has rows."""
    empty = [name for part, name in enumerate(PARTS) if not len(data.rows_of(part))]
    if empty:
        message = f"No rows for {listing(empty)}; there are {data.num_rows:,} rows in all."
        yield Found("counts", message, severity="refuse")


def listing(names: Sequence[str], most: int = 8) -> str:
    """Names in a sentence, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _counts(data: Examined, part: int) -> dict[str, int]:
    """Label -> rows, for labels with some."""
    return {name: count for name, count in zip(data.label_names, data.counts_by_label(part).tolist(), strict=True) if count}
