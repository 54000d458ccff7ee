"""An evaluation in MLflow: its numbers, tables and pictures on the run, and the metrics on the model that a version shows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt.artifact import PromptFile
from softprompt.errors import TrackingUnavailable
from softprompt.evaluation.gate_report import METRIC_TITLES, GateReport, Wear, system_title
from softprompt.evaluation.report.figures import comparison_plot, confidence_plots
from softprompt.pages.plots import standalone
from softprompt.progress import tell
from softprompt.tracking import talking_to
from softprompt.tuning.training_log import TrainingLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

MOST_FIGURES = 2
MOST_ROWS = 5_000
"""Of the table of rows, which is for looking; the gate report has all."""


def wear_of(tracking_uri: str, name: str, prompt: str, test_rows: str) -> Wear | None:
    """How many other prompts of a name the same test rows have judged, rejected ones too.

    Args:
        tracking_uri: MLflow's address.
        name: The prompt's name.
        prompt: Digest of the one that is judged now.
        test_rows: Digest of the rows.

    Returns:
        None where MLflow does not answer: the evaluation does not depend on it.
    """
    try:
        with talking_to(tracking_uri) as mlflow:
            found = mlflow.get_experiment_by_name(name)
            judged = set(_judged(mlflow, found.experiment_id, test_rows)) if found else set()
    except TrackingUnavailable as error:
        tell("evaluate_prompt", f"MLflow does not say how often these rows have judged: {error.what}")
        return None
    return Wear(judged_before=len(judged - {prompt}))


def _judged(mlflow: "MlflowClient", experiment: str, test_rows: str) -> Iterator[str]:
    """Digests of the prompts whose evaluation looked at these rows."""
    token = None
    while True:
        page = mlflow.search_runs([experiment], f"tags.`softprompt.test_rows` = '{test_rows}'", page_token=token)
        yield from (run.data.tags["softprompt.prompt"] for run in page)
        token = page.token
        if not token:
            return


def record_evaluation(
    mlflow: "MlflowClient", run_id: str, file: PromptFile, report: GateReport, log: TrainingLog, files: dict[str, Path]
) -> None:
    """Numbers, tags, tables, pictures and files of an evaluation, on the run.

    Args:
        mlflow: The client.
        run_id: The run.
        file: The prompt.
        report: What was measured.
        log: How it was trained.
        files: Artifact name -> text file, logged as it is.
    """
    from mlflow.entities import Metric, RunTag

    numbers = {f"evaluate_prompt/{key}": value for key, value in _numbers(report).items()}
    numbers |= {"tune_prompt/seconds": log.seconds, "tune_prompt/mean_tokens_per_second": log.tokens_per_second}
    numbers |= {"prompt/bytes": len(file.tensor), "prompt/parameters": log.trainable_parameters}
    tags = {"prompt": file.digest, "verdict": report.verdict, "reason": report.reason[:5000], "test_rows": report.test_rows}
    mlflow.log_batch(
        run_id,
        metrics=[Metric(key, float(value), 0, 0) for key, value in numbers.items()],
        tags=[RunTag(f"softprompt.{key}", value) for key, value in tags.items()],
    )
    for name, path in files.items():
        mlflow.log_text(run_id, path.read_text(), name)
    _log_tables(mlflow, run_id, {name: columns for name, columns in _tables(report).items() if any(columns.values())})
    for name, picture in _figures(report):
        mlflow.log_text(run_id, picture, f"figures/{name}.svg")


def record_model_metrics(mlflow: "MlflowClient", run_id: str, model_id: str, report: GateReport) -> None:
    """The same numbers on the LoggedModel, which is what a version's page shows."""
    from mlflow.entities import Metric

    mlflow.log_batch(
        run_id, metrics=[Metric(key, float(value), 0, 0, model_id=model_id) for key, value in _numbers(report).items()]
    )


def _log_tables(mlflow: "MlflowClient", run_id: str, tables: dict[str, dict[str, list[Any]]]) -> None:
    """In the form of MLflow's own `log_table`, which would add the rows again when the same run is recorded again."""
    for name, columns in tables.items():
        rows = [list(cells) for cells in zip(*columns.values(), strict=True)]
        mlflow.log_dict(run_id, {"columns": list(columns), "data": rows}, f"tables/{name}.json")
    places = [{"path": f"tables/{name}.json", "type": "table"} for name in tables]
    mlflow.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(places))


def _numbers(report: GateReport) -> dict[str, float]:
    numbers = {f"{found.system}/{found.metric}": found.estimate for found in report.measured}
    return numbers | {f"gates/{gate.name}": gate.estimate for gate in report.gates if gate.estimate is not None}


def _tables(report: GateReport) -> dict[str, dict[str, list[Any]]]:
    """Name -> column -> cells; MLflow shows them beside each other for several runs."""
    return {
        "gates": {
            "gate": [gate.rule for gate in report.gates],
            "measured": [gate.estimate for gate in report.gates],
            "low": [gate.low for gate in report.gates],
            "high": [gate.high for gate in report.gates],
            "severity": [gate.severity for gate in report.gates],
            "status": [gate.status for gate in report.gates],
            "note": [gate.note for gate in report.gates],
        },
        "comparisons": {
            "soft prompt against": [system_title(found.baseline) for found in report.comparisons],
            "metric": [METRIC_TITLES[found.metric] for found in report.comparisons],
            "lead": [found.difference for found in report.comparisons],
            "low": [found.low for found in report.comparisons],
            "high": [found.high for found in report.comparisons],
            "p, corrected": [found.p_holm for found in report.comparisons],
            "noise": [found.noise for found in report.comparisons],
        },
        "rows": {
            "row": [row.id for row in report.rows[:MOST_ROWS]],
            "right answer": [row.target for row in report.rows[:MOST_ROWS]],
            **{system_title(system): [row.outputs[system] for row in report.rows[:MOST_ROWS]] for system in report.systems},
        },
    }


def _figures(report: GateReport) -> Iterator[tuple[str, str]]:
    for metric in report.metrics[:MOST_FIGURES]:
        yield metric, standalone(comparison_plot(report, metric))
    for name, (_, plot) in zip(("reliability", "abstention"), confidence_plots(report), strict=False):
        yield name, standalone(plot)
