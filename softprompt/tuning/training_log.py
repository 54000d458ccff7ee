"""What a run reports about its training: evidence, and the source of the report's curves."""

from typing import Literal

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.recipe import PromptKind


class Measurement(Document):
    """One look at the validation rows."""

    candidate: int
    step: int
    training_loss: float
    """Mean since the last look, nats."""
    validation_loss: float
    """Nats a row (answers) or a token (likelihood)."""
    validation_accuracy: float | None
    """Share of rows whose every decision goes right; None for a generation."""
    learning_rate: float
    seconds: float
    """Since this candidate began."""


class CandidateResult(Document):
    """How one candidate ended."""

    candidate: int
    seed: int
    num_tokens: int
    learning_rate: float
    init: str
    best_step: int
    validation_loss: float
    validation_accuracy: float | None


class TrainingLog(Document):
    """A run's training in numbers."""

    schema_version: Literal[1] = 1
    prompt: Sha256
    kind: PromptKind
    strategy: str
    loss: str
    num_workers: int
    num_training_rows: int
    num_validation_rows: int
    trainable_parameters: int
    total_parameters: int
    base_digest_before: Sha256
    base_digest_after: Sha256
    embedding_rms: float
    numerics: str
    seconds: float
    tokens_per_second: float
    winner: int
    best_step: int
    candidates: tuple[CandidateResult, ...]
    measurements: tuple[Measurement, ...]

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
