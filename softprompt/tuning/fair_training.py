"""One candidate's fairness objective in training: its module, its own optimiser, and their state for a checkpoint."""

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.engine.batches import Example
from softprompt.engine.distributions import answer_distribution, batch_of_all_decisions
from softprompt.engine.fairness import CONDITIONS, Adversary, GapPenalty, cell_sums, largest_gap
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import Prefix
from softprompt.recipe.training import FairnessSpec, TrainingSpec
from softprompt.tuning.groups import LEAST_ROWS
from softprompt.tuning.job import Job
from softprompt.tuning.optimisers import named_groups, optimiser_tensors, restore_optimiser
from softprompt.tuning.workers import Workers

ADVERSARY_LEARNING_RATE = 0.01
"""Of its own Adam, constant: it has to follow the prompt until the end."""


class FairTraining:
    """A fairness objective beside one candidate.

    Args:
        job: Base, task and rows, with groups.
        spec: What is asked for; `weight` is filled in.
        seed: Fixes an adversary's start.
    """

    def __init__(self, job: Job, spec: FairnessSpec, seed: int) -> None:
        assert job.groups is not None, "Job.load reads them where fairness is asked for"
        assert spec.weight is not None, "Recipe.training_of() fills it in"
        label = job.task.labels.index(spec.label) if spec.label else None
        shape = (spec.criterion, len(job.groups.names), len(job.task.labels), label, spec.weight)
        self.objective: GapPenalty | Adversary = GapPenalty(*shape) if spec.method == "gap" else Adversary(*shape, seed)
        self.objective.to(job.base.model.device)
        self._optimiser = None
        if spec.method == "adversary":
            self._optimiser = torch.optim.AdamW(named_groups(self.objective), lr=ADVERSARY_LEARNING_RATE, weight_decay=0.0)

    @classmethod
    def of(cls, job: Job, training: TrainingSpec) -> "FairTraining | None":
        """The objective that a training asks for; None where it asks for none, or gives it no weight."""
        return cls(job, training.fairness, training.seed) if training.fairness and training.fairness.weight else None

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `tensors` gave; nothing: a fresh start."""
        if not tensors:
            return
        self.objective.load_state_dict(_under("objective", tensors))
        if self._optimiser is not None:
            restore_optimiser(self._optimiser, _under("optimiser", tensors))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a killed training needs to go on, copied to the CPU."""
        kept = {f"objective.{name}": value.detach().cpu().clone() for name, value in self.objective.state_dict().items()}
        if self._optimiser is not None:
            kept |= {f"optimiser.{name}": value for name, value in optimiser_tensors(self._optimiser).items()}
        return kept

    def begin(self, rows: Sequence[Example]) -> None:
        """Prepare for a batch: all its rows, of all workers."""
        self.objective.begin(*_answers_and_groups(rows, self._device))

    def loss(self, job: Job, prefix: Prefix, rows: Sequence[Example], denominator: int) -> tuple[Tensor, Tensor]:
        """Some rows' share of the training loss, and of the objective beside it, gradients attached; both scalars."""
        answers, groups = _answers_and_groups(rows, self._device)
        found = log_probabilities(job, prefix, rows)
        loss = torch.nn.functional.nll_loss(found, answers, reduction="sum") / denominator
        return loss, self.objective(found, answers, groups)

    def take_exchanged(self) -> list[Tensor]:
        """What has to be summed over all shards after a batch: what the rows since `begin`, or since the last call, gave."""
        return self.objective.take_exchanged()

    def end(self, summed: Sequence[Tensor]) -> None:
        """Learn from the whole batch; `summed` is what was exchanged."""
        self.objective.end(summed)
        if self._optimiser is not None:
            self._optimiser.step()

    @property
    def _device(self) -> torch.device:
        tensor: Tensor = next(iter(self.objective.state_dict().values()))
        return tensor.device


def log_probabilities(job: Job, prefix: Prefix, rows: Sequence[Example]) -> Tensor:
    """Log-probability of every label, `[B, labels]`, gradients attached."""
    assert job.collator.trie is not None, "the recipe is refused otherwise"
    hidden = job.strategy.hidden(prefix, batch_of_all_decisions(job.collator, rows))
    return answer_distribution(job.head, job.collator.trie, hidden)


@torch.no_grad()
def validation_gap(job: Job, prompt: SoftPrompt, spec: FairnessSpec, workers: Workers) -> float:
    """Largest difference between two groups' shares of decisions on the validation rows, 0 to 1, as `largest_gap` has it.

    Cells with fewer than `LEAST_ROWS` rows are left out.
    """
    assert job.groups is not None
    prefix, num_labels, num_groups = job.strategy.prefix(prompt), len(job.task.labels), len(job.groups.names)
    shards = []
    for batches in job.validation_shards(workers):
        cells = torch.zeros(2, len(CONDITIONS[spec.criterion]), num_groups, num_labels, device=job.base.model.device)
        for rows in batches:
            answers, groups = _answers_and_groups(rows, cells.device)
            said = torch.nn.functional.one_hot(log_probabilities(job, prefix, rows).argmax(dim=1), num_labels).float()
            for place, values in enumerate((said, torch.ones_like(said))):
                cells[place] += cell_sums(spec.criterion, values, answers, groups, num_groups)
        shards.append([cells])
    (summed,) = workers.sum(shards)
    return float(largest_gap(summed[0] / summed[1].clamp_min(1), judged_cells(job, spec, summed[1])))


def judged_cells(job: Job, spec: FairnessSpec, counts: Tensor) -> Tensor:
    """Which rates `[C, G, L]` count: those of enough rows, of the label that matters; `counts` are their rows."""
    known = counts >= LEAST_ROWS
    if not spec.label:
        return known
    return known & (torch.arange(counts.shape[2], device=counts.device) == job.task.labels.index(spec.label))


def _answers_and_groups(rows: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor]:
    found = torch.tensor([(example.answer, example.group) for example in rows], dtype=torch.long, device=device)
    return found.reshape(-1, 2)[:, 0], found.reshape(-1, 2)[:, 1]


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
