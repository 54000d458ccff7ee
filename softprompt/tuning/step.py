"""One optimiser step: the prompt is prepared once, whatever the number of micro-batches, and only its gradient is exchanged.

A shard's loss is its rows' sum divided by the whole batch's count, so gradients add up over shards and micro-batches to that of
one worker with all rows at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softprompt.engine.batches import Example, chunks
from softprompt.engine.losses import loss_sum
from softprompt.engine.strategy import Prefix
from softprompt.recipe.training import TrainingSpec
from softprompt.tuning.fair_training import FairTraining
from softprompt.tuning.job import Job
from softprompt.tuning.parameterisation import Direct
from softprompt.tuning.workers import Workers


def take_step(
    job: Job,
    training: TrainingSpec,
    module: Direct,
    optimiser: torch.optim.Optimizer,
    rows: Sequence[Example],
    workers: Workers,
    fairness: FairTraining | None = None,
) -> Tensor:
    """One optimiser step over a batch.

    Args:
        job: Base and task.
        training: Micro-batch size and longest gradient.
        module: What is trained.
        optimiser: Changes it.
        rows: The whole batch, of all workers.
        workers: Who shares it.
        fairness: An objective beside the loss; None: the loss alone.

    Returns:
        The batch's mean loss, nats a row (answers) or a token (likelihood), scalar.
    """
    denominator = sum(job.collator.num_scored(example) for example in rows)
    if fairness:
        fairness.begin(rows)
    parameters, prefix = list(module.parameters()), job.strategy.prefix(module.prompt())
    shards = []
    for mine in workers.shards(list(rows)):
        optimiser.zero_grad()
        loss = _backward(job, prefix, mine, training.micro_batch_size or len(mine), denominator, fairness)
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        shards.append([*gradients, *(fairness.take_exchanged() if fairness else ()), loss])
    *summed, loss = workers.sum(shards)
    for parameter, gradient in zip(parameters, summed, strict=False):
        parameter.grad = gradient
    if fairness:
        fairness.end(summed[len(parameters) :])
    if training.max_gradient_norm:
        nn.utils.clip_grad_norm_(parameters, training.max_gradient_norm)
    optimiser.step()
    return loss.detach()


def _backward(
    job: Job, prefix: Prefix, rows: list[Example], size: int, denominator: int, fairness: FairTraining | None
) -> Tensor:
    """Add the gradient of these rows' share of the loss, and of what stands beside it; returns that share of the loss."""
    shared, leaves = detach(prefix)
    total = torch.zeros((), device=job.base.model.device)
    for part in chunks(rows, size):
        if fairness:
            loss, beside = fairness.loss(job, shared, part, denominator)
            (loss + beside).backward()
        else:
            batch = job.collator(part)
            loss = loss_sum(job.head, job.collator.trie, job.strategy.hidden(shared, batch), batch) / denominator
            loss.backward()
        total += loss.detach()
    if rows:
        reached = [(source, leaf.grad) for source, leaf in zip(prefix.tensors, leaves, strict=True) if leaf.grad is not None]
        sources, gradients = [source for source, _ in reached], [grad.to(source.dtype) for source, grad in reached]
        torch.autograd.backward(sources, gradients, retain_graph=True)  # the next shard comes back this way
    return total


def detach(prefix: Prefix) -> tuple[Prefix, list[Tensor]]:
    """The same prefix cut from what it was computed of, and its tensors, in which gradients gather in float32."""
    leaves = [tensor.detach().float().requires_grad_() for tensor in prefix.tensors]
    return prefix.with_tensors([leaf.to(tensor.dtype) for leaf, tensor in zip(leaves, prefix.tensors, strict=True)]), leaves
