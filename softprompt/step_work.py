"""What the heavy steps do, by name, as functions of files.

A step runs its work in its own pod or has a Ray cluster's driver run it (`softprompt.placement`). Both call `do_work`: inputs and
outputs are paths, and everything else stands in the request, which travels as one document. What only one step needs is imported
by it: scipy, plots and models take seconds to load.
"""

import gc
from collections.abc import Callable
from functools import partial

from softprompt.artifact import PromptFile
from softprompt.step_request import Files, HeavyStep, StepRequest

GARBAGE_THRESHOLDS = (200_000, 50, 100)
"""How many new objects make Python look for garbage. The libraries of a step make half a million that stay; looking through them
after every 700, as is usual, is a tenth of a short step's time or more (docs/field-notes.md)."""


def do_work(request: StepRequest, inputs: Files, outputs: Files) -> None:
    """Do a step's work in this process and whatever Ray it is connected to.

    Args:
        request: What is asked.
        inputs: By the names of the step's inputs.
        outputs: Where to write, by the names of the step's outputs.

    Raises:
        SoftpromptError: What the step's function raises.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    _WORK[request.step](request, inputs, outputs)


def _validate(request: StepRequest, inputs: Files, outputs: Files) -> None:
    from softprompt.data.report import report_beside
    from softprompt.data.validate import validate_dataset

    assert outputs["dataset_findings"] == report_beside(outputs["dataset_report"])
    validate_dataset(request.resolved, outputs["dataset"], outputs["dataset_report"])


def _tune(request: StepRequest, inputs: Files, outputs: Files) -> None:
    from softprompt.tracking import MlflowSink
    from softprompt.tuning.tune import tune_prompt

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
    from softprompt.evaluation.evaluate import evaluate_prompt
    from softprompt.registry_evaluation import wear_of

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
