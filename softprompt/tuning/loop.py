"""The training loop of one candidate: only the prompt's numbers change."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from softprompt.engine.batches import epochs
from softprompt.engine.losses import loss_sum, num_correct
from softprompt.engine.prompts import SoftPrompt
from softprompt.errors import InvalidRequest
from softprompt.recipe.training import Candidate, TrainingSpec, ValidationMetric
from softprompt.tuning.fair_training import FairTraining, validation_gap
from softprompt.tuning.input_noise import InputNoise
from softprompt.tuning.job import Job
from softprompt.tuning.optimisers import build_optimiser, optimiser_tensors, restore_optimiser, set_learning_rate
from softprompt.tuning.parameterisation import Direct, parameterise
from softprompt.tuning.step import take_step
from softprompt.tuning.training_log import Measurement
from softprompt.tuning.workers import Workers

Score = tuple[float, float]
"""What a look at validation is worth, larger is better: (accuracy, -loss), or (0, -loss); fairness takes the gap off."""


@dataclass
class LoopState:
    """Everything that a killed loop needs to go on as if nothing had happened.

    Attributes:
        step: Optimiser steps done.
        parameters: The parameterisation's tensors by name.
        optimiser: The optimiser's state, as `{parameter}.{slot}`.
        best_values, best_step, best_score: The best look at validation so far.
        stopped: Patience has run out.
        measurements: All looks so far.
        losses: Of each step since the last look.
        fairness: State of the objective beside the loss; empty where there is none.
    """

    step: int
    parameters: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    best_values: Tensor
    best_step: int = 0
    best_score: Score = (-math.inf, -math.inf)
    stopped: bool = False
    measurements: list[Measurement] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    fairness: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best_look(self) -> Measurement:
        """The look at validation that was best."""
        return next(look for look in self.measurements if look.step == self.best_step)

    @classmethod
    def begin(cls, job: Job, candidate: Candidate) -> "LoopState":
        """The state before the first step."""
        start = job.initial_prompt(candidate).values.detach().cpu()
        scale = job.scale_of(start)
        module = parameterise(job.recipe.prompt_of(candidate), start, scale, job.recipe.training_of(candidate).seed)
        return cls(0, _copies(module), {}, start.clone())


@dataclass
class Trained:
    """One candidate in training: its settings, its parameters on their device, its optimiser, what stands beside its loss."""

    number: int
    training: TrainingSpec
    module: Direct
    optimiser: torch.optim.Optimizer
    fairness: FairTraining | None = None

    @classmethod
    def at(cls, job: Job, number: int, candidate: Candidate, state: LoopState) -> "Trained":
        """A candidate as a state left it."""
        training = job.recipe.training_of(candidate)
        start, scale = state.parameters["start"], state.parameters["scale"]
        module = parameterise(job.recipe.prompt_of(candidate), start, scale, training.seed)
        module.load_state_dict(state.parameters)
        module.to(job.base.model.device)
        optimiser = build_optimiser(training, module)
        restore_optimiser(optimiser, state.optimiser)
        fairness = FairTraining.of(job, training)
        if fairness:
            fairness.restore(state.fairness)
        return cls(number, training, module, optimiser, fairness)

    def save(self, state: LoopState) -> None:
        """Copy all that changes in training into a state."""
        state.parameters = _copies(self.module)
        state.optimiser = optimiser_tensors(self.optimiser)
        state.fairness = self.fairness.tensors() if self.fairness else {}


def run_loop(
    job: Job,
    number: int,
    candidate: Candidate,
    state: LoopState,
    workers: Workers,
    report: Callable[[LoopState], None],
    until: int | None = None,
) -> LoopState:
    """Train until a step; `report` is called after each look at validation, and there is one at the end.

    Args:
        job: Base, task and rows.
        number: The candidate's number, for reports.
        candidate: Its settings.
        state: Where to start; changed in place.
        workers: Who shares the batches.
        report: Receives the state whenever it is worth keeping.
        until: Stop after this step; None: the recipe's last.

    Raises:
        InvalidRequest: The loss is no longer a number.
    """
    trained = Trained.at(job, number, candidate, state)
    training, last = trained.training, until or trained.training.steps
    began = time.monotonic() - (state.measurements[-1].seconds if state.measurements else 0.0)
    noise = InputNoise.of(job.task.encoder, job.input_noise, training.seed)
    losses: list[Tensor] = []
    tokens = 0
    for step, rows in _batches(job, training, state.step, last):
        if state.stopped:
            break
        set_learning_rate(trained.optimiser, learning_rate(training, step))
        examples = job.training_examples(rows)
        examples = noise(examples, step) if noise else examples
        losses.append(take_step(job, training, trained.module, trained.optimiser, examples, workers, trained.fairness))
        tokens += sum(example.num_tokens for example in examples)
        state.step = step + 1
        if state.step % training.validate_every_steps == 0 or state.step == last:
            state.losses = torch.stack(losses).tolist()
            _check_finite(state.losses, training, state.step)
            trained.save(state)
            _look(job, trained, state, workers, tokens, time.monotonic() - began)
            losses, tokens = [], 0
            report(state)
    return state


def learning_rate(training: TrainingSpec, step: int) -> float:
    """Relative learning rate of a step, counted from 0: linear warm-up, then constant or a cosine to zero."""
    assert training.learning_rate is not None, "Recipe.training_of() fills it in"
    assert training.warmup_steps is not None, "Recipe.training_of() fills it in"
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return training.learning_rate
    done = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def validate(job: Job, prompt: SoftPrompt, workers: Workers) -> tuple[float, float | None]:
    """Loss (nats a row or a token) and accuracy on the validation rows; accuracy is None under the plain likelihood."""
    prefix = job.strategy.prefix(prompt)
    device = job.base.model.device
    shards = []
    for batches in job.validation_shards(workers):
        total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for examples in batches:
            batch = job.collator(examples)
            hidden = job.strategy.hidden(prefix, batch)
            total += loss_sum(job.head, job.collator.trie, hidden, batch)
            if job.collator.trie is not None:
                correct += num_correct(job.head, job.collator.trie, hidden, batch)
        shards.append([total, correct])
    total, correct = workers.sum(shards)
    loss = total.item() / sum(job.collator.num_scored(example) for example in job.validation)
    return loss, correct.item() / len(job.validation) if job.collator.trie is not None else None


def score(metric: ValidationMetric, loss: float, accuracy: float | None, gap: float = 0.0) -> Score:
    """What a look is worth under a metric; equal accuracies are told apart by their loss.

    A point of the gap between groups costs a point of accuracy where the training is to close it: the most accurate look is
    mostly the one before it did.
    """
    return (accuracy or 0.0 if metric == "accuracy" else 0.0) - gap, -loss


def _copies(module: Direct) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _batches(job: Job, training: TrainingSpec, done: int, last: int) -> Iterator[tuple[int, list[int]]]:
    """(step, row indices) from the first step that is not done to the last."""
    order = epochs(job.train.lengths, training.batch_size, training.seed)
    return enumerate(islice(order, done, last), start=done)


def _look(job: Job, trained: Trained, state: LoopState, workers: Workers, tokens: int, seconds: float) -> None:
    """Measure on the validation rows, keep the prompt if it is the best so far, and see whether patience has run out."""
    prompt = trained.module.prompt()
    loss, accuracy = validate(job, prompt, workers)
    spec = trained.training.fairness
    gap = validation_gap(job, prompt, spec, workers) if spec else None
    found = score(job.recipe.validation_metric, loss, accuracy, gap or 0.0 if trained.fairness else 0.0)
    if found > state.best_score:
        state.best_score, state.best_step, state.best_values = found, state.step, prompt.values.detach().cpu().clone()
    before = state.measurements[-1].seconds if state.measurements else 0.0
    state.measurements.append(
        Measurement(
            candidate=trained.number,
            step=state.step,
            training_loss=sum(state.losses) / len(state.losses),
            validation_loss=loss,
            validation_accuracy=accuracy,
            validation_gap=gap,
            learning_rate=trained.optimiser.param_groups[0]["lr"],
            tokens_per_second=round(tokens / max(seconds - before, 1e-9), 1),
            seconds=round(seconds, 3),
        )
    )
    if trained.training.patience:
        since = [look for look in state.measurements if look.step > state.best_step]
        state.stopped = len(since) >= trained.training.patience


def _check_finite(losses: list[float], training: TrainingSpec, step: int) -> None:
    if not all(map(math.isfinite, losses)):
        raise InvalidRequest(
            "Training diverged: the loss is no longer a number.",
            where=f"before step {step}",
            actual=f"training.learning_rate {training.learning_rate:g}",
            hint="Lower training.learning_rate or raise training.warmup_steps.",
        )
