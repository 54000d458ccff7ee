"""Everything a prompt is trained with: the frozen base, the rows in tokens, and the recipe's wishes for one candidate."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase, load_base_model
from softprompt.data.dataset import iter_part, read_manifest
from softprompt.data.rows import Row
from softprompt.data.tokens import TokenisedRows, tokenised_rows
from softprompt.engine.batches import Collator, Example, chunks
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.encoding import answers_for
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import Strategy, choose_strategy
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRecipe
from softprompt.fetch import fetch_base, fetch_prompt
from softprompt.recipe import Recipe
from softprompt.recipe.training import Candidate
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.groups import Groups
from softprompt.tuning.initialisers import initial_prompt, trained_numbers
from softprompt.tuning.workers import Workers

VALUES_RATE = 3.0
"""Learning rate of a deep prompt's values to that of its keys."""
MOST_VALIDATION_ROWS = 500
"""Looks at validation happen during training and are many; beyond this the first rows of the part, which a hash ordered, do."""
MOST_VALIDATION_ROWS_WITH_GROUPS = 2_000
"""The same where groups are compared, whose shares are known less well than an accuracy of all."""


def load_resolved_base(resolved: ResolvedRecipe, device: str) -> FrozenBase:
    """The base of a resolved recipe, in its number format; any other than it was resolved to is refused."""
    return load_base_model(
        fetch_base(resolved.base.uri),
        dtype=resolved.recipe.base_model.dtype,
        expected_fingerprint=resolved.base.fingerprint,
        device=device,
    )


@dataclass(frozen=True)
class Job:
    """One base, one task, its rows; candidates are trained on it one after the other."""

    recipe: Recipe
    base: FrozenBase
    task: EncodedTask
    train: TokenisedRows
    validation: list[Example]
    groups: Groups | None = None

    @classmethod
    def load(cls, resolved: ResolvedRecipe, dataset: Path, device: str = "cpu") -> "Job":
        """Load base and rows of a resolved recipe; training rows stay on disk, in tokens.

        Args:
            resolved: Says which base, template and verbalisers.
            dataset: A dataset artifact.
            device: torch device of the base.
        """
        recipe = resolved.recipe
        for start in resolved.starts:
            fetch_prompt(start.uri, expected_sha256=start.sha256)
        base = load_resolved_base(resolved, device)
        answers = answers_for(read_manifest(dataset).labels, recipe.task.verbalisers)
        task = EncodedTask.create(base.text, recipe.task.template, answers)
        fairness = recipe.training.fairness
        most = MOST_VALIDATION_ROWS_WITH_GROUPS if fairness else MOST_VALIDATION_ROWS
        validation = heapq.nsmallest(most, iter_part(dataset, "validation"), key=lambda row: row.input_digest)
        train = tokenised_rows(dataset, task, fingerprint=base.fingerprint)
        examples = _examples(task, validation)
        if not fairness:
            return cls(recipe, base, task, train, examples)
        _check_label(fairness.label, task)
        groups = Groups.read(dataset, fairness.column)
        places = [groups.place(row.subgroups[fairness.column]) for row in validation]
        examples = [replace(example, group=place) for example, place in zip(examples, places, strict=True)]
        return cls(recipe, base, task, train, examples, groups)

    @cached_property
    def strategy(self) -> Strategy:
        """How the base is run."""
        saving = self.recipe.training.activation_checkpointing
        return choose_strategy(self.base, self.recipe.prompt.kind, activation_checkpointing=saving)

    @cached_property
    def head(self) -> Head:
        """The base's output side."""
        return Head(self.base)

    @cached_property
    def collator(self) -> Collator:
        """Puts examples into batches that score what the loss wants."""
        trie = self.task.trie if self.recipe.loss == "answers" else None
        return Collator(trie, decoder_start(self.base), self.base.model.device)

    @property
    def input_noise(self) -> float:
        """Share of a training row's tokens that are replaced at each reading."""
        return self.recipe.input_noise(len(self.train))

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What the recipe asks to train."""
        return self.recipe.training.variations

    def training_examples(self, rows: Sequence[int]) -> list[Example]:
        """Some training rows, with their groups where they have some."""
        if self.groups is None:
            return [self.train[row] for row in rows]
        return [replace(self.train[row], group=int(self.groups.train[row])) for row in rows]

    def validation_shards(self, workers: Workers) -> list[list[Sequence[Example]]]:
        """A worker's shards of the validation rows, each in batches of rows of like length."""
        rows = sorted(self.validation, key=lambda example: example.num_tokens)
        return [list(chunks(mine, self.recipe.evaluation.batch_size)) for mine in workers.shards(rows)]

    def scale_of(self, start: Tensor) -> Tensor:
        """What a learning rate is relative to, broadcasting to a prompt's start `[P, H]` or `[L, 2, P, N, D]`.

        The RMS of the embedding table; for a deep prompt the RMS of its own start, for keys and values of each layer: they differ
        by an order of magnitude between layers, and one rate for all fits none. Values bear a larger one than keys, whose moves
        change where every head looks; numbers of keys that are not trained have 0 (docs/tuning-log.md).
        """
        if start.ndim == 2:
            return torch.tensor(self.base.embedding_rms)
        rates, trained = torch.tensor([1.0, VALUES_RATE]).view(1, 2, 1, 1, 1), trained_numbers(self.base, self.train)
        squares = (start.square() * trained).mean(dim=(2, 3, 4), keepdim=True) / trained.float().mean(dim=4, keepdim=True)
        return rates * squares.sqrt().clamp_min(1e-6) * trained

    def initial_prompt(self, candidate: Candidate) -> SoftPrompt:
        """Where a candidate starts."""
        spec, seed = self.recipe.prompt_of(candidate), self.recipe.training_of(candidate).seed
        num_tokens = self.recipe.num_tokens(len(self.task.answers), candidate)
        prompt = initial_prompt(self.base, self.task, self.train, spec.kind, num_tokens, spec.init, seed)
        return prompt.to(self.base.model.device)


def _check_label(label: str, task: EncodedTask) -> None:
    if label and label not in task.labels:
        raise InvalidRecipe(
            "The label that fairness is about is not one of the dataset's.",
            where="training.fairness.label",
            expected=", ".join(task.labels),
            actual=label,
        )


def _examples(task: EncodedTask, rows: Sequence[Row]) -> list[Example]:
    return task.examples([(row.inputs, row.target) for row in rows])
