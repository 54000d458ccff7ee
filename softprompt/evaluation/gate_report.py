"""The evaluation's report as a document: every number, its interval, its threshold, and the rows behind it by id."""

from typing import ClassVar, Literal

from pydantic import Field

from softprompt.artifact import Sha256
from softprompt.documents import Document
from softprompt.names import TaskType
from softprompt.numerics import Numerics
from softprompt.recipe.gates import Metric, Perturbation, Severity

Verdict = Literal["passed", "rejected", "undecided"]

SYSTEM_TITLES: dict[str, str] = {
    "soft_prompt": "soft prompt",
    "bare_base": "bare base",
    "instruction": "hand-written instruction",
    "few_shot": "few-shot examples",
    "classical": "TF-IDF and logistic regression",
    "champion": "champion",
    "lora": "LoRA",
    "full_fine_tuning": "full fine-tuning",
}
METRIC_TITLES: dict[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "brier": "Brier score",
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "perplexity": "perplexity",
    "length_ratio": "length ratio",
    "format_valid": "valid format",
    "phrases_kept": "phrases kept",
}


def system_title(system: str) -> str:
    """What people call a system."""
    return SYSTEM_TITLES.get(system) or f"instruction “{system.removeprefix('instruction_').replace('_', ' ')}”"


class Measured(Document):
    """One metric of one system on the test rows."""

    system: str
    metric: Metric
    estimate: float
    low: float
    high: float
    confidence: float


class GatePart(Document):
    """One of several measurements behind a gate: a slice, a pair of groups, a label."""

    name: str
    estimate: float | None
    """None where it has too few rows to say anything; `low` and `high` too."""
    low: float | None
    high: float | None
    num_rows: int
    judged: bool = True
    """Whether the gate looks at it; not where it has too few rows."""


class GateResult(Document):
    """How one gate ended."""

    name: str
    kind: str
    metric: str
    """Empty where the gate is not about one."""
    rule: str
    """In words."""
    severity: Severity
    confidence: float
    estimate: float | None
    """Of the metric, of its difference to the baseline, of the worst part. None: there was nothing to measure, the note says
    why; `low` and `high` too."""
    low: float | None
    high: float | None
    """Equal to `low` where a fact decides and no sample."""
    threshold: float
    status: Verdict
    rows_to_decide: int | None = None
    """About how many test rows would decide an undecided gate; None where it is decided, or more rows would not help."""
    note: str = ""
    """What a reviewer should know about this number."""
    parts: tuple[GatePart, ...] = ()
    row_ids: tuple[str, ...] = ()
    """The rows behind it, the first of them: those of the slice that failed, those that must pass and do not."""

    @property
    def measurement(self) -> str:
        """The number with its interval, as people read it."""
        if self.estimate is None:
            return "nothing"
        if self.low == self.high:
            return f"{round(self.estimate, 3):,.10g}"
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Comparison(Document):
    """An exploratory comparison of the soft prompt with a baseline on the same rows; no gate asked for it."""

    baseline: str
    metric: Metric
    difference: float
    """Positive: the soft prompt is better, also where lower numbers are."""
    low: float
    high: float
    confidence: float
    p_value: float
    """Of the paired test that both are equal: mid-p McNemar for proportions, bootstrap for the rest."""
    p_holm: float
    """Corrected over all comparisons of this report (Holm 1979)."""
    num_rows: int
    note: str = ""

    @property
    def noise(self) -> bool:
        """Whether these rows cannot tell the two apart."""
        return self.p_holm > 1 - self.confidence


class LabelScores(Document):
    """Per-label scores of the soft prompt."""

    label: str
    precision: float
    recall: float
    f1: float
    num_rows: int


class CalibrationBin(Document):
    """Rows whose confidence lies between two bounds."""

    low: float
    high: float
    confidence: float
    """Mean."""
    accuracy: float
    num_rows: int


class Abstention(Document):
    """What is left, and how good it is, where rows below a confidence go to a person."""

    threshold: float
    coverage: float
    """Share of rows that are answered."""
    accuracy: float
    """Of the rows that are answered."""


class SliceScores(Document):
    """The soft prompt on the rows of one slice, with the task's first metric."""

    column: str
    value: str
    num_rows: int
    estimate: float
    low: float
    high: float


class DisturbanceScores(Document):
    """The soft prompt on disturbed inputs beside the same rows undisturbed, with the task's first metric."""

    perturbation: Perturbation
    num_rows: int
    clean: float
    disturbed: float
    drop: float
    """Clean less disturbed."""
    low: float
    high: float
    example: tuple[str, str] | None = None
    """An input before and after."""


class Look(Document):
    """The tokens of the vocabulary that are nearest to a prompt vector."""

    vector: int
    """Counted from 1."""
    tokens: tuple[str, ...]
    cosines: tuple[float, ...]
    norm: float


class Wear(Document):
    """How often these test rows have judged prompts of this name."""

    judged_before: int
    """Prompts of this name that these rows judged before this one, rejected ones too; each choice that was made by them makes
    the rows a little less a test."""


class RowOutcome(Document):
    """A row behind the numbers, by id."""

    id: str
    target: str
    outputs: dict[str, str]
    """System -> output."""
    confidence: float
    """Of the soft prompt's label; 0 for a generation."""
    input: str = ""
    """First 16 digits of the input's sha256: the same in two reports where the same question was asked."""


class GateReport(Document):
    """Everything that the evaluation measured, and its verdict."""

    max_bytes: ClassVar[int] = 256 * 1024 * 1024

    schema_version: Literal[1] = 1
    prompt: Sha256
    dataset: Sha256
    base_uri: str
    base_fingerprint: Sha256
    numerics: Numerics
    """Number format of the base that these measurements hold for."""
    task: TaskType
    evaluated: str
    """When, RFC 3339 in UTC."""
    verdict: Verdict
    reason: str
    """The verdict in one sentence."""
    num_test_rows: int
    test_rows: str = ""
    """sha256 over the test rows' inputs and right answers, whatever their order: the same test."""
    gates: tuple[GateResult, ...]
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...] = ()
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: true labels; columns: the soft prompt's."""
    by_label: tuple[LabelScores, ...]
    calibration: tuple[CalibrationBin, ...] = ()
    abstention: tuple[Abstention, ...] = ()
    slices: tuple[SliceScores, ...] = ()
    disturbances: tuple[DisturbanceScores, ...] = ()
    looks: tuple[Look, ...] = ()
    """Empty where the base's vocabulary cannot be compared, or is too large to do it here."""
    looks_in: str = ""
    """The space of that comparison."""
    champion: str = ""
    """Digest of the prompt that the channel served at the time; empty: none."""
    notes: dict[str, str] = Field(default_factory=dict)
    """System -> a sentence about it."""
    wear: Wear | None = None
    """None where no registry was asked."""
    rows: tuple[RowOutcome, ...]

    def value(self, system: str, metric: Metric) -> Measured | None:
        """One measurement, if it was made."""
        return next((found for found in self.measured if (found.system, found.metric) == (system, metric)), None)

    @property
    def systems(self) -> list[str]:
        """Who answered, the soft prompt first."""
        return list(dict.fromkeys(found.system for found in self.measured))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What was measured of the soft prompt, in the report's order."""
        return tuple(found.metric for found in self.measured if found.system == "soft_prompt")


def rejection_text(report: GateReport) -> str:
    """Markdown that says which gates a prompt failed."""
    failed = [gate for gate in report.gates if gate.status != "passed"]
    lines = [f"- **{gate.status}** ({gate.severity}): {explained(gate)}" for gate in failed]
    return "\n".join([f"# {report.verdict.capitalize()}: nothing was published", "", report.reason, "", *lines, ""])


def explained(gate: GateResult) -> str:
    """A gate's rule, what was measured, and what would decide it."""
    shown = f"{gate.rule}, measured {gate.measurement}"
    shown += f" ({gate.note})" if gate.note else ""
    return shown + (f", about {gate.rows_to_decide} test rows would decide it" if gate.rows_to_decide else "")
