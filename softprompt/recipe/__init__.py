"""A recipe: what a user asks for, one YAML file, read strictly.

Its larger parts are modules that bear their keys' names; `combinations.py` knows what does not go together, `reader.py` reads.
What a recipe's references point to (which bytes a dataset has now, which base model a URI names) is `softprompt.resolve`'s
business.
"""

import re
from typing import Literal, Self

from pydantic import model_validator

from softprompt.documents import Document
from softprompt.names import Name, Text
from softprompt.numerics import Numerics
from softprompt.recipe.combinations import impossible
from softprompt.recipe.dataset import DatasetSpec
from softprompt.recipe.evaluation import EvaluationSpec
from softprompt.recipe.gates import GateSpec
from softprompt.recipe.prompt import PromptSpec, usual_num_tokens
from softprompt.recipe.task import TaskSpec
from softprompt.recipe.training import (
    FAIRNESS_WEIGHTS,
    INPUT_NOISE,
    LEARNING_RATES,
    OPTIMISERS,
    READINGS_BY_HEART,
    Candidate,
    FairnessSpec,
    Loss,
    TrainingSpec,
    ValidationMetric,
)
from softprompt.template import template_fields


class BaseModelSpec(Document):
    """Which frozen language model."""

    uri: Text
    """`embedded://base`, `file:///path` (or a path relative to the recipe), `s3://bucket/prefix`, `hf://org/name@revision`."""
    dtype: Numerics = "float32"
    """Number formats that it is loaded and computed in: `float32`, `bfloat16`, `float16`, or `int8` (docs/vocabulary.md). The
    prompt itself is always trained in float32."""

    @model_validator(mode="after")
    def _check_uri(self) -> Self:
        if "://" in self.uri and not self.uri.startswith(("embedded://", "file://", "s3://", "hf://")):
            raise ValueError(f"uri: scheme {self.uri.split('://')[0]!r} is unknown; use embedded, file, s3 or hf")
        if self.uri.startswith("hf://") and not re.fullmatch(r"hf://[^/@]+/[^/@]+@[^@]+", self.uri):
            raise ValueError("uri: a hub model needs its revision: hf://org/name@revision (a commit is best)")
        return self


class Recipe(Document):
    """What a user asks for: a soft prompt for one task on one frozen base model, the gates it must pass, and its channel."""

    schema_version: Literal[1]
    """Version of this schema; always 1 today."""
    name: Name
    """The prompt's name: lower-case letters, digits and hyphens, at most 40."""
    channel: Name
    """The channel it is meant for; that channel's policy decides what may be published there."""
    base_model: BaseModelSpec
    """Which frozen language model."""
    dataset: DatasetSpec
    """Which rows."""
    task: TaskSpec
    """What the prompt has to do."""
    prompt: PromptSpec = PromptSpec()
    """The shape of the prompt."""
    training: TrainingSpec = TrainingSpec()
    """How it is tuned."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What it is compared with."""
    gates: tuple[GateSpec, ...]
    """What it must prove on rows that training never saw; at least one gate that blocks."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        for problem in impossible(self):
            raise ValueError(problem)
        return self

    @property
    def loss(self) -> Loss:
        """The training loss: as given, else `answers` for a closed set of answers and `likelihood` for an open one."""
        return self.training.loss or ("answers" if self.task.type == "classification" else "likelihood")

    @property
    def validation_metric(self) -> ValidationMetric:
        """What `best on validation` means: as given, else accuracy where the loss is over a closed set of answers."""
        return self.training.validation_metric or ("accuracy" if self.loss == "answers" else "loss")

    def training_of(self, candidate: Candidate) -> TrainingSpec:
        """The training with a candidate's wishes, learning rate and warm-up filled in."""
        rate = candidate.learning_rate or self.training.learning_rate or LEARNING_RATES[self.prompt.kind]
        warmup = self.training.steps // 10 if self.training.warmup_steps is None else None
        fairness = self._fairness_of(candidate)
        optimiser = self.training.optimiser or OPTIMISERS[self.prompt.kind]
        given = {
            "seed": candidate.seed,
            "learning_rate": rate,
            "warmup_steps": warmup,
            "optimiser": optimiser,
            "fairness": fairness,
        }
        return self.training.model_copy(update={key: value for key, value in given.items() if value is not None})

    def _fairness_of(self, candidate: Candidate) -> FairnessSpec | None:
        spec = self.training.fairness
        if spec is None:
            return None
        wished = spec.weight if candidate.fairness_weight is None else candidate.fairness_weight
        return spec.model_copy(update={"weight": FAIRNESS_WEIGHTS[spec.method] if wished is None else wished})

    def num_tokens(self, num_labels: int, candidate: Candidate) -> int:
        """Prompt tokens `P` of a candidate, in a task of so many labels (0: its answers are open)."""
        return candidate.num_tokens or self.prompt.num_tokens or usual_num_tokens(self.prompt.kind, num_labels)

    def prompt_of(self, candidate: Candidate) -> PromptSpec:
        """The prompt with a candidate's start; its length is told by `num_tokens`, which has to know the labels."""
        return self.prompt.model_copy(update={"init": candidate.init or self.prompt.init})

    def input_noise(self, num_rows: int) -> float:
        """Share of an input's tokens that are replaced at each reading, in a training over so many rows."""
        training = self.training
        if training.input_noise is not None:
            return training.input_noise
        by_heart = self.prompt.kind == "deep" and training.steps * training.batch_size >= READINGS_BY_HEART * num_rows
        return INPUT_NOISE if by_heart and self.task.type == "classification" else 0.0

    def in_full(self, num_labels: int, num_rows: int) -> "Recipe":
        """The recipe as it trains so many rows of so many labels: prompt tokens, optimiser, rate, warm-up and noise filled in."""
        prompt = self.prompt.model_copy(update={"num_tokens": self.num_tokens(num_labels, Candidate())})
        training = self.training_of(Candidate()).model_copy(update={"input_noise": self.input_noise(num_rows)})
        return self.model_copy(update={"prompt": prompt, "training": training})

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The dataset columns that the template names."""
        return template_fields(self.task.template)
