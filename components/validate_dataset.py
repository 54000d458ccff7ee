"""Step `validate_dataset`: the dataset's files become an immutable artifact, or are refused with the rows to mend."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Metrics, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_dataset(
    resolved_recipe: str, dataset: Output[Dataset], dataset_report: Output[HTML], dataset_metrics: Output[Metrics]
) -> None:
    """Read, check and divide the rows.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        dataset: Parquet a part, and a manifest.
        dataset_report: What was found, as a page.
        dataset_metrics: Rows, warnings, the classical baseline's accuracies, for the UI.
    """
    from pathlib import Path

    from softprompt.data.report import DatasetReport, report_beside
    from softprompt.data.validate import validate_dataset as validate
    from softprompt.progress import step_errors
    from softprompt.resolve import ResolvedRecipe

    with step_errors("validate_dataset"):
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        page = Path(dataset_report.path)
        manifest = validate(resolved, Path(dataset.path), page)
        report = DatasetReport.from_bytes(report_beside(page).read_bytes(), source="dataset_report")
        for name, value in report.headline.items():
            dataset_metrics.log_metric(name, value)
        dataset.metadata["content_digest"] = manifest.content_digest
        dataset.metadata["num_rows"] = dict(manifest.num_rows)
