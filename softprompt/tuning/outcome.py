"""What is found out when all candidates have ended: doubts, the spread over seeds, and what a vote of them would add."""

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.tuning import diagnosis
from softprompt.tuning.job import Job
from softprompt.tuning.population import PopulationState, Run
from softprompt.tuning.trade_off import trade_off
from softprompt.tuning.training_log import Measurement, Outcome, SeedSpread, TradeOff


def judge(job: Job, state: PopulationState) -> Outcome:
    """Look at a finished population.

    Args:
        job: Base, task and validation rows.
        state: All runs ended.
    """
    probabilities: dict[int, Tensor] = {}
    if job.task.trie is not None:
        probabilities = {run.number: probabilities_of(job, run) for run in state.seeds}
    warnings = tuple(_warnings(job, state, probabilities))
    return Outcome(warnings=warnings, seeds=_spread(job, state, probabilities), fairness=_trade_off(job, state))


def best_look(run: Run) -> Measurement:
    """The look at validation at which a run was best."""
    return run.loop.best_look


def warnings_of(run: Run) -> tuple[str, ...]:
    """What went wrong with one run, as far as its numbers alone tell."""
    start, end, scale = run.loop.parameters["start"], run.loop.best_values, run.loop.parameters["scale"]
    found = [diagnosis.unmoved(start, end, scale), diagnosis.exploded(start, end)]
    return tuple(filter(None, found))


def probabilities_of(job: Job, run: Run) -> Tensor:
    """Probabilities `[rows, answers]` that a run's best prompt gives to the validation rows' answers."""
    prompt = SoftPrompt(run.loop.best_values).to(job.base.model.device)
    predictor = Predictor(job.base, job.task, prompt, batch_size=job.recipe.evaluation.batch_size)
    found = predictor.predict_ids([example.input_ids for example in job.validation])
    return torch.tensor([prediction.probabilities for prediction in found])


def _warnings(job: Job, state: PopulationState, probabilities: dict[int, Tensor]) -> list[str]:
    winner = state.winner
    found = [
        _constant(job, probabilities.get(winner.number)),
        # Between weights of fairness the choice is the gap's.
        None
        if state.max_accuracy_loss is not None
        else diagnosis.indistinguishable(_last_comparison(state), len(job.validation)),
        _few(job, best_look(winner)),
        diagnosis.by_heart(winner.loop.measurements),
    ]
    return [*warnings_of(winner), *filter(None, found)]


def _trade_off(job: Job, state: PopulationState) -> TradeOff | None:
    spec = job.recipe.training.fairness
    if spec is None:
        return None
    runs = [run for run in state.runs if run.dropped_at is None]
    predicted = {run.number: probabilities_of(job, run).argmax(dim=1) for run in runs}
    asked = {run.number: job.recipe.training_of(run.candidate).fairness for run in runs}
    weights = {number: one.weight for number, one in asked.items() if one}
    return trade_off(job, spec, predicted, weights, state.winner.number)


def _last_comparison(state: PopulationState) -> list[Measurement]:
    """The looks by which the last candidates were told apart: where halving last dropped one, else each one's best."""
    candidates = [run for run in state.runs if run.repeats is None]
    at = max((run.dropped_at for run in candidates if run.dropped_at), default=None)
    if at is None:
        return [best_look(run) for run in candidates]
    return [look for run in candidates for look in run.loop.measurements if look.step == at]


def _constant(job: Job, probabilities: Tensor | None) -> str | None:
    if probabilities is None:
        return None
    predicted = [job.task.labels[answer] for answer in probabilities.argmax(dim=1).tolist()]
    return diagnosis.constant_predictions(predicted, [job.task.labels[example.answer] for example in job.validation])


def _few(job: Job, look: Measurement) -> str | None:
    return None if look.validation_accuracy is None else diagnosis.few_rows(look.validation_accuracy, len(job.validation))


def _spread(job: Job, state: PopulationState, probabilities: dict[int, Tensor]) -> SeedSpread | None:
    if job.recipe.training.seeds == 1:
        return None
    metric = job.recipe.validation_metric
    looks = [best_look(run) for run in state.seeds]
    values = [look.validation_accuracy or 0.0 if metric == "accuracy" else look.validation_loss for look in looks]
    return SeedSpread(
        metric=metric,
        values=tuple(values),
        mean=statistics.mean(values),
        standard_deviation=statistics.stdev(values),
        vote=_vote(job, list(probabilities.values())),
    )


def _vote(job: Job, probabilities: Sequence[Tensor]) -> float | None:
    """Accuracy of the mean of several prompts' probabilities."""
    if not probabilities:
        return None
    chosen = torch.stack(list(probabilities)).mean(dim=0).argmax(dim=1)
    right = torch.tensor([example.answer for example in job.validation])
    return float((chosen == right).float().mean())
