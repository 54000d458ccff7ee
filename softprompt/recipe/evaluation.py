"""What a recipe's prompt is compared with, and how."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from softprompt.documents import Document
from softprompt.names import TaskType, Text
from softprompt.recipe.gates import METRICS_OF_TASK, Metric, Perturbation, System


class FormatSpec(Document):
    """What a generated text has to look like; every rule that is given must hold."""

    regex: str = ""
    """The whole text matches this regular expression (Python's `re`)."""
    json_schema: dict[str, JsonValue] | None = None
    """The text is JSON that this JSON Schema accepts."""

    @model_validator(mode="after")
    def _check_regex(self) -> Self:
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"regex: {error}") from None
        return self


class SamplingSpec(Document):
    """How generated texts are drawn. Greedy by default."""

    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    """0: the most likely token each time (greedy)."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Draw from the most likely tokens that hold this share of the probability (nucleus sampling, Holtzman 2020)."""
    seed: int = 0
    """Of the draws: the same seed gives the same texts, whatever rows stand beside a row."""


class EvaluationSpec(Document):
    """What the prompt is compared with, and how."""

    instruction: str = ""
    """Template of a hand-written instruction for the bare base, the prompt engineering that a soft prompt replaces."""
    instructions: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Text] = Field(default_factory=dict)
    """More of them, by name; each is the system `instruction_NAME`."""
    few_shot: int = Field(default=0, ge=0, le=64)
    """Training rows with their answers in front of the instruction (of the task's template if there is none): the system
    `few_shot`."""
    train: tuple[Literal["lora", "full_fine_tuning"], ...] = ()
    """Train these on the same rows for as many steps, and compare: the systems `lora` and `full_fine_tuning`."""
    earlier: str = ""
    """An earlier dataset artifact (a folder or `s3://` prefix), such as last month's: the prompt answers its test rows too."""
    perturbations: tuple[Perturbation, ...] = ()
    """Disturbances to measure besides those that gates name."""
    paraphrases: str = ""
    """JSONL with `id` of a test row and a paraphrase in the template's columns, for the perturbation `paraphrases`."""
    format: FormatSpec = FormatSpec()
    """Rules behind the metric `format_valid` (generation only)."""
    required_phrases: tuple[Text, ...] = ()
    """Each must stand in a generated text, upper and lower case alike: the metric `phrases_kept`."""
    forbidden_phrases: tuple[Text, ...] = ()
    """None may stand in it."""
    sampling: SamplingSpec = SamplingSpec()
    """How texts are generated."""
    engine: Literal["local", "ray"] = "local"
    """Where rows are answered: in this process, or by Ray Data over a cluster. The answers are the same."""
    batch_size: int = Field(default=64, ge=1)
    """Rows scored at once."""
    bootstrap_samples: int = Field(default=2000, ge=200, le=100_000)
    """Resamples behind each bootstrap interval."""

    def templates(self) -> dict[System, str]:
        """The hand-written instructions by the name of their system."""
        first = {"instruction": self.instruction} if self.instruction else {}
        return first | {f"instruction_{name}": template for name, template in self.instructions.items()}

    def metrics(self, task: TaskType) -> tuple[Metric, ...]:
        """What is measured: the task's metrics, without those that nothing was declared for."""
        silent = {"format_valid"} if not self.format.regex and self.format.json_schema is None else set()
        silent |= {"phrases_kept"} if not self.required_phrases and not self.forbidden_phrases else set()
        return tuple(metric for metric in METRICS_OF_TASK[task] if metric not in silent)
