"""Batches answered by Ray Data's workers, each of which loads the base once; the same batches as in one process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from softprompt.artifact import Answer
from softprompt.base_model import visible_device
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.ray_session import num_offered, start_ray
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import load_resolved_base

if TYPE_CHECKING:
    from softprompt.evaluation.systems.answering import Answered, Answering, Asked

OBJECT_STORE_BYTES = 256 * 1024 * 1024
"""Of a local Ray: token ids and answers on their way."""
Prompt = np.ndarray[Any, np.dtype[np.float32]]


class AnswerBatches:
    """A worker's predictor.

    Args:
        resolved: JSON of the recipe; names base, batch size and sampling.
        template: Of the task.
        answers: Its labels' texts.
        prompt: Values of what stands before every row; None: nothing.
        max_new_tokens: Longest generated answer.
    """

    def __init__(
        self, resolved: bytes, template: str, answers: tuple[Answer, ...], prompt: Prompt | None, max_new_tokens: int
    ) -> None:
        recipe = ResolvedRecipe.from_bytes(resolved, source="the Ray driver")
        base = load_resolved_base(recipe, visible_device())
        task = EncodedTask.create(base.text, template, answers)
        soft = None if prompt is None else SoftPrompt(torch.from_numpy(prompt.copy())).to(base.model.device)
        self._predictor = BaseSystem(base, task, soft).predictor(recipe.recipe.evaluation, max_new_tokens)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A batch and its answers as JSON, in which floats keep every digit."""
        from softprompt.evaluation.systems.answering import Asked, answer_batch

        return {"answered": json.dumps(asdict(answer_batch(self._predictor, Asked(**json.loads(row["asked"])))))}


def answer_on_ray(how: "Answering", system: BaseSystem, batches: Sequence["Asked"]) -> Iterator["Answered"]:
    """Answer batches over a cluster; they come back in any order.

    Args:
        how: The recipe and the longest answer.
        system: Over the recipe's base.
        batches: Batches.
    """
    from softprompt.evaluation.systems.answering import Answered

    start_ray(object_store_bytes=OBJECT_STORE_BYTES)
    import ray.data

    gpus = num_offered("GPU")
    most_workers = max(1, min(len(batches), gpus or num_offered("CPU")))
    settings = (
        how.resolved.to_bytes(),
        system.task.encoder.template,
        system.task.answers,
        None if system.prompt is None else system.prompt.to_array(),
        how.max_new_tokens,
    )
    worker: Any = AnswerBatches
    asked = ray.data.from_items([{"asked": json.dumps(asdict(batch))} for batch in batches])
    answered = asked.map(worker, fn_constructor_args=settings, concurrency=(1, most_workers), num_gpus=1 if gpus else None)
    for row in answered.iter_rows():
        yield Answered(**json.loads(row["answered"]))
