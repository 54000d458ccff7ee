"""What the registry recorded of a run of the pipeline, for whoever started that run elsewhere and follows it."""

from softprompt.documents import Document
from softprompt.registry import PIPELINE_RUN_TAG, run_page, version_page
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
