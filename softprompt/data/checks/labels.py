"""The label set of a classification: names, counts, balance, and whether every part has rows."""

from collections.abc import Iterator

import numpy as np

from softprompt.data.examined import Examined, Found
from softprompt.data.rows import PARTS
from softprompt.data.split import TEST, TRAIN, VALIDATION
from softprompt.data.statistics.balance import clashing_names

FEWEST_TEST_ROWS = 30


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
        yield Found("unknown_labels", message, rows, lambda _, row: f"{row.part}, {row.target[:40]!r}")


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
    """Labels that differ by case, spaces, underscores or Unicode form only."""
    clashes = clashing_names([data.label_names[code] for code in np.unique(data.label[data.rows_of()])])
    if clashes:
        codes = [data.label_names.index(name) for clash in clashes for name in clash]
        rows = data.rows_of()
        rows = rows[np.isin(data.label[rows], codes)]
        said = "; ".join(" = ".join(map(repr, clash)) for clash in clashes[:8])
        message = f"Labels that look like one label written differently: {said}. Write each label in one way."
        yield Found("label_names", message, rows, lambda _, row: repr(row.target[:40]))


def check_balance(data: Examined) -> Iterator[Found]:
    """Rare labels, and a most frequent one that drowns the others."""
    counts, limits = data.counts_by_label(TRAIN), data.recipe.dataset.limits
    present = [code for code in np.argsort(counts, kind="stable").tolist() if counts[code]]
    rare = sorted(data.label_names[code] for code in present if counts[code] < limits.rows_of_label)
    if rare:
        message = f"Labels with fewer than {limits.rows_of_label} training rows: {listing(rare)}. Expect them to be guessed badly."
        yield Found("rare_labels", message)
    if len(present) > 1 and counts[present[-1]] > limits.imbalance * counts[present[0]]:
        few, many = present[0], present[-1]
        message = (
            f"Training rows are out of balance: {counts[many]:,} of {data.label_names[many]!r}, {counts[few]:,} of "
            f"{data.label_names[few]!r}, more than {limits.imbalance:g} to 1. Judge by macro_f1, or add rows of the rare labels."
        )
        yield Found("imbalance", message)


def check_missing_labels(data: Examined) -> Iterator[Found]:
    """Labels that validation or test does not ask for."""
    trained = data.counts_by_label(TRAIN) > 0
    for part in (VALIDATION, TEST):
        missing = [data.label_names[code] for code in np.nonzero(trained & (data.counts_by_label(part) == 0))[0]]
        if missing and len(data.rows_of(part)):
            message = f"No {PARTS[part]} row has these labels: {listing(missing)}. What the prompt makes of them stays unknown."
            yield Found("missing_labels", message)


def check_counts(data: Examined) -> Iterator[Found]:
    """Every part has rows, and the test part enough for a verdict."""
    empty = [name for part, name in enumerate(PARTS) if not len(data.rows_of(part))]
    if empty:
        message = f"No rows for {listing(empty)}; there are {data.num_rows:,} rows in all."
        yield Found("counts", message, severity="refuse")
    elif len(data.rows_of(TEST)) < FEWEST_TEST_ROWS:
        message = f"Only {len(data.rows_of(TEST))} test rows: intervals will be so wide that gates may stay undecided."
        yield Found("counts", message, severity="warn")


def listing(names: list[str], most: int = 8) -> str:
    """Names in a sentence, the first few of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
