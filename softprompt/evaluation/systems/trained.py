"""LoRA and full fine-tuning of a second copy of the base, on the same rows for as many steps, as figures to compare with.

The adapters are stock PEFT's (Hu et al. 2022), the optimiser is torch's AdamW with its usual moments, the loss, the batches and
their order are the prompt's own; the best look at validation is kept, as for the prompt. The frozen base is not touched: the
copy is loaded from the same files, checked by the same fingerprint.
"""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from softprompt.base_model import FrozenBase, visible_device
from softprompt.engine.batches import Example, chunks, epochs
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum, num_correct
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import InvalidRequest
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.progress import tell
from softprompt.recipe.training import Candidate, TrainingSpec
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import Job
from softprompt.tuning.loop import learning_rate, score

Method = Literal["lora", "full_fine_tuning"]
RATES: dict[Method, float] = {"lora": 1e-3, "full_fine_tuning": 3e-4}
"""Peak learning rates of AdamW, warmed up and let fall as the prompt's is."""
MOST_GRADIENT_NORM = 1.0
"""Longer gradients are cut, as trainers of transformers do."""
LORA_RANK, LORA_ALPHA = 16, 32
STEP = "evaluate_prompt"


def trained_system(method: Method, resolved: ResolvedRecipe, dataset: Path) -> tuple[BaseSystem, str]:
    """A copy of the base after training, without a prompt, and a sentence about it. Raises as `Copy` does."""
    copy = Copy(method, resolved, dataset)
    count = sum(parameter.numel() for parameter in copy.parameters)
    copy.train()
    note = f"{count:,} of {copy.base.num_parameters:,} numbers trained for {copy.training.steps} steps, rate {RATES[method]:g}."
    return BaseSystem(copy.base, copy.job.task), note


def add_lora(base: FrozenBase) -> None:
    """Put stock LoRA adapters into a base, in place; all that trains afterwards.

    Raises:
        InvalidRequest: The package peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InvalidRequest(
            "LoRA as a baseline needs the package peft.",
            where="evaluation.train",
            hint="pip install 'softprompt[baselines]', or take lora out of evaluation.train.",
        ) from None
    get_peft_model(base.model, LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear"))


class Copy:
    """A copy of the base in training, in float32 whatever the base is loaded in.

    Args:
        method: How it is trained.
        resolved: The recipe.
        dataset: Dataset artifact.

    Raises:
        InvalidRequest: LoRA needs the package peft, which is not installed.
    """

    def __init__(self, method: Method, resolved: ResolvedRecipe, dataset: Path) -> None:
        self.job, self.method = Job.load(_in_float32(resolved), dataset, visible_device()), method
        asked = Candidate(learning_rate=RATES[method])
        self.training: TrainingSpec = resolved.recipe.training_of(asked)
        self.base = self.job.base
        torch.manual_seed(self.training.seed)
        if method == "lora":
            add_lora(self.base)
        else:
            self.base.model.requires_grad_(True)
        self.parameters = [one for one in self.base.model.parameters() if one.requires_grad]
        self._strategy, self._head = choose_strategy(self.base, None), Head(self.base)

    def train(self) -> None:
        """All steps; the parameters of the best look at validation stay."""
        job, training = self.job, self.training
        optimiser = torch.optim.AdamW(self.parameters, weight_decay=training.weight_decay)
        best, kept = (-math.inf, -math.inf), self._saved()
        order = epochs(job.train.lengths, training.batch_size, training.seed)
        for step, rows in enumerate(islice(order, training.steps), start=1):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(training, step - 1)
            optimiser.zero_grad()
            examples = [job.train[row] for row in rows]
            denominator = sum(job.collator.num_scored(example) for example in examples)
            for part in chunks(examples, training.micro_batch_size or len(examples)):
                (self._loss(part)[0] / denominator).backward()
            nn.utils.clip_grad_norm_(self.parameters, MOST_GRADIENT_NORM)
            optimiser.step()
            if step % training.validate_every_steps == 0 or step == training.steps:
                found = self._look(step)
                if found > best:
                    best, kept = found, self._saved()
        for parameter, values in zip(self.parameters, kept, strict=True):
            parameter.data.copy_(values)
        self.base.model.requires_grad_(False)

    def _loss(self, examples: Sequence[Example]) -> tuple[Tensor, int]:
        """The summed loss of some rows, and how many of them go right."""
        batch, trie = self.job.collator(examples), self.job.collator.trie
        hidden = self._strategy.hidden(self._strategy.prefix(None), batch)
        correct = 0 if trie is None else int(num_correct(self._head, trie, hidden, batch))
        return loss_sum(self._head, trie, hidden, batch), correct

    @torch.no_grad()
    def _look(self, step: int) -> tuple[float, float]:
        """What the copy is worth on the validation rows."""
        rows = sorted(self.job.validation, key=lambda example: example.num_tokens)
        looks = [self._loss(part) for part in chunks(rows, self.job.recipe.evaluation.batch_size)]
        loss = sum(float(one) for one, _ in looks) / sum(self.job.collator.num_scored(example) for example in rows)
        accuracy = sum(correct for _, correct in looks) / len(rows)
        if not math.isfinite(loss):
            raise InvalidRequest("The loss of a baseline is no longer a number.", where=f"evaluation.train: {self.method}")
        tell(STEP, f"{self.method}: step {step}/{self.training.steps}, validation loss {loss:.3f}")
        return score(self.job.recipe.validation_metric, loss, accuracy)

    def _saved(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]


def _in_float32(resolved: ResolvedRecipe) -> ResolvedRecipe:
    """The same recipe over a base that can be trained: small steps are lost in half precision, and integers have no gradient."""
    recipe = resolved.recipe
    return resolved.model_copy(
        update={"recipe": recipe.model_copy(update={"base_model": recipe.base_model.model_copy(update={"dtype": "float32"})})}
    )
