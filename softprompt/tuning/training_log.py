"""What a run reports about its training: evidence, and the source of the report's curves."""

from typing import Literal

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.names import PromptKind
from softprompt.numerics import Numerics
from softprompt.recipe.gates import Criterion
from softprompt.recipe.training import FairnessMethod, ValidationMetric


class Measurement(Document):
    """One look at the validation rows."""

    candidate: int
    step: int
    training_loss: float
    """Mean since the last look, nats."""
    validation_loss: float
    """Nats a row (answers) or a token (likelihood)."""
    validation_accuracy: float | None
    """Share of rows whose every decision goes right; None where answers are open."""
    validation_gap: float | None = None
    """Largest difference between groups, where fairness is asked for."""
    learning_rate: float
    """Relative to the scale of the vectors."""
    tokens_per_second: float
    """Text tokens through the base in training, since the last look."""
    seconds: float
    """Since this candidate began, while it trained."""


class CandidateResult(Document):
    """How one candidate ended, or one repetition of the chosen one with another seed."""

    candidate: int
    seed: int
    num_tokens: int
    learning_rate: float
    init: str
    steps: int
    """Optimiser steps it was trained for."""
    dropped_at: int | None
    """The step after which it was given up."""
    repeats: int | None
    """The candidate whose setting it repeats."""
    best_step: int
    validation_loss: float
    validation_accuracy: float | None
    seconds: float
    warnings: tuple[str, ...] = ()
    """What went wrong with it, one sentence each."""


class SeedSpread(Document):
    """The chosen setting trained with several seeds."""

    metric: ValidationMetric
    values: tuple[float, ...]
    """Best validation metric of each seed."""
    mean: float
    standard_deviation: float
    vote: float | None
    """Validation accuracy of the mean of all seeds' probabilities; None where answers are open."""


class TradeOffPoint(Document):
    """One run's accuracy and gap on the validation rows, with 95 % intervals."""

    candidate: int
    weight: float
    """Of the objective beside the loss."""
    accuracy: tuple[float, float, float]
    """Estimate, low, high: Clopper & Pearson's interval."""
    gap: tuple[float, float, float]
    """Estimate, low, high: percentile bootstrap over rows, which for a largest difference lies rather high."""


class TradeOff(Document):
    """What fairness cost, and which run was kept."""

    column: str
    criterion: Criterion
    method: FairnessMethod
    label: str
    """The label that mattered; empty: all."""
    num_rows_by_group: dict[str, int]
    """Validation rows of each group."""
    max_accuracy_loss: float | None
    """Points of the rule by which a run was kept; None: one weight was asked for."""
    points: tuple[TradeOffPoint, ...]
    """In order of weight."""
    kept: int
    """The candidate that became the prompt."""


class Outcome(Document):
    """What is found out once all candidates have ended."""

    warnings: tuple[str, ...]
    """What is doubtful about the training as a whole, one sentence each."""
    seeds: SeedSpread | None
    fairness: TradeOff | None = None


class TrainingLog(Document):
    """A run's training in numbers."""

    schema_version: Literal[1] = 1
    prompt: Sha256
    kind: PromptKind
    strategy: str
    loss: str
    optimiser: str
    input_noise: float = 0.0
    """Share of the inputs' tokens that were replaced; 0 in logs from before there was noise."""
    num_workers: int
    num_training_rows: int
    num_validation_rows: int
    trainable_parameters: int
    """Numbers of the prompt that training can move."""
    total_parameters: int
    added_memory_share: float
    """Memory that a candidate's gradient and optimiser state add, as a share of what full fine-tuning's would."""
    base_digest_before: Sha256
    base_digest_after: Sha256
    embedding_rms: float
    numerics: Numerics
    seconds: float
    tokens_per_second: float
    winner: int
    best_step: int
    moved: float | None = None
    """Distance of the prompt to where it started, relative to the start's norm; None in logs that did not measure it."""
    candidates: tuple[CandidateResult, ...]
    measurements: tuple[Measurement, ...]
    seeds: SeedSpread | None
    fairness: TradeOff | None = None
    """Accuracy against the gap between groups, where fairness was asked for."""
    warnings: tuple[str, ...]
    """What went wrong or is doubtful, one sentence each; empty when nothing was noticed."""

    @property
    def headline(self) -> dict[str, float]:
        """The numbers that a person looks for first."""
        best = next(found for found in self.candidates if found.candidate == self.winner)
        accuracy = {} if best.validation_accuracy is None else {"validation_accuracy": best.validation_accuracy}
        return accuracy | {
            "validation_loss": best.validation_loss,
            "best_step": self.best_step,
            "trainable_parameters": self.trainable_parameters,
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
        }
