"""Everything that answers the test rows: the soft prompt, and what it is compared with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.data.dataset import read_baseline, read_part
from softprompt.engine.predictor import Prediction, Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.evaluation.observations import Answers, Observations
from softprompt.progress import tell
from softprompt.resolve import ResolvedRecipe

STEP = "evaluate_prompt"


def observe(resolved: ResolvedRecipe, base: FrozenBase, file: PromptFile, dataset: Path) -> Observations:
    """Answer the test rows with the soft prompt and with everything that the recipe compares it with.

    Args:
        resolved: The recipe.
        base: The base that the prompt was trained on.
        file: The prompt.
        dataset: Dataset artifact.
    """
    recipe, rows = resolved.recipe, read_part(dataset, "test")
    task = EncodedTask.of_manifest(base.text, file.manifest)
    soft = SoftPrompt(torch.from_numpy(file.values)).to(base.model.device)
    askers: dict[str, tuple[EncodedTask, SoftPrompt | None]] = {"soft_prompt": (task, soft), "bare_base": (task, None)}
    for system, template in recipe.evaluation.templates().items():
        askers[system] = (EncodedTask.create(base.text, template, file.manifest.answers), None)
    systems: dict[str, Answers] = {}
    for number, (system, (its_task, prompt)) in enumerate(askers.items(), start=1):
        predictor = Predictor(
            base, its_task, prompt, batch_size=recipe.evaluation.batch_size, max_new_tokens=file.manifest.max_new_tokens
        )
        systems[system] = _answers(predictor.predict([row.inputs for row in rows]))
        tell(STEP, f"{system}: {len(rows)} test rows answered", done=number, total=len(askers))
    classical = read_baseline(dataset, "test")
    if classical:
        systems["classical"] = Answers(tuple(classical))
    return Observations(recipe.task.type, rows, task.labels, systems, recipe.evaluation)


def _answers(predictions: Sequence[Prediction]) -> Answers:
    probabilities = np.array([prediction.probabilities for prediction in predictions])
    return Answers(tuple(prediction.output for prediction in predictions), probabilities if probabilities.size else None)
