"""Step `validate_dataset`: the dataset's files become an immutable artifact, or are refused with the rows to mend."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Metrics, Output

from components import IMAGE, TASK_SETTINGS


@dsl.component(base_image=IMAGE, install_kfp_package=False, task_config_passthroughs=TASK_SETTINGS)
def validate_dataset(
    resolved_recipe: str,
    task_config: dsl.TaskConfig,
    dataset: Output[Dataset],
    dataset_report: Output[HTML],
    dataset_metrics: Output[Metrics],
    backend: str = "",
) -> None:
    """Read, check and divide the rows.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        task_config: What is set on the task, for the Ray pods.
        dataset: Parquet a part, and a manifest.
        dataset_report: What was found, as a page.
        dataset_metrics: Rows, warnings, the classical baseline's accuracies, for the UI.
        backend: `local` or `rayjob`, if `dataset.engine` is `ray`; empty: the deployment's.
    """
    from pathlib import Path

    from softprompt.data.dataset import read_manifest
    from softprompt.data.report import DatasetReport, report_beside
    from softprompt.placement import run_step
    from softprompt.progress import step_errors
    from softprompt.resolve import ResolvedRecipe
    from softprompt.settings import Settings
    from softprompt.step_request import StepRequest

    with step_errors("validate_dataset"):
        settings = Settings.from_environment()
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        request = StepRequest(step="validate_dataset", resolved=resolved, tracking_uri=settings.tracking_uri)
        data, page = Path(dataset.path), Path(dataset_report.path)
        findings = report_beside(page)
        outputs = {"dataset": data, "dataset_report": page, "dataset_findings": findings}
        run_step(request, {}, outputs, settings, backend, place=dataset.uri, task_config=task_config)
        manifest = read_manifest(data)
        report = DatasetReport.from_bytes(findings.read_bytes(), source="dataset_report")
        for name, value in report.headline.items():
            dataset_metrics.log_metric(name, value)
        dataset.metadata["content_digest"] = manifest.content_digest
        dataset.metadata["num_rows"] = dict(manifest.num_rows)
