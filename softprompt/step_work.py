"""What the heavy steps do, by name, as functions of files.

A step runs its work in its own pod or has a Ray cluster's driver run it (`softprompt.placement`). Both call `do_work`: inputs and
outputs are paths, and everything else stands in the request, which travels as one document.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from softprompt.artifact import PromptFile
from softprompt.data.report import report_beside
from softprompt.data.validate import validate_dataset
from softprompt.documents import Document
from softprompt.evaluation.evaluate import evaluate_prompt
from softprompt.registry_evaluation import wear_of
from softprompt.resolve import ResolvedRecipe
from softprompt.tracking import MlflowSink
from softprompt.tuning.tune import tune_prompt

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


def do_work(request: StepRequest, inputs: Files, outputs: Files) -> None:
    """Do a step's work in this process and whatever Ray it is connected to.

    Args:
        request: What is asked.
        inputs: By the names of the step's inputs.
        outputs: Where to write, by the names of the step's outputs.

    Raises:
        SoftpromptError: What the step's function raises.
    """
    _WORK[request.step](request, inputs, outputs)


def _validate(request: StepRequest, inputs: Files, outputs: Files) -> None:
    assert outputs["dataset_findings"] == report_beside(outputs["dataset_report"])
    validate_dataset(request.resolved, outputs["dataset"], outputs["dataset_report"])


def _tune(request: StepRequest, inputs: Files, outputs: Files) -> None:
    tune_prompt(
        request.resolved,
        inputs["dataset"],
        outputs["prompt"],
        outputs["training_log"],
        outputs["training_report"],
        sink=MlflowSink(request.tracking_uri, request.run_id),
        run_id=request.run_id,
        storage=request.checkpoints,
    )


def _evaluate(request: StepRequest, inputs: Files, outputs: Files) -> None:
    digest = PromptFile.read(inputs["prompt"]).digest
    evaluate_prompt(
        request.resolved,
        dataset=inputs["dataset"],
        prompt=inputs["prompt"],
        training_log=inputs["training_log"],
        gate_report=outputs["gate_report"],
        report=outputs["report"],
        wear=partial(wear_of, request.tracking_uri, request.resolved.recipe.name, digest),
    )


_WORK: dict[HeavyStep, Callable[[StepRequest, Files, Files], None]] = {
    "validate_dataset": _validate,
    "tune_prompt": _tune,
    "evaluate_prompt": _evaluate,
}
