"""The soft prompt label by label, by scikit-learn."""

from collections.abc import Iterator, Sequence

from softprompt.evaluation.gate_report import LabelScores


def confusion(labels: Sequence[str], targets: Sequence[str], outputs: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Counts, true labels in rows and said ones in columns; empty for a generation."""
    if not labels:
        return ()
    from sklearn.metrics import confusion_matrix

    return tuple(tuple(row) for row in confusion_matrix(targets, outputs, labels=list(labels)).tolist())


def label_scores(labels: Sequence[str], targets: Sequence[str], outputs: Sequence[str]) -> Iterator[LabelScores]:
    """Precision, recall and F1 of each label; 0 where a label is never said, or no row has it."""
    if not labels:
        return
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(targets, outputs, labels=list(labels), zero_division=0)
    for label, precision, recall, f1, count in zip(labels, *columns, strict=True):
        yield LabelScores(label=label, precision=float(precision), recall=float(recall), f1=float(f1), num_rows=int(count))
