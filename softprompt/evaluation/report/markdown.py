"""The evaluation in a few lines of Markdown: for the Kubeflow UI and for a version's page in MLflow."""

from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport, system_title

MOST_METRICS = 4


def gates_table(report: GateReport) -> list[str]:
    """The gates."""
    rows = [f"| {gate.rule} | {gate.measurement} | {gate.severity} | **{gate.status}** |" for gate in report.gates]
    return ["| gate | measured | severity | status |", "| :--- | :--- | :--- | :--- |", *rows]


def systems_table(report: GateReport) -> list[str]:
    """The soft prompt beside everything it is compared with."""
    metrics = report.metrics[:MOST_METRICS]
    titles = " | ".join(METRIC_TITLES[metric] for metric in metrics)
    lines = [f"| system | {titles} |", "| :--- |" + " :--- |" * len(metrics)]
    for system in report.systems:
        values = [report.value(system, metric) for metric in metrics]
        shown = " | ".join(f"{value.estimate:.3f}" if value else "" for value in values)
        lines.append(f"| {system_title(system)} | {shown} |")
    return lines


def summary(name: str, report: GateReport) -> str:
    """A page of its own."""
    wear = [f"These test rows judged {report.wear.judged_before} prompts of this name before.", ""] if report.wear else []
    return "\n".join(
        [
            f"# {name}: {report.verdict}",
            "",
            f"{report.reason}",
            "",
            f"{report.num_test_rows} test rows.",
            "",
            *wear,
            *gates_table(report),
            "",
            *systems_table(report),
            "",
        ]
    )
