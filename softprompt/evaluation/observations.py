"""What an evaluation saw: the test rows, what every system answered, and facts about the prompt. Measuring starts from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from softprompt.data.rows import Row
from softprompt.names import TaskType
from softprompt.recipe.evaluation import EvaluationSpec
from softprompt.recipe.gates import Perturbation

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What one system said to some rows, in their order.

    Attributes:
        outputs: Labels, or generated texts.
        probabilities: `[n, labels]`, a probability for each label in the order of `Observations.labels`; None where the system
            gives none (a classical model, a generation).
        target_nats: `[n]`, negative log-likelihood of the right answer; None where it was not computed.
        target_tokens: `[n]`, tokens of the right answer with its end, to which `target_nats` belongs.
    """

    outputs: tuple[str, ...]
    probabilities: Floats | None = None
    target_nats: Floats | None = None
    target_tokens: Floats | None = None

    def at(self, rows: NDArray[np.intp] | Booleans) -> "Answers":
        """The answers to some of the rows."""
        index = np.arange(len(self.outputs))[rows]
        taken = {
            name: None if values is None else values[index]
            for name in ("probabilities", "target_nats", "target_tokens")
            for values in (getattr(self, name),)
        }
        return Answers(tuple(self.outputs[i] for i in index), **taken)


@dataclass(frozen=True)
class Disturbed:
    """The soft prompt's answers to disturbed rows.

    Attributes:
        rows: `[m]`, which test rows were disturbed (all, or those that have a paraphrase).
        answers: Theirs, in that order.
        examples: A few `(clean, disturbed)` inputs, for the report.
    """

    rows: NDArray[np.intp]
    answers: Answers
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PromptFacts:
    """The prompt's own numbers.

    Attributes:
        num_tokens: Places of the context that it takes.
        num_bytes: Size of the prompt file, manifest and tensor.
        finite: Whether every number is.
        norms: Norms of the prompt's vectors, relative to the largest norm among real tokens' (1 is as large as a word gets).
        moved: Distance to the initialiser, relative to its norm; None where the training did not say.
        latency_ms: `[repetitions]`, time that the prompt adds to a request of one row; empty where it was not measured.
    """

    num_tokens: int
    num_bytes: int
    finite: bool
    norms: Floats
    moved: float | None = None
    latency_ms: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Earlier:
    """The soft prompt's answers to the test rows of an earlier dataset."""

    rows: Sequence[Row]
    answers: Answers


@dataclass(frozen=True)
class Observations:
    """Everything that was seen.

    Attributes:
        task: Of the recipe.
        rows: The test rows.
        labels: The labels, sorted; empty for a generation.
        systems: System -> its answers to all test rows. Always has `soft_prompt` and `bare_base`.
        spec: The recipe's evaluation, for rules of format and phrases.
        comparable: System -> `[n]`, rows on which it may be compared; a champion's leaves out rows that it was trained on.
            A system that is not named here may be compared on all.
        disturbed: What became of disturbed inputs.
        leaked: Indices of test rows whose input the training saw.
        facts: The prompt's own numbers.
        earlier: Answers to an earlier dataset's test rows.
        notes: System -> a sentence about it for the report, such as why a champion could not answer.
    """

    task: TaskType
    rows: Sequence[Row]
    labels: tuple[str, ...]
    systems: Mapping[str, Answers]
    spec: EvaluationSpec = field(default_factory=EvaluationSpec)
    comparable: Mapping[str, Booleans] = field(default_factory=dict)
    disturbed: Mapping[Perturbation, Disturbed] = field(default_factory=dict)
    leaked: tuple[int, ...] = ()
    facts: PromptFacts | None = None
    earlier: Earlier | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[str, ...]:
        """The right answers."""
        return tuple(row.target for row in self.rows)

    def only(self, rows: NDArray[np.intp] | Booleans) -> "Observations":
        """The same for some of the rows: targets, systems and which rows are comparable; nothing else that was seen."""
        index = np.arange(len(self.rows))[rows]
        return Observations(
            self.task,
            [self.rows[row] for row in index],
            self.labels,
            {system: answers.at(index) for system, answers in self.systems.items()},
            self.spec,
            {system: mask[index] for system, mask in self.comparable.items()},
        )

    def comparable_rows(self, system: str) -> Booleans:
        """`[n]`, rows on which a system may be compared with the soft prompt."""
        return self.comparable.get(system, np.ones(len(self.rows), dtype=bool))
