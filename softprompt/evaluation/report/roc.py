"""The ROC curve of a classification with two labels."""

from softprompt.evaluation.gate_report import GateReport

MOST_POINTS = 200
"""The Kubeflow UI draws each."""


def roc_curve(report: GateReport) -> tuple[list[float], list[float], list[float]] | None:
    """False positive rates, true positive rates and thresholds, the second label being the positive one.

    None where there are not two labels, or the test rows have only one of them.
    """
    if len(report.labels) != 2 or len({row.target for row in report.rows}) < 2:
        return None
    from sklearn.metrics import roc_curve as curve

    positive = report.labels[1]
    truths = [row.target == positive for row in report.rows]
    scores = [row.confidence if row.outputs["soft_prompt"] == positive else 1 - row.confidence for row in report.rows]
    false, true, thresholds = curve(truths, scores)
    every = max(1, -(-len(false) // MOST_POINTS))
    keep = [*range(0, len(false) - 1, every), len(false) - 1]
    # The first threshold is infinite, which KFP cannot write as JSON.
    return [float(false[i]) for i in keep], [float(true[i]) for i in keep], [min(float(thresholds[i]), 1.0) for i in keep]
