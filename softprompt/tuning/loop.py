"""The training loop of one candidate: only the prompt's numbers change, and only their gradient is exchanged.

A worker's loss is its rows' sum divided by the whole batch's count, so gradients add up over workers to that of one worker with
all rows, whatever their number.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from softprompt.engine.batches import Example, epochs
from softprompt.engine.losses import loss_sum, num_correct
from softprompt.engine.prompts import SoftPrompt
from softprompt.errors import InvalidRequest
from softprompt.recipe import TrainingSpec
from softprompt.tuning.job import Job
from softprompt.tuning.training_log import Measurement
from softprompt.tuning.workers import Workers

ADAM_BETAS = (0.9, 0.95)
"""Of gradient and squared gradient; on the demo 0.95 and the usual 0.999 are equal within noise (docs/benchmarks.md)."""


@dataclass
class LoopState:
    """Everything that a killed loop needs to go on as if nothing had happened.

    Attributes:
        step: Optimiser steps done.
        values, mean, square: The prompt and Adam's two moments of it.
        best_values, best_step, best_score: The best look at validation so far; a score is (accuracy, -loss).
        measurements: All looks so far.
    """

    step: int
    values: Tensor
    mean: Tensor
    square: Tensor
    best_values: Tensor
    best_step: int = 0
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    measurements: list[Measurement] = field(default_factory=list)

    @classmethod
    def begin(cls, prompt: SoftPrompt) -> "LoopState":
        """The state before the first step."""
        values = prompt.values.detach()
        return cls(0, values.clone(), torch.zeros_like(values), torch.zeros_like(values), values.clone())


def run_loop(
    job: Job, number: int, training: TrainingSpec, state: LoopState, workers: Workers, report: Callable[[LoopState], None]
) -> LoopState:
    """Train until the last step; `report` is called after each look at validation.

    Args:
        job: Base, task and rows.
        number: The candidate's number, for reports.
        training: Steps, batch size, learning rate and so on.
        state: Where to start; changed in place.
        workers: Who shares the batches.
        report: Receives the state whenever it is worth keeping.

    Raises:
        InvalidRequest: The loss is no longer a number.
    """
    prompt = SoftPrompt(state.values).to(job.base.model.device)
    optimiser = adam(prompt, state)
    began = time.monotonic() - (state.measurements[-1].seconds if state.measurements else 0.0)
    losses: list[Tensor] = []
    for step, rows in _batches(job, training, state.step):
        rate = learning_rate(training, step) * job.base.embedding_rms
        for group in optimiser.param_groups:
            group["lr"] = rate
        losses.append(take_step(job, prompt, optimiser, [job.train[row] for row in rows], workers))
        state.step = step + 1
        if state.step % training.validate_every_steps == 0 or state.step == training.steps:
            loss = torch.stack(losses).mean().item()
            losses = []
            _check_finite(loss, training, state.step)
            _remember(state, prompt, optimiser)
            _look(job, number, prompt, workers, state, loss, rate, time.monotonic() - began)
            report(state)
    return state


def learning_rate(training: TrainingSpec, step: int) -> float:
    """Relative learning rate of a step, counted from 0: linear warm-up, then constant or a cosine to zero."""
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
    total, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    size = job.recipe.evaluation.batch_size
    mine = workers.share(sorted(job.validation, key=lambda example: example.num_tokens))
    for examples in _chunks(mine, size):
        batch = job.collator(examples)
        hidden = job.strategy.hidden(prefix, batch)
        total += loss_sum(job.head, job.collator.trie, hidden, batch)
        if job.collator.trie is not None:
            correct += num_correct(job.head, job.collator.trie, hidden, batch)
    total, correct = workers.sum(total, correct)
    loss = total.item() / sum(job.collator.num_scored(example) for example in job.validation)
    return loss, correct.item() / len(job.validation) if job.collator.trie is not None else None


def _batches(job: Job, training: TrainingSpec, done: int) -> Iterator[tuple[int, list[int]]]:
    """(step, row indices) from the first step that is not done to the last."""
    order = epochs([example.num_tokens for example in job.train], training.batch_size, training.seed)
    return enumerate(islice(order, done, training.steps), start=done)


def take_step(
    job: Job, prompt: SoftPrompt, optimiser: torch.optim.Optimizer, rows: Sequence[Example], workers: Workers
) -> Tensor:
    """One optimiser step over a batch; returns its mean loss."""
    optimiser.zero_grad()
    denominator = sum(job.collator.num_scored(example) for example in rows)
    mine = workers.share(list(rows))
    loss = prompt.values.new_zeros(())
    if mine:
        batch = job.collator(mine)
        hidden = job.strategy.hidden(job.strategy.prefix(prompt), batch)
        loss = loss_sum(job.head, job.collator.trie, hidden, batch) / denominator
        loss.backward()
    gradient = prompt.values.grad if prompt.values.grad is not None else torch.zeros_like(prompt.values)
    prompt.values.grad, loss = workers.sum(gradient, loss)
    optimiser.step()
    return loss.detach()


def _look(
    job: Job, number: int, prompt: SoftPrompt, workers: Workers, state: LoopState, loss: float, rate: float, seconds: float
) -> None:
    """Measure on the validation rows and keep the prompt if it is the best so far."""
    validation_loss, accuracy = validate(job, prompt, workers)
    score = (accuracy or 0.0, -validation_loss)
    if score > state.best_score:
        state.best_score, state.best_step, state.best_values = score, state.step, state.values.clone()
    state.measurements.append(
        Measurement(
            candidate=number,
            step=state.step,
            training_loss=loss,
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
            learning_rate=rate,
            seconds=round(seconds, 3),
        )
    )


def adam(prompt: SoftPrompt, state: LoopState) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015) with the moments of a state."""
    optimiser = torch.optim.Adam([prompt.values], betas=ADAM_BETAS)
    if state.step:
        device = prompt.values.device
        optimiser.state[prompt.values] = {
            "step": torch.tensor(float(state.step)),
            "exp_avg": state.mean.to(device).clone(),
            "exp_avg_sq": state.square.to(device).clone(),
        }
    return optimiser


def _remember(state: LoopState, prompt: SoftPrompt, optimiser: torch.optim.Adam) -> None:
    moments = optimiser.state[prompt.values]
    state.values = prompt.values.detach().cpu().clone()
    state.mean, state.square = moments["exp_avg"].cpu().clone(), moments["exp_avg_sq"].cpu().clone()


def _check_finite(loss: float, training: TrainingSpec, step: int) -> None:
    if not math.isfinite(loss):
        raise InvalidRequest(
            "Training diverged: the loss is no longer a number.",
            where=f"before step {step}",
            actual=f"training.learning_rate {training.learning_rate:g}",
            hint="Lower training.learning_rate or raise training.warmup_steps.",
        )


def _chunks(items: list[Example], size: int) -> Iterator[list[Example]]:
    return (items[start : start + size] for start in range(0, len(items), size))
