"""The pictures of the evaluation."""

from collections.abc import Iterable

from markupsafe import Markup

from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport, system_title
from softprompt.pages.plots import Estimate, curves_plot, estimates_plot, reliability_plot
from softprompt.recipe.gates import Metric
from softprompt.tuning.training_log import Measurement, TrainingLog

MOST_CONFUSED = 10


def comparison_plot(report: GateReport, metric: Metric) -> Markup:
    """Every system's estimate with its interval, and the absolute gates as lines."""
    found = [(system_title(each.system), each) for each in report.measured if each.metric == metric]
    estimates: list[Estimate] = [(title, each.estimate, each.low, each.high) for title, each in found]
    rules = {f"{METRIC_TITLES[metric]} at {side} {gate.threshold:g}" for gate in report.gates for side in ("least", "most")}
    limits = {f"gate {gate.threshold:g}": gate.threshold for gate in report.gates if gate.metric == metric and gate.rule in rules}
    return estimates_plot(estimates, METRIC_TITLES[metric], limits)


def confidence_plots(report: GateReport) -> list[tuple[str, Markup]]:
    """Whether the probabilities mean what they say, and what is gained by handing doubtful rows to a person."""
    plots = []
    if report.calibration:
        bins = [(each.confidence, each.accuracy, each.num_rows) for each in report.calibration if each.num_rows]
        text = "Reliability: on the diagonal, rows answered with a confidence of 0.8 are right in 80 of 100 cases."
        plots.append((text, reliability_plot(bins)))
    if len(report.abstention) > 1:
        points = sorted((each.coverage, each.accuracy) for each in report.abstention)
        text = "Abstention: accuracy of what is answered where the least confident rows go to a person."
        plots.append((text, curves_plot({"accuracy": points}, "share of rows answered", "accuracy", None)))
    return plots


def most_confused(report: GateReport) -> list[tuple[str, str, int]]:
    """Pairs (true label, label said, rows), the frequent ones first."""
    pairs = [
        (report.labels[true], report.labels[said], count)
        for true, row in enumerate(report.confusion)
        for said, count in enumerate(row)
        if true != said and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_CONFUSED]


def training_plots(log: TrainingLog) -> list[Markup]:
    """Losses and validation accuracy of the kept candidate."""
    looks = [look for look in log.measurements if look.candidate == log.winner]
    losses = {
        "training": [(look.step, look.training_loss) for look in looks],
        "validation": [(look.step, look.validation_loss) for look in looks],
    }
    unit = "nats a row" if log.loss == "answers" else "nats a token"
    plots = [curves_plot(losses, "step", f"loss, {unit}", log.best_step)]
    accuracies = list(_accuracies(looks))
    if accuracies:
        plots.append(curves_plot({"validation": accuracies}, "step", "validation accuracy", log.best_step))
    return plots


def _accuracies(looks: Iterable[Measurement]) -> Iterable[tuple[float, float]]:
    return ((look.step, look.validation_accuracy) for look in looks if look.validation_accuracy is not None)
