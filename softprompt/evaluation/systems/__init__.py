"""Everything that answers the test rows: the soft prompt, and what it is compared with.

base_system.py  the frozen base behind a prompt, examples, an instruction, or nothing
answering.py    rows -> answers, in this process or over Ray
few_shot.py     examples in front of every row
champion.py     what the channel serves now, on rows that it has not seen; of another base model by its evidence
trained.py      LoRA and full fine-tuning of a copy of the base
disturbed.py    the soft prompt on disturbed inputs
earlier.py      an earlier dataset's test rows
leakage.py      test rows that training saw
facts.py        the prompt's own numbers
latency.py      the time that it adds to a request
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.data.dataset import read_baseline, read_part
from softprompt.data.rows import Row
from softprompt.engine.encoding import CONVERSATION_TEMPLATE
from softprompt.engine.task import EncodedTask
from softprompt.errors import UnsupportedBaseModel
from softprompt.evaluation.observations import Answers, Booleans, Earlier, Observations
from softprompt.evaluation.systems.answering import Answering
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.evaluation.systems.champion import find_champion, under_labels
from softprompt.evaluation.systems.disturbed import disturbed_answers
from softprompt.evaluation.systems.earlier import earlier_rows
from softprompt.evaluation.systems.facts import facts_of
from softprompt.evaluation.systems.few_shot import few_shot
from softprompt.evaluation.systems.leakage import leaked_rows
from softprompt.evaluation.systems.trained import trained_system
from softprompt.progress import tell
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import TrainingLog

STEP = "evaluate_prompt"
INDISPENSABLE = ("soft_prompt", "bare_base")


def observe(
    resolved: ResolvedRecipe, base: FrozenBase, file: PromptFile, dataset: Path, log: TrainingLog | None = None
) -> Observations:
    """Answer the test rows with the soft prompt and with everything that the recipe compares it with.

    Args:
        resolved: The recipe.
        base: The base that the prompt was trained on.
        file: The prompt.
        dataset: Dataset artifact.
        log: Of the training; None: how far the prompt moved is not known.

    Raises:
        UnsupportedBaseModel: A row is longer than the context.
        NotANumber: The base gives NaN.
        VerificationFailed, StoreUnavailable, DatasetRefused: The recipe's earlier dataset cannot be had or asked.
    """
    rows = read_part(dataset, "test")
    bench = _Bench(resolved, base, file, dataset, rows)
    for system, how in bench.base_systems():
        bench.ask(system, how)
    bench.ask_champion()
    bench.ask_trained()
    bench.add_classical()
    soft = BaseSystem.of_file(base, file)
    disturbed = dict(disturbed_answers(bench.answering, soft, rows, dataset, bench.answer_room()))
    return Observations(
        resolved.recipe.task.type,
        rows,
        soft.task.labels,
        bench.systems,
        resolved.recipe.evaluation,
        comparable=bench.comparable,
        disturbed=disturbed,
        leaked=leaked_rows(rows, dataset),
        facts=facts_of(soft, file, rows, log),
        earlier=bench.earlier(soft),
        notes=bench.notes,
    )


@dataclass
class _Bench:
    """Systems one after the other before the same rows."""

    resolved: ResolvedRecipe
    base: FrozenBase
    file: PromptFile
    dataset: Path
    rows: list[Row]
    systems: dict[str, Answers] = field(default_factory=dict)
    comparable: dict[str, Booleans] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def answering(self) -> Answering:
        return Answering(self.resolved, self.file.manifest.max_new_tokens)

    def base_systems(self) -> Iterator[tuple[str, BaseSystem]]:
        """The frozen base behind the prompt, behind nothing, and behind what people write by hand."""
        soft, spec = BaseSystem.of_file(self.base, self.file), self.resolved.recipe.evaluation
        yield "soft_prompt", soft
        yield "bare_base", BaseSystem(self.base, soft.task)
        for system, template in spec.templates().items():
            yield system, BaseSystem(self.base, EncodedTask.create(self.base.text, template, self.file.manifest.answers))
        if spec.few_shot:
            yield from self._few_shot()

    def _few_shot(self) -> Iterator[tuple[str, BaseSystem]]:
        spec, manifest = self.resolved.recipe.evaluation, self.file.manifest
        template = spec.instruction or manifest.template
        if template == CONVERSATION_TEMPLATE:
            self.notes["few_shot"] = "Not compared: a conversation has its own form, examples do not go in front of it."
            return
        room = self.answer_room()
        system, note = few_shot(self.base, template, manifest.answers, self.dataset, self.rows, spec.few_shot, room)
        self.notes["few_shot"] = note
        if system:
            yield "few_shot", system

    def answer_room(self) -> int:
        """Most tokens of an answer: the longest label's, the longest right text's or as many as may be generated."""
        encoder, manifest = EncodedTask.of_manifest(self.base.text, self.file.manifest).encoder, self.file.manifest
        texts = [answer.text for answer in manifest.answers] or [encoder.free_answer(row.target) for row in self.rows]
        longest = max(len(encoder.answer_ids(text)) for text in texts) + 1
        return longest if manifest.answers else max(longest, manifest.max_new_tokens)

    def ask(self, name: str, system: BaseSystem, *, here: bool = False) -> None:
        """Let a system answer; a baseline whose rows do not fit into the context is left out with a note."""
        try:
            self.systems[name] = self.answering(system, self.rows, here=here)
        except UnsupportedBaseModel as error:
            if name in INDISPENSABLE:
                raise
            self.notes[name] = f"Not compared: {' '.join(str(error).split())}"
            return
        tell(STEP, f"{name}: {len(self.rows)} test rows answered")

    def ask_champion(self) -> None:
        """Let the champion answer, if there is one that can."""
        if self.resolved.champion_file is None:
            return
        found = find_champion(self.resolved.champion_file, self.base, self.resolved.recipe, self.rows)
        if found.note:
            self.notes["champion"] = found.note
        if found.answers:
            self.systems["champion"] = found.answers
        if found.system is None:
            return
        self.ask("champion", found.system)
        self.comparable["champion"] = found.comparable
        if "champion" in self.systems:
            labels = tuple(answer.label for answer in self.file.manifest.answers)
            self.systems["champion"] = under_labels(self.systems["champion"], found.system.task.labels, labels)

    def ask_trained(self) -> None:
        """Train what the recipe wants to see trained besides, and let it answer."""
        for method in self.resolved.recipe.evaluation.train:
            system, self.notes[method] = trained_system(method, self.resolved, self.dataset)
            self.ask(method, system, here=True)

    def add_classical(self) -> None:
        """The classical baseline's answers, which validation has written beside the rows."""
        classical = read_baseline(self.dataset, "test")
        if classical:
            self.systems["classical"] = Answers(tuple(classical))

    def earlier(self, soft: BaseSystem) -> Earlier | None:
        """The soft prompt on an earlier dataset, if the recipe names one."""
        if self.resolved.earlier is None:
            return None
        rows = earlier_rows(self.resolved.earlier, self.resolved.recipe.input_columns)
        return Earlier(rows, self.answering(soft, rows))
