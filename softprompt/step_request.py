"""What a heavy step is asked, as one document: the same whether its own pod does the work or a Ray cluster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from softprompt.documents import Document
from softprompt.resolve import ResolvedRecipe

HeavyStep = Literal["validate_dataset", "tune_prompt", "evaluate_prompt"]
Files = Mapping[str, Path]
"""Name of an input or output -> its file or folder."""


class StepRequest(Document):
    """What a heavy step is asked, but for its files."""

    schema_version: Literal[1] = 1
    step: HeavyStep
    resolved: ResolvedRecipe
    tracking_uri: str
    """MLflow's address."""
    run_id: str = ""
    """The MLflow run that a training reports to; it names the Ray run, too."""
    checkpoints: str = ""
    """Of a training: a folder that all its workers see, or `s3://BUCKET/PREFIX`."""

    @property
    def uses_ray(self) -> bool:
        """Whether the recipe wants this step's work done over a Ray cluster."""
        recipe = self.resolved.recipe
        engine = {"validate_dataset": recipe.dataset.engine, "evaluate_prompt": recipe.evaluation.engine, "tune_prompt": "ray"}
        return engine[self.step] == "ray"
