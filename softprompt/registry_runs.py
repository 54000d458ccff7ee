"""What the registry recorded of a run of the pipeline, for whoever started that run elsewhere and follows it."""

import tempfile
from pathlib import Path

from softprompt.documents import Document
from softprompt.recipe import Recipe
from softprompt.registry import PIPELINE_RUN_TAG, RESOLVED_RECIPE_FILE, run_page, version_page
from softprompt.resolve import ResolvedRecipe
from softprompt.tracking import talking_to


class RecordedRun(Document):
    """The outcome of a pipeline's run, as `register_prompt` recorded it."""

    run_id: str
    run_url: str
    """Empty where the registry has no web pages."""
    name: str
    """Of the prompt."""
    prompt: str
    """Its digest."""
    verdict: str
    reason: str
    version: str
    """Empty for a rejected prompt."""
    version_url: str
    metrics: dict[str, float]
    """Metric -> the soft prompt's estimate on the test rows."""


def url_of_run(tracking_uri: str, page: str, run_id: str) -> str:
    """URL of a run's page; empty where the registry has none.

    Args:
        tracking_uri: MLflow's address.
        page: URL of its web pages; empty: it has none.
        run_id: Of the run.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    if not page:
        return ""
    with talking_to(tracking_uri) as mlflow:
        return run_page(page, mlflow.get_run(run_id).info.experiment_id, run_id)


def recipe_of_version(tracking_uri: str, name: str, version: str) -> Recipe | None:
    """The recipe that a registered version was made by, out of its run; None: there is no such version or run.

    Args:
        tracking_uri: MLflow's address.
        name: Of the registered model.
        version: Its number; empty: none.

    Raises:
        TrackingUnavailable: The server does not answer.
        VerificationFailed: What is recorded is no recipe.
    """
    from mlflow.exceptions import MlflowException

    if not version:
        return None
    with talking_to(tracking_uri) as mlflow, tempfile.TemporaryDirectory() as folder:
        try:
            run_id = mlflow.get_model_version(name, version).run_id or ""
            data = Path(mlflow.download_artifacts(run_id, RESOLVED_RECIPE_FILE, folder)).read_bytes()
        except (MlflowException, OSError):
            return None
    return ResolvedRecipe.from_bytes(data, source=f"recipe of {name} version {version}").recipe


def recorded_run(tracking_uri: str, page: str, pipeline_run: str) -> RecordedRun | None:
    """What a run of the pipeline recorded; None: nothing yet.

    Args:
        tracking_uri: MLflow's address.
        page: URL of its web pages, for links; empty: it has none.
        pipeline_run: Id of the pipeline's run.

    Raises:
        TrackingUnavailable: The server does not answer.
    """
    with talking_to(tracking_uri) as mlflow:
        experiments = [found.experiment_id for found in mlflow.search_experiments()]
        runs = mlflow.search_runs(experiments, f"tags.`{PIPELINE_RUN_TAG}` = '{pipeline_run}'", max_results=1)
        if not runs:
            return None
        run, tags = runs[0], runs[0].data.tags
        name = mlflow.get_experiment(run.info.experiment_id).name
        versions = mlflow.search_model_versions(f"name = '{name}' AND tags.`softprompt.prompt` = '{tags['softprompt.prompt']}'")
    version = str(versions[0].version) if versions else ""
    start = "evaluate_prompt/soft_prompt/"
    return RecordedRun(
        run_id=run.info.run_id,
        run_url=run_page(page, run.info.experiment_id, run.info.run_id),
        name=name,
        prompt=tags["softprompt.prompt"],
        verdict=tags["softprompt.verdict"],
        reason=tags.get("softprompt.reason", ""),
        version=version,
        version_url=version_page(page, name, version),
        metrics={key.removeprefix(start): value for key, value in run.data.metrics.items() if key.startswith(start)},
    )
