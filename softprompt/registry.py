"""The MLflow registry: one experiment and one registered model a prompt name, every outcome recorded.

A passed or undecided prompt becomes a version with its evidence; a rejected one stays a run with its reasons. The release
package never imports this module: Git or the channel's policy decides what is served, MLflow is where people look.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from softprompt.artifact import PromptFile
from softprompt.data.dataset import DatasetManifest, iter_part
from softprompt.documents import Document, sha256_hex
from softprompt.errors import InvalidRequest
from softprompt.evaluation.gate_report import GateReport, system_title
from softprompt.evaluation.report.review import ReviewPage, inputs_of, lead_over, lead_text
from softprompt.fetch.web import without_secrets
from softprompt.progress import tell
from softprompt.registry_evaluation import record_evaluation
from softprompt.registry_version import describe_version, the_version
from softprompt.resolve import ResolvedRecipe
from softprompt.tracking import talking_to
from softprompt.tuning.training_log import TrainingLog

if TYPE_CHECKING:
    from mlflow import MlflowClient

STEP = "register_prompt"
MOST_PARAM_CHARACTERS = 6000
"""MLflow's own limit for a parameter's value."""
PLACE_TAG = "softprompt.place"
"""sha256 of the URI that a run's prompt is written to."""
RESOLVED_RECIPE_FILE = "resolved_recipe.json"
"""Artifact of a run: what it was made by."""
PIPELINE_RUN_TAG = "softprompt.pipeline_run"
"""Id of the pipeline's run, on the MLflow run that it recorded."""


class Registration(Document):
    """What `register_prompt` recorded."""

    run_id: str
    run_url: str
    """Empty where the tracking store has no web address."""
    version: str
    """Registered version; empty for a rejected prompt."""
    version_url: str = ""
    """Its page; empty where there is none."""
    prompt: str
    """The prompt's digest."""
    verdict: Literal["passed", "rejected", "undecided"]


def start_run(
    tracking_uri: str, resolved: ResolvedRecipe, dataset: DatasetManifest, *, artifacts: Path | None = None, place: str = ""
) -> str:
    """Begin the run that tuning reports to, or find the one that an earlier try of the same step began.

    Args:
        tracking_uri: MLflow's address.
        resolved: The recipe; logged whole, and its settings as parameters.
        dataset: Logged as the run's input.
        artifacts: Where a new experiment keeps its artifacts; None: where the server says.
        place: URI that the step writes its prompt to, the same for each of its tries: they share a run, so that the last one goes
            on from the checkpoints of those before. Empty: a new run.

    Returns:
        The run's id.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

    from softprompt.registry_dataset import CONTEXT, LoggedDataset

    recipe = resolved.recipe
    with talking_to(tracking_uri) as mlflow:
        experiment = _experiment(mlflow, recipe.name, artifacts)
        if place and (begun := mlflow.search_runs([experiment], f"tags.`{PLACE_TAG}` = '{sha256_hex(place.encode())}'")):
            return str(begun[0].info.run_id)
        run = mlflow.create_run(experiment, run_name=f"{recipe.name} {recipe.prompt.kind}")
        settings = recipe.in_full(len(dataset.labels), dataset.num_rows["train"]).model_dump(mode="json")
        params = [Param(key, value[:MOST_PARAM_CHARACTERS]) for key, value in _flat(settings)]
        tags = [RunTag(f"softprompt.{key}", value) for key, value in _identity(resolved, dataset).items()]
        metrics = [Metric(f"validate_dataset/{key}", float(value), 0, 0) for key, value in _dataset_numbers(dataset).items()]
        mlflow.log_batch(run.info.run_id, params=params, tags=tags, metrics=metrics)
        logged = LoggedDataset(recipe.name, resolved, dataset)._to_mlflow_entity()
        mlflow.log_inputs(run.info.run_id, [DatasetInput(logged, [InputTag("mlflow.data.context", CONTEXT)])])
        mlflow.log_text(run.info.run_id, resolved.to_bytes().decode(), RESOLVED_RECIPE_FILE)
        if place:  # last, so that a run which is found holds all of the above
            mlflow.set_tag(run.info.run_id, PLACE_TAG, sha256_hex(place.encode()))
    return str(run.info.run_id)


def register_prompt(
    tracking_uri: str,
    run_id: str,
    resolved: ResolvedRecipe,
    dataset: Path,
    prompt: Path,
    gate_report: Path,
    training_log: Path,
    pages: dict[str, Path],
    page: str = "",
    pipeline_run: str = "",
) -> Registration:
    """Record a prompt with its evidence; make it a version unless it was rejected.

    Registering the same prompt twice gives one version, also when two do it at the same time.

    Args:
        tracking_uri: MLflow's address.
        run_id: The run that tuned it.
        resolved: The recipe.
        dataset: Dataset artifact; some of its test rows are examples for the reviewer.
        prompt: Directory of the prompt file.
        gate_report: The evaluation's report.
        training_log: The training's log.
        pages: File name -> HTML page, logged as they are.
        page: URL of the registry's web pages, for links; empty: it has none.
        pipeline_run: Id of the pipeline's run; whoever follows that finds the outcome here.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    file = PromptFile.read(prompt)
    report = GateReport.from_bytes(gate_report.read_bytes(), source=str(gate_report))
    log = TrainingLog.from_bytes(training_log.read_bytes(), source=str(training_log))
    with talking_to(tracking_uri) as mlflow:
        files = {"gate_report.json": gate_report, "training_log.json": training_log} | pages
        record_evaluation(mlflow, run_id, file, report, log, files)
        rejected = report.verdict == "rejected"
        version = "" if rejected else _register(mlflow, run_id, resolved, dataset, prompt, file, report)
        if pipeline_run:
            mlflow.set_tag(run_id, PIPELINE_RUN_TAG, pipeline_run)
        mlflow.set_terminated(run_id)
        run_url = run_page(page, mlflow.get_run(run_id).info.experiment_id, run_id)
    outcome = f"version {version}" if version else "no version: the gates rejected it"
    tell(STEP, f"{resolved.recipe.name}: {outcome}", version=version, run_id=run_id)
    return Registration(
        run_id=run_id,
        run_url=run_url,
        version=version,
        version_url=version_page(page, resolved.recipe.name, version),
        prompt=file.digest,
        verdict=report.verdict,
    )


def report_of_version(tracking_uri: str, name: str, version: str) -> bytes:
    """The gate report of a registered version.

    Raises:
        InvalidRequest: There is no such version, or its run has no report.
        TrackingUnavailable: The server does not answer.
    """
    from mlflow.exceptions import MlflowException

    with talking_to(tracking_uri) as mlflow, tempfile.TemporaryDirectory() as folder:
        try:
            run_id = mlflow.get_model_version(name, version).run_id or ""
            return Path(mlflow.download_artifacts(run_id, "gate_report.json", folder)).read_bytes()
        except (MlflowException, OSError) as error:
            raise InvalidRequest(
                "The registry has no evaluation of that version.",
                where=f"{without_secrets(tracking_uri)}, {name} version {version}",
                actual=str(error),
                hint="`softprompt ui` shows what is registered.",
            ) from None


def _register(
    mlflow: "MlflowClient",
    run_id: str,
    resolved: ResolvedRecipe,
    dataset: Path,
    prompt: Path,
    file: PromptFile,
    report: GateReport,
) -> str:
    """The version of a prompt, with its evidence as tags and its review page; the page with more examples on the run."""
    name = resolved.recipe.name
    tags = {f"softprompt.{key}": value for key, value in _evidence(resolved, report).items()}
    version = the_version(mlflow, run_id, resolved, prompt, file, tags)
    page = ReviewPage(
        report=report,
        name=name,
        version=version,
        channel=resolved.recipe.channel,
        prompt=file.digest,
        description=f"{file.manifest.kind} prompt, {file.manifest.num_tokens} tokens, {len(file.tensor):,} bytes".capitalize(),
        inputs=inputs_of(report, iter_part(dataset, "test")),
    )
    mlflow.log_text(run_id, page.whole(), "review.md")
    describe_version(mlflow, name, version, report, page.fitting())
    return version


def _evidence(resolved: ResolvedRecipe, report: GateReport) -> dict[str, str]:
    """What a version's tags say."""
    rival = "champion" if lead_over(report, "champion") else "bare_base"
    lead = lead_over(report, rival)
    return {
        "gates.verdict": report.verdict,
        "gates.report": report.digest,
        "dataset": report.dataset,
        "recipe": resolved.digest,
        "base_fingerprint": report.base_fingerprint,
        "numerics": report.numerics,
        "channel": resolved.recipe.channel,
        "champion": report.champion or "none",
        "lead": f"{lead_text(lead)} over {system_title(rival)}" if lead else "none",
    }


def _experiment(mlflow: "MlflowClient", name: str, artifacts: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return str(mlflow.create_experiment(name, artifact_location=artifacts.as_uri() if artifacts else None))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = mlflow.get_experiment_by_name(name)
    assert found is not None
    return str(found.experiment_id)


def _identity(resolved: ResolvedRecipe, dataset: DatasetManifest) -> dict[str, str]:
    return {
        "recipe": resolved.digest,
        "dataset": dataset.content_digest,
        "base_uri": resolved.base.uri,
        "base_fingerprint": resolved.base.fingerprint,
        "channel": resolved.recipe.channel,
        "tool_version": resolved.tool_version,
    }


def _dataset_numbers(dataset: DatasetManifest) -> dict[str, float]:
    numbers: dict[str, float] = {f"{part}_rows": count for part, count in dataset.num_rows.items()}
    numbers["dropped_rows"] = sum(dataset.num_dropped.values())
    if dataset.baseline:
        numbers["baseline/validation_accuracy"] = dataset.baseline.validation_accuracy
        numbers["baseline/test_accuracy"] = dataset.baseline.test_accuracy
    return numbers


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted key, text), empty values left out."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else key)
    elif content not in (None, "", []):
        yield prefix, without_secrets(content) if prefix.endswith("uri") else str(content)


def run_page(page: str, experiment_id: str, run_id: str) -> str:
    """URL of a run; empty where the registry has no web pages."""
    return f"{page}/#/experiments/{experiment_id}/runs/{run_id}" if page else ""


def version_page(page: str, name: str, version: str) -> str:
    """URL of a version; empty where there is none, or the registry has no web pages."""
    return f"{page}/#/models/{name}/versions/{version}" if page and version else ""
