"""Step `register_prompt`: every outcome is recorded in MLflow; a prompt that was not rejected becomes a version in review."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register_prompt(
    resolved_recipe: str,
    mlflow_run: str,
    pipeline_run: str,
    dataset: Input[Dataset],
    prompt: Input[Model],
    training_log: Input[Artifact],
    gate_report: Input[Artifact],
    report: Input[HTML],
    dataset_report: Input[HTML],
    training_report: Input[HTML],
    registry: Output[Markdown],
    registration: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
) -> None:
    """Record run, evidence and version.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        mlflow_run: Run that `tune_prompt` began.
        pipeline_run: Id of KFP's run, by which its outcome is found in the registry.
        dataset: What the prompt was judged on; some test rows are examples for the reviewer.
        prompt: The prompt file.
        training_log: Log of `tune_prompt`.
        gate_report: Of `evaluate_prompt`.
        report: Page of `evaluate_prompt`.
        dataset_report: Page of `validate_dataset`.
        training_report: Page of `tune_prompt`.
        registry: Links to version and run, and how it is reviewed.
        registration: Run, version and their address, JSON.
    """
    from pathlib import Path

    from softprompt.progress import step_errors
    from softprompt.registry import register_prompt as register
    from softprompt.resolve import ResolvedRecipe
    from softprompt.settings import Settings
    from softprompt.step_pages import registration_page

    with step_errors("register_prompt"):
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        settings = Settings.from_environment()
        result = register(
            settings.tracking_uri,
            mlflow_run,
            resolved,
            dataset=Path(dataset.path),
            prompt=Path(prompt.path),
            gate_report=Path(gate_report.path),
            training_log=Path(training_log.path),
            pages={
                "report.html": Path(report.path),
                "dataset_report.html": Path(dataset_report.path),
                "training_report.html": Path(training_report.path),
            },
            page=settings.tracking_page,
            pipeline_run=pipeline_run,
        )
        Path(registry.path).write_text(registration_page(resolved.recipe.name, result))
        Path(registration).write_bytes(result.to_bytes())
