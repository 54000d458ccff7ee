"""Step `validate_dataset`: the dataset's files become an immutable artifact, or are refused with the rows to mend."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_dataset(resolved_recipe: str, dataset: Output[Dataset], dataset_report: Output[HTML]) -> None:
    """Read, check and divide the rows.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        dataset: Parquet a part, and a manifest.
        dataset_report: What was found, as a page.
    """
    from pathlib import Path

    from softprompt.data.validate import validate_dataset as validate
    from softprompt.progress import step_errors
    from softprompt.resolve import ResolvedRecipe

    with step_errors("validate_dataset"):
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        manifest = validate(resolved, Path(dataset.path), Path(dataset_report.path))
        dataset.metadata["content_digest"] = manifest.content_digest
        dataset.metadata["num_rows"] = dict(manifest.num_rows)
