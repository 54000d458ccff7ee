"""Step `tune_prompt`: distributed prompt tuning with Ray Train over the frozen base model."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune_prompt(
    resolved_recipe: str,
    dataset: Input[Dataset],
    prompt: Output[Model],
    training_log: Output[Artifact],
    training_report: Output[HTML],
    training_metrics: Output[Metrics],
    mlflow_run: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
) -> None:
    """Train the prompt; metrics arrive in MLflow while it runs.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        dataset: Artifact of `validate_dataset`.
        prompt: The prompt file.
        training_log: What training measured, JSON.
        training_report: The same as a page: curves, candidates, doubts.
        training_metrics: Its last numbers, for the UI.
        mlflow_run: Id of the MLflow run.
    """
    from pathlib import Path

    from softprompt.data.dataset import read_manifest
    from softprompt.progress import step_errors
    from softprompt.registry import start_run
    from softprompt.resolve import ResolvedRecipe
    from softprompt.settings import Settings
    from softprompt.tracking import MlflowSink
    from softprompt.tuning.tune import tune_prompt as tune

    with step_errors("tune_prompt"):
        settings = Settings.from_environment()
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        data, out = Path(dataset.path), Path(prompt.path)
        run_id = start_run(settings.tracking_uri, resolved, read_manifest(data), artifacts=settings.run_artifacts)
        sink = MlflowSink(settings.tracking_uri, run_id)
        storage = settings.checkpoints or str(out.parent / "checkpoints")
        log_file, report = Path(training_log.path), Path(training_report.path)
        log = tune(resolved, data, out, log_file, report, sink=sink, run_id=run_id, storage=storage)
        for name, value in log.headline.items():
            training_metrics.log_metric(name, value)
        prompt.metadata["digest"] = log.prompt
        Path(mlflow_run).write_text(run_id)
