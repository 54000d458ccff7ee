"""Gates as a recipe declares them: what is measured on the test rows, and the line that it must keep.

Every kind of gate is one class. `softprompt.evaluation.gates` applies them.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from softprompt.documents import Document
from softprompt.names import TaskType

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "ece",
    "brier",
    "exact_match",
    "token_f1",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "bleu",
    "chrf",
    "perplexity",
    "length_ratio",
    "format_valid",
    "phrases_kept",
]
Perturbation = Literal[
    "typos", "upper_case", "lower_case", "whitespace", "punctuation", "prefix", "suffix", "long", "empty", "paraphrases"
]
Criterion = Literal["demographic_parity", "equalised_odds", "equal_opportunity"]
Severity = Literal["block", "warn"]

METRICS_OF_TASK: dict[TaskType, tuple[Metric, ...]] = {
    "classification": ("accuracy", "macro_f1", "balanced_accuracy", "macro_precision", "macro_recall", "ece", "brier"),
    "generation": (
        "exact_match",
        "rouge_l",
        "token_f1",
        "rouge_1",
        "rouge_2",
        "bleu",
        "chrf",
        "perplexity",
        "length_ratio",
        "format_valid",
        "phrases_kept",
    ),
}
"""What is measured for a task, the metric that people look at first in front."""
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"ece", "brier", "perplexity"})
OF_PROBABILITIES: frozenset[Metric] = frozenset({"ece", "brier", "perplexity"})
"""Metrics that need probabilities; the classical baseline and trained models' figures have none here."""
UNBOUNDED: frozenset[Metric] = frozenset({"perplexity", "length_ratio"})
"""Metrics that may lie above 1."""

System = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""Who answers: `soft_prompt`, `bare_base`, `instruction`, `instruction_NAME`, `few_shot`, `classical`, `champion`, `lora`,
`full_fine_tuning`."""
Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class _Gate(Document):
    """What every gate says."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the two-sided interval."""
    severity: Severity = "block"
    """`block`: the verdict depends on it. `warn`: it is only reported."""

    def _part(self, *words: object) -> str:
        """Words as one name that MLflow and KFP take."""
        return re.sub(r"[^\w.-]", "_", "_".join(str(word) for word in words if word not in ("", None)))


class MetricGate(_Gate):
    """A metric on the test rows: above a floor, below a ceiling, better than a baseline, or not worse than one."""

    kind: Literal["metric"] = "metric"
    metric: Metric
    """For a classification `accuracy`, `macro_f1`, ...; for a generation `exact_match`, `rouge_l`, ... (`docs/evaluation.md`)."""
    slice: dict[str, str] = Field(default_factory=dict)
    """Only rows with these values in these subgroup columns."""
    at_least: float | None = Field(default=None, ge=0.0)
    """The interval must lie wholly at or above this."""
    at_most: float | None = Field(default=None, ge=0.0)
    """The interval must lie wholly at or below this."""
    better_than: System | None = None
    """The interval of the paired difference to this baseline must lie wholly on the better side of `by`."""
    by: float = Field(default=0.0, ge=0.0)
    """Margin of `better_than`."""
    not_worse_than: System | None = None
    """The interval of the paired difference to this baseline must lie wholly on the better side of minus `margin`."""
    margin: float = Field(default=0.0, ge=0.0)
    """How much worse is not worse (the non-inferiority margin)."""

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        rules = [rule for rule in ("at_least", "at_most", "better_than", "not_worse_than") if getattr(self, rule) is not None]
        if len(rules) != 1:
            raise ValueError("a gate has exactly one of at_least, at_most, better_than and not_worse_than")
        for name, owner in (("by", "better_than"), ("margin", "not_worse_than")):
            if getattr(self, name) and rules != [owner]:
                raise ValueError(f"{name}: belongs to {owner}")
        limit = self.at_least if self.at_least is not None else self.at_most
        if limit is not None and limit > 1 and self.metric not in UNBOUNDED:
            raise ValueError(f"{rules[0]}: {self.metric} lies between 0 and 1, this says {limit:g}")
        if self.not_worse_than is not None and not self.margin:
            raise ValueError("not_worse_than: give the margin; nothing can prove that two systems are exactly equal")
        return self

    @property
    def baseline(self) -> str:
        """The system that it compares with; empty: none."""
        return self.better_than or self.not_worse_than or ""

    @property
    def name(self) -> str:
        """A readable name, such as `accuracy_at_least_0.8`."""
        slices = [f"{column}_{value}" for column, value in sorted(self.slice.items())]
        where = ("in", *slices) if slices else ()
        if self.better_than:
            return self._part(self.metric, *where, "better_than", self.better_than, *(("by", f"{self.by:g}") if self.by else ()))
        if self.not_worse_than:
            return self._part(self.metric, *where, "not_worse_than", self.not_worse_than, "margin", f"{self.margin:g}")
        if self.at_least is not None:
            return self._part(self.metric, *where, "at_least", f"{self.at_least:g}")
        return self._part(self.metric, *where, "at_most", f"{self.at_most:g}")


class SlicesGate(_Gate):
    """The same metric in every slice of the rows: a floor for each, or a limit to the gap between them, or both."""

    kind: Literal["slices"]
    metric: Metric = "accuracy"
    """What is measured in each slice."""
    columns: Columns
    """Subgroup columns; each value of each is a slice."""
    intersections: bool = False
    """Slices are the combinations of all columns' values instead."""
    at_least: float | None = Field(default=None, ge=0.0)
    """Floor of every slice."""
    gap_at_most: float | None = Field(default=None, ge=0.0)
    """Limit to the difference between the best and the worst slice of a column."""
    min_rows: int = Field(default=30, ge=2)
    """Slices with fewer rows are listed and not judged."""

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        if (self.at_least is None) == (self.gap_at_most is None):
            raise ValueError("a slices gate has exactly one of at_least and gap_at_most; two rules are two gates")
        if self.at_least is not None and self.metric in LOWER_IS_BETTER:
            raise ValueError(f"at_least: {self.metric} is better where it is lower; use gap_at_most, or a gate a slice")
        limit = self.at_least if self.at_least is not None else self.gap_at_most
        if limit is not None and limit > 1 and self.metric not in UNBOUNDED:
            raise ValueError(f"{self.metric} lies between 0 and 1, this says {limit:g}")
        return self

    @property
    def name(self) -> str:
        """A readable name."""
        rule = ("at_least", f"{self.at_least:g}") if self.at_least is not None else ("gap_at_most", f"{self.gap_at_most:g}")
        return self._part("slices", *self.columns, *(("together",) if self.intersections else ()), self.metric, *rule)


class FairnessGate(_Gate):
    """How differently subgroups are treated (Hardt 2016), classification only."""

    kind: Literal["fairness"]
    criterion: Criterion
    """`demographic_parity`: shares of rows that are given a label. `equal_opportunity`: these among the rows that deserve it.
    `equalised_odds`: these, and among the rows that do not."""
    columns: Columns
    """Subgroup columns."""
    intersections: bool = False
    """Groups are the combinations of all columns' values instead."""
    label: str = ""
    """The label that matters (the favourable one). Empty: every label, the worst one counts."""
    at_most: float = Field(ge=0.0, le=1.0)
    """Largest difference between two groups."""
    min_rows: int = Field(default=30, ge=2)
    """Groups with fewer rows (for a rate: with fewer rows behind it) are listed and not judged."""

    @property
    def name(self) -> str:
        """A readable name."""
        together = ("together",) if self.intersections else ()
        return self._part(self.criterion, *self.columns, *together, self.label, "at_most", f"{self.at_most:g}")


class RobustnessGate(_Gate):
    """How much is lost when the input is disturbed, paired with the clean input."""

    kind: Literal["robustness"]
    perturbation: Perturbation
    """What is done to the input (`docs/evaluation.md` describes each)."""
    metric: Metric | None = None
    """Default: the task's first."""
    drop_at_most: float = Field(ge=0.0, le=1.0)
    """Largest loss."""

    @property
    def name(self) -> str:
        """A readable name."""
        return self._part("robustness", self.perturbation, self.metric, "drop_at_most", f"{self.drop_at_most:g}")


class MustPassGate(_Gate):
    """Every row of `dataset.must_pass_column` is answered rightly."""

    kind: Literal["must_pass"]

    @property
    def name(self) -> str:
        """A readable name."""
        return "must_pass"


class PromptHealthGate(_Gate):
    """The numbers of the prompt itself: finite, not grown out of all proportion, and moved from where they started."""

    kind: Literal["prompt_health"]
    norm_at_most: float = Field(default=100.0, gt=0.0)
    """Largest norm of a prompt vector, relative to the largest row of the embedding table (deep: to the keys and values of real
    tokens)."""
    moved_at_least: float = Field(default=1e-3, ge=0.0)
    """Least distance to the initialiser, relative to its norm."""

    @property
    def name(self) -> str:
        """A readable name."""
        return "prompt_health"


class CostGate(_Gate):
    """What the prompt costs each request."""

    kind: Literal["cost"]
    tokens_at_most: int | None = Field(default=None, ge=1)
    """Places of the context that it takes."""
    bytes_at_most: int | None = Field(default=None, ge=1)
    """Size of the prompt file."""
    latency_ms_at_most: float | None = Field(default=None, gt=0.0)
    """Time that it adds to a request of one row, median, on the machine that evaluates."""

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        if sum(limit is not None for limit in (self.tokens_at_most, self.bytes_at_most, self.latency_ms_at_most)) != 1:
            raise ValueError("a cost gate has exactly one of tokens_at_most, bytes_at_most and latency_ms_at_most")
        return self

    @property
    def name(self) -> str:
        """A readable name."""
        for what in ("tokens_at_most", "bytes_at_most", "latency_ms_at_most"):
            if getattr(self, what) is not None:
                return self._part("cost", what, f"{getattr(self, what):g}")
        raise AssertionError("one is given")


class LeakageGate(_Gate):
    """Test rows whose input the training saw."""

    kind: Literal["leakage"]
    rows_at_most: int = Field(default=0, ge=0)
    """How many are tolerated."""

    @property
    def name(self) -> str:
        """A readable name."""
        return self._part("leakage", "rows_at_most", self.rows_at_most)


def _kind(value: Any) -> str:
    """A gate that names no kind is one of a metric."""
    return str(value.get("kind", "metric") if isinstance(value, dict) else value.kind)


GateSpec = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[SlicesGate, Tag("slices")]
    | Annotated[FairnessGate, Tag("fairness")]
    | Annotated[RobustnessGate, Tag("robustness")]
    | Annotated[MustPassGate, Tag("must_pass")]
    | Annotated[PromptHealthGate, Tag("prompt_health")]
    | Annotated[CostGate, Tag("cost")]
    | Annotated[LeakageGate, Tag("leakage")],
    Discriminator(_kind),
]
