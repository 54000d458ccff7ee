"""How a recipe's prompt is tuned."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from softprompt.documents import Document
from softprompt.names import PromptKind, Text
from softprompt.recipe.gates import Criterion
from softprompt.recipe.prompt import InitSpec

Loss = Literal["answers", "likelihood"]
Optimiser = Literal["adamw", "adafactor", "soap", "soap_whitened"]
ValidationMetric = Literal["accuracy", "loss"]
FairnessMethod = Literal["gap", "adversary"]
Count = Annotated[int, Field(ge=1, le=1024)]

LEARNING_RATES: dict[PromptKind, float] = {"shallow": 1.0, "deep": 0.12}
OPTIMISERS: dict[PromptKind, Optimiser] = {"shallow": "adamw", "deep": "soap_whitened"}
"""What was best on Banking77 (docs/tuning-log.md)."""
INPUT_NOISE = 0.1
READINGS_BY_HEART = 5
"""A row that is read so often can be learned by heart by a deep prompt; a shallow one on a small base learns too slowly for that,
and a generation may copy what it reads (docs/tuning-log.md)."""
FAIRNESS_WEIGHTS: dict[FairnessMethod, float] = {"gap": 3.0, "adversary": 1.0}
"""What halved the gap on tickets with a planted one (docs/fairness.md)."""


def _ascending(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError(f"the smaller number comes first: [{pair[1]}, {pair[0]}]")
    return pair


class Candidate(Document):
    """A variation of the recipe that competes with the others on validation; what it leaves out is as the recipe says."""

    seed: int | None = None
    """Seed of initialisation and row order."""
    num_tokens: int | None = Field(default=None, ge=1, le=1024)
    """Prompt tokens `P`."""
    learning_rate: float | None = Field(default=None, gt=0)
    """As in `training`."""
    init: InitSpec | None = None
    """Where training starts."""
    fairness_weight: float | None = Field(default=None, ge=0)
    """As `training.fairness.weight`."""


class FairnessSpec(Document):
    """An objective beside the loss that pulls the answers to subgroups together (docs/fairness.md)."""

    column: Text
    """The subgroup column; needed for training rows only, never to serve."""
    criterion: Criterion = "demographic_parity"
    """Which rates should be alike, as in the gate `fairness`: shares of rows that are given a label (`demographic_parity`), these
    among the rows that deserve it (`equal_opportunity`), or these and among the rows that do not (`equalised_odds`)."""
    method: FairnessMethod = "gap"
    """`gap`: the squared difference between groups' mean probabilities. `adversary`: a network that tells the group from the
    answer is trained beside the prompt, which learns to deceive it (Zhang et al. 2022)."""
    weight: float | None = Field(default=None, ge=0)
    """Of the objective beside the loss; 0: train without it, and measure. Default: 3 for a gap, 1 for an adversary."""
    label: str = ""
    """The label that matters (the favourable one). Empty: every label."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(default=(), max_length=16)
    """Train one candidate for each of these weights, draw accuracy against gap, and keep one by `max_accuracy_loss`. Such as
    `[0, 1, 3, 10]`; with 0 among them the page shows what fairness costs."""
    max_accuracy_loss: float = Field(default=2.0, ge=0, le=100)
    """Of the candidates within so many points of the best validation accuracy, the one with the smallest gap is kept."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if len(set(self.weights)) < len(self.weights):
            raise ValueError("weights: the same weight stands there twice")
        return self


class TrainingSpec(Document):
    """How the prompt is tuned."""

    steps: int = Field(default=300, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=32, ge=1)
    """Rows a step, over all workers."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows computed at once, a worker, to save memory; gradients are accumulated. Default: all of its rows."""
    optimiser: Optimiser | None = None
    """`adamw` (Loshchilov & Hutter 2019), `adafactor` (Shazeer & Stern 2018), which keeps less state, `soap` (Vyas et al.
    2024), Adam in the basis of each head's gradients, or `soap_whitened`, which moves keys further along directions in which
    queries vary little, and leaves out what the batch at hand disagrees with: better on a base that knows the language, no better
    on a tiny one (docs/tuning-log.md). Default: `soap_whitened` for a deep prompt, `adamw` for a shallow one."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate, relative to the size of the vectors that are trained: 0.1 moves each number by about a tenth of what
    is usual there, a step. Default: 1 for a shallow prompt; 0.12 for the keys of a deep one, whose values move three times
    as far."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay, relative to the learning rate."""
    max_gradient_norm: float | None = Field(default=None, gt=0)
    """Longer gradients are cut to this norm. Default: never."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the learning rate rises from 0. Default: a tenth of the steps."""
    input_noise: float | None = Field(default=None, ge=0, lt=1)
    """Share of an input's tokens that become tokens of the batch's rows each time a row is read (Xie et al. 2017); the template's
    own beginning and end stay. A long training then learns rows less by heart. Default: 0.1 where a deep prompt is trained for a
    classification and every row is read five times or more, else 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """After the warm-up: stay, or fall to zero along a cosine."""
    loss: Loss | None = None
    """`answers`: likelihood among the labels, under their trie. `likelihood`: of the text. Default: follows the task."""
    validate_every_steps: int = Field(default=50, ge=1)
    """How often validation rows are scored; the best checkpoint wins."""
    validation_metric: ValidationMetric | None = None
    """What `best` means: `accuracy` (ties go to the lower loss) or `loss`. Default: accuracy where answers are a closed set."""
    patience: int | None = Field(default=None, ge=1)
    """Stop a candidate after so many looks at validation without a better one. Default: never."""
    num_workers: Count | Annotated[tuple[Count, Count], AfterValidator(_ascending)] = 1
    """Ray Train workers; each holds the frozen base, only the prompt's gradient is exchanged. `[min, max]`: as many as fit, and
    the same prompt however many take part."""
    activation_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time. Causal base models only."""
    seed: int = 0
    """Seed of initialisation and row order."""
    candidates: tuple[Candidate, ...] = Field(default=(), max_length=64)
    """Variations to try over the same frozen base; the best on validation wins. Empty: just the recipe itself."""
    halving: bool = True
    """Drop the worse half of the candidates at a half of the steps, at a quarter before, and so on until all take part."""
    seeds: int = Field(default=1, ge=1, le=32)
    """Train the best setting with so many seeds in all, report the spread, keep the best on validation."""
    fairness: FairnessSpec | None = None
    """Pull the answers to subgroups together. Default: no."""

    @property
    def variations(self) -> tuple[Candidate, ...]:
        """What is trained: the candidates, or one for each weight of fairness; the recipe itself where it names neither."""
        weights = self.fairness.weights if self.fairness else ()
        return self.candidates or tuple(Candidate(fairness_weight=weight) for weight in weights) or (Candidate(),)

    @property
    def num_shards(self) -> int:
        """Into how many shards a batch is cut: as many as there can be workers where their number may change; 0: one a worker."""
        return 0 if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def drops_candidates(self) -> bool:
        """Whether the worse ones are given up early; a trade-off curve needs them all."""
        return self.halving and not (self.fairness and self.fairness.weights)

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})")
        return self
