"""Several candidates over one frozen base and one reading of the data, one after the other; the best on validation wins.

Fusing candidates into one forward was measured to be no gain on a processor that is already busy (docs/field-notes.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop
from softprompt.tuning.training_log import CandidateResult, Measurement
from softprompt.tuning.workers import Workers


@dataclass
class PopulationState:
    """Where a population is.

    Attributes:
        candidate: Number of the candidate in training.
        loop: Its state; None before it begins.
        finished: Candidates that are done.
        best: The state of the best finished one, and `winner` its number.
        measurements: What finished candidates measured.
    """

    candidate: int = 0
    loop: LoopState | None = None
    finished: list[CandidateResult] = field(default_factory=list)
    best: LoopState | None = None
    winner: int = 0
    measurements: list[Measurement] = field(default_factory=list)


def run_population(
    job: Job, state: PopulationState, workers: Workers, report: Callable[[PopulationState], None]
) -> PopulationState:
    """Train every candidate that is not finished.

    Args:
        job: Base, task and rows.
        state: Where to start; changed in place.
        workers: Who shares the batches.
        report: Receives the state whenever it is worth keeping.
    """
    for number in range(state.candidate, len(job.candidates)):
        training = job.training_of(job.candidates[number])
        state.candidate = number
        state.loop = state.loop or LoopState.begin(job.initial_prompt(job.candidates[number]))
        ended = run_loop(job, number, training, state.loop, workers, lambda _: report(state))
        _finish(job, state, number, ended)
    state.candidate = len(job.candidates)
    return state


def _finish(job: Job, state: PopulationState, number: int, ended: LoopState) -> None:
    spec, training = job.prompt_spec_of(job.candidates[number]), job.training_of(job.candidates[number])
    best = next(look for look in ended.measurements if look.step == ended.best_step)
    state.finished.append(
        CandidateResult(
            candidate=number,
            seed=training.seed,
            num_tokens=spec.num_tokens,
            learning_rate=training.learning_rate,
            init=spec.init.method,
            best_step=ended.best_step,
            validation_loss=best.validation_loss,
            validation_accuracy=best.validation_accuracy,
        )
    )
    if state.best is None or ended.best_score > state.best.best_score:
        state.best, state.winner = ended, number
    state.measurements += ended.measurements
    state.loop = None
