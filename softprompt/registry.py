"""The MLflow registry: one experiment and one registered model a prompt name, every outcome recorded.

A passed or undecided prompt becomes a version with its evidence; a rejected one stays a run with its reasons. The release
package never imports this module: Git or the channel's policy decides what is served, MLflow is where people look.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from softprompt.artifact import PromptFile
from softprompt.data.dataset import DatasetManifest
from softprompt.documents import Document
from softprompt.errors import InvalidRequest
from softprompt.evaluation.gate_report import GateReport
from softprompt.evaluation.report.markdown import gates_table, systems_table
from softprompt.fetch.web import without_secrets
from softprompt.progress import tell
from softprompt.registry_evaluation import record_evaluation, record_model_metrics
from softprompt.resolve import ResolvedRecipe
from softprompt.tracking import talking_to
from softprompt.tuning.training_log import TrainingLog

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

STEP = "register_prompt"
MODEL_FILE = Path(__file__).with_name("registry_model.py")
MOST_PARAM_CHARACTERS = 6000
"""MLflow's own limit for a parameter's value."""


class Registration(Document):
    """What `register_prompt` recorded."""

    run_id: str
    run_url: str
    """Empty where the tracking store has no web address."""
    version: str
    """Registered version; empty for a rejected prompt."""
    prompt: str
    """The prompt's digest."""
    verdict: Literal["passed", "rejected", "undecided"]


def start_run(tracking_uri: str, resolved: ResolvedRecipe, dataset: DatasetManifest, *, artifacts: Path | None = None) -> str:
    """Begin the run that tuning reports to.

    Args:
        tracking_uri: MLflow's address.
        resolved: The recipe; logged whole, and its settings as parameters.
        dataset: Logged as the run's input.
        artifacts: Where a new experiment keeps its artifacts; None: where the server says.

    Returns:
        The run's id.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag

    from softprompt.registry_dataset import CONTEXT, LoggedDataset

    recipe = resolved.recipe
    with talking_to(tracking_uri) as mlflow:
        run = mlflow.create_run(_experiment(mlflow, recipe.name, artifacts), run_name=f"{recipe.name} {recipe.prompt.kind}")
        params = [Param(key, value[:MOST_PARAM_CHARACTERS]) for key, value in _flat(recipe.model_dump(mode="json"))]
        tags = [RunTag(f"softprompt.{key}", value) for key, value in _identity(resolved, dataset).items()]
        metrics = [Metric(f"validate_dataset/{key}", float(value), 0, 0) for key, value in _dataset_numbers(dataset).items()]
        mlflow.log_batch(run.info.run_id, params=params, tags=tags, metrics=metrics)
        logged = LoggedDataset(recipe.name, resolved, dataset)._to_mlflow_entity()
        mlflow.log_inputs(run.info.run_id, [DatasetInput(logged, [InputTag("mlflow.data.context", CONTEXT)])])
        mlflow.log_text(run.info.run_id, resolved.to_bytes().decode(), "resolved_recipe.json")
    return str(run.info.run_id)


def register_prompt(
    tracking_uri: str,
    run_id: str,
    resolved: ResolvedRecipe,
    prompt: Path,
    gate_report: Path,
    training_log: Path,
    pages: dict[str, Path],
) -> Registration:
    """Record a prompt with its evidence; make it a version unless it was rejected.

    Registering the same prompt twice gives one version.

    Args:
        tracking_uri: MLflow's address.
        run_id: The run that tuned it.
        resolved: The recipe.
        prompt: Directory of the prompt file.
        gate_report: The evaluation's report.
        training_log: The training's log.
        pages: File name -> HTML page, logged as they are.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    file = PromptFile.read(prompt)
    report = GateReport.from_bytes(gate_report.read_bytes(), source=str(gate_report))
    log = TrainingLog.from_bytes(training_log.read_bytes(), source=str(training_log))
    with talking_to(tracking_uri) as mlflow:
        files = {"gate_report.json": gate_report, "training_log.json": training_log} | pages
        record_evaluation(mlflow, run_id, file, report, log, files)
        version = "" if report.verdict == "rejected" else _version(mlflow, run_id, resolved, prompt, file, report)
        mlflow.set_terminated(run_id)
        url = _run_url(mlflow, tracking_uri, run_id)
    outcome = f"version {version}" if version else "no version: the gates rejected it"
    tell(STEP, f"{resolved.recipe.name}: {outcome}", version=version, run_id=run_id)
    return Registration(run_id=run_id, run_url=url, version=version, prompt=file.digest, verdict=report.verdict)


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


def _version(
    mlflow: "MlflowClient", run_id: str, resolved: ResolvedRecipe, prompt: Path, file: PromptFile, report: GateReport
) -> str:
    """The registered version of this prompt, made now unless there is one."""
    from mlflow.exceptions import MlflowException

    name = resolved.recipe.name
    known = _known_version(mlflow, name, file.digest)
    if known is None:
        try:
            mlflow.create_registered_model(name, description=f"Soft prompts for {name}.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = _log_model(run_id, resolved.base.uri, prompt, file)
        # Named at creation, so that a crash never leaves a version that cannot be recognised.
        known = mlflow.create_model_version(
            name, source, run_id, tags={"softprompt.prompt": file.digest}, model_id=_model_id(source)
        )
    if model := _model_id(known.source):
        record_model_metrics(mlflow, run_id, model, report)
    tags = {"gates.verdict": report.verdict, "gates.report": report.digest, "dataset": report.dataset}
    tags |= {"base_fingerprint": report.base_fingerprint, "numerics": report.numerics, "recipe": resolved.digest}
    for key, value in tags.items():
        mlflow.set_model_version_tag(name, known.version, f"softprompt.{key}", value)
    if "review.status" not in known.tags:
        mlflow.set_model_version_tag(name, known.version, "review.status", "pending")
    mlflow.update_model_version(name, known.version, description=review_page(resolved, file, report))
    return str(known.version)


def _known_version(mlflow: "MlflowClient", name: str, digest: str) -> "ModelVersion | None":
    found = mlflow.search_model_versions(f"name = '{name}' AND tags.`softprompt.prompt` = '{digest}'")
    return min(found, key=lambda version: int(version.version)) if found else None


def _log_model(run_id: str, base_uri: str, prompt: Path, file: PromptFile) -> str:
    """The prompt file as a LoggedModel whose code is a file, never a pickle; returns its URI."""
    import mlflow

    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="prompt",
            python_model=str(MODEL_FILE),
            artifacts={"prompt": str(prompt)},
            model_config={"base": base_uri},
            pip_requirements=["softprompt"],
            metadata={"prompt": file.digest, "base_fingerprint": file.manifest.base_fingerprint},
        )
    return str(info.model_uri)


def _model_id(uri: str | None) -> str | None:
    return uri.removeprefix("models:/") if uri and uri.startswith("models:/") else None


def review_page(resolved: ResolvedRecipe, file: PromptFile, report: GateReport) -> str:
    """A version's description, Markdown: what a reviewer needs to decide."""
    return "\n".join(
        [
            f"**{report.reason}**",
            "",
            _what(resolved, file, report),
            "",
            *gates_table(report),
            "",
            *systems_table(report),
            "",
            f"Prompt `sha256:{file.digest}`. The full report is the run's artifact `report.html`.",
            "To decide, set the tag `review.status` to `approved` or `rejected`.",
        ]
    )


def _what(resolved: ResolvedRecipe, file: PromptFile, report: GateReport) -> str:
    return (
        f"{file.manifest.kind} prompt, {file.manifest.num_tokens} tokens, {len(file.tensor):,} bytes, "
        f"for `{resolved.base.uri}`; {report.num_test_rows} test rows; meant for channel `{resolved.recipe.channel}`."
    )


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


def _run_url(mlflow: "MlflowClient", tracking_uri: str, run_id: str) -> str:
    if not tracking_uri.startswith("http"):
        return ""
    experiment = mlflow.get_run(run_id).info.experiment_id
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
