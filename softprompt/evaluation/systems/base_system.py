"""A system that is the frozen base behind something: a prompt, examples, a hand-written instruction, or nothing at all."""

from collections.abc import Sequence
from dataclasses import dataclass

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.data.rows import Row
from softprompt.engine.fit import fitting_prompt
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.recipe.evaluation import EvaluationSpec


@dataclass(frozen=True)
class BaseSystem:
    """How a base is asked.

    Attributes:
        base: The base model.
        task: Template and answers.
        prompt: What stands before every row; None: nothing.
        num_leading: Special tokens that begin a row; they stand in `prompt` already and are left out of the rows.
    """

    base: FrozenBase
    task: EncodedTask
    prompt: SoftPrompt | None = None
    num_leading: int = 0

    @classmethod
    def of_file(cls, base: FrozenBase, file: PromptFile) -> "BaseSystem":
        """The base behind the prompt of a file.

        Raises:
            FingerprintMismatch: It was trained on another base.
            VerificationFailed: Its shape or its numbers cannot come from this base.
        """
        return cls(base, EncodedTask.of_manifest(base.text, file.manifest), fitting_prompt(base, file))

    def input_ids(self, rows: Sequence[Row]) -> list[list[int]]:
        """Token ids of each row in the template."""
        return [ids[self.num_leading :] for ids in self.task.encoder.all_input_ids([row.inputs for row in rows])]

    def target_ids(self, rows: Sequence[Row]) -> list[list[int]]:
        """Token ids of each row's right answer as a text, end token included."""
        encoder = self.task.encoder
        return [[*encoder.answer_ids(encoder.free_answer(row.target)), encoder.end_token] for row in rows]

    def predictor(self, spec: EvaluationSpec, max_new_tokens: int) -> Predictor:
        """What answers."""
        return Predictor(
            self.base,
            self.task,
            self.prompt,
            batch_size=spec.batch_size,
            max_new_tokens=max_new_tokens,
            sampling=spec.sampling,
        )
