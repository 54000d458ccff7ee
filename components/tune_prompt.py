"""Step `tune_prompt`: distributed prompt tuning with Ray Train over the frozen base model."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Metrics, Model, Output

from components import IMAGE, TASK_SETTINGS


@dsl.component(base_image=IMAGE, install_kfp_package=False, task_config_passthroughs=TASK_SETTINGS)
def tune_prompt(
    resolved_recipe: str,
    dataset: Input[Dataset],
    task_config: dsl.TaskConfig,
    prompt: Output[Model],
    training_log: Output[Artifact],
    training_report: Output[HTML],
    training_metrics: Output[Metrics],
    mlflow: Output[Markdown],
    mlflow_run: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
    prompt_digest: dsl.OutputPath(str),  # type: ignore[valid-type]
    backend: str = "",
) -> None:
    """Train the prompt; metrics arrive in MLflow while it runs.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        dataset: Artifact of `validate_dataset`.
        task_config: What is set on the task, for the Ray pods.
        prompt: The prompt file.
        training_log: What training measured, JSON.
        training_report: The same as a page: curves, candidates, doubts.
        training_metrics: Its last numbers, for the UI.
        mlflow: A link to the MLflow run.
        mlflow_run: Id of the MLflow run.
        prompt_digest: Which prompt it is; what the evaluation is cached by.
        backend: `local` or `rayjob`; empty: the deployment's.
    """
    from pathlib import Path

    from softprompt.data.dataset import read_manifest
    from softprompt.placement import run_step
    from softprompt.progress import step_errors
    from softprompt.registry import start_run
    from softprompt.registry_runs import url_of_run
    from softprompt.resolve import ResolvedRecipe
    from softprompt.settings import Settings
    from softprompt.step_pages import tuning_page
    from softprompt.step_request import StepRequest
    from softprompt.tuning.training_log import TrainingLog

    with step_errors("tune_prompt"):
        settings = Settings.from_environment()
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        data, out, log_file = Path(dataset.path), Path(prompt.path), Path(training_log.path)
        rows, uri = read_manifest(data), settings.tracking_uri
        run_id = start_run(uri, resolved, rows, artifacts=settings.run_artifacts, place=prompt.uri)
        Path(mlflow.path).write_text(tuning_page(resolved.recipe.name, run_id, url_of_run(uri, settings.tracking_page, run_id)))
        storage = settings.checkpoints or str(out.parent / "checkpoints")
        request = StepRequest(step="tune_prompt", resolved=resolved, tracking_uri=uri, run_id=run_id, checkpoints=storage)
        outputs = {"prompt": out, "training_log": log_file, "training_report": Path(training_report.path)}
        run_step(request, {"dataset": data}, outputs, settings, backend, place=prompt.uri, task_config=task_config)
        log = TrainingLog.from_bytes(log_file.read_bytes(), source="training_log")
        for name, value in log.headline.items():
            training_metrics.log_metric(name, value)
        prompt.metadata["digest"] = log.prompt
        Path(mlflow_run).write_text(run_id)
        Path(prompt_digest).write_text(log.prompt)
