"""Several candidates over one frozen base and one reading of the data; the worse half is dropped again and again.

Successive halving (Jamieson & Talwalkar 2016): one of K candidates stays after 1/2 of the steps, two after 1/4, four after 1/8,
and so on, so that eight cost two and a half runs. One after the other: fusing candidates into one forward was measured to
be no gain on a processor that is already busy (docs/field-notes.md). What a candidate keeps while another trains is its prompt
and optimiser state, kilobytes to megabytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from softprompt.recipe.training import Candidate
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop
from softprompt.tuning.training_log import Measurement, Outcome
from softprompt.tuning.workers import Workers


@dataclass
class Run:
    """One candidate's training.

    Attributes:
        number: Counted from 0; repetitions with further seeds come after the candidates.
        candidate: Its settings.
        loop: Where it is.
        dropped_at: The step at which it was given up; None: it was not.
        repeats: The number of the run whose setting this one repeats with another seed; None: a candidate.
    """

    number: int
    candidate: Candidate
    loop: LoopState
    dropped_at: int | None = None
    repeats: int | None = None


@dataclass
class PopulationState:
    """Where a population is.

    Attributes:
        runs: Candidates, then repetitions of the chosen one.
        outcome: What was found out at the end; None before.
        max_accuracy_loss: Of candidates within so many points of the best accuracy, the fairest is chosen; None: the best is.
    """

    runs: list[Run] = field(default_factory=list)
    outcome: Outcome | None = None
    max_accuracy_loss: float | None = None

    @property
    def alive(self) -> list[Run]:
        """Candidates that have not been dropped."""
        return [run for run in self.runs if run.dropped_at is None and run.repeats is None]

    @property
    def chosen(self) -> Run:
        """The best candidate that has not been dropped, or the fairest of the good ones; of equals the first."""
        if self.max_accuracy_loss is not None:
            return fairest(self.alive, self.max_accuracy_loss)
        return max(self.alive, key=lambda run: run.loop.best_score)

    @property
    def seeds(self) -> list[Run]:
        """The chosen candidate and its repetitions with other seeds."""
        chosen = self.chosen
        return [chosen, *(run for run in self.runs if run.repeats == chosen.number)]

    @property
    def winner(self) -> Run:
        """The best on validation."""
        return max(self.seeds, key=lambda run: run.loop.best_score)

    @property
    def measurements(self) -> list[Measurement]:
        """Every look of every run, by run."""
        return [look for run in self.runs for look in run.loop.measurements]

    @property
    def steps_done(self) -> int:
        """Optimiser steps of all runs together."""
        return sum(run.loop.step for run in self.runs)


Report = Callable[[PopulationState, Run], None]


def run_population(job: Job, state: PopulationState, workers: Workers, report: Report) -> PopulationState:
    """Train what is not finished: the candidates with halving, then the chosen one's other seeds.

    Args:
        job: Base, task and rows.
        state: Where to start; changed in place.
        workers: Who shares the batches.
        report: Receives the state, and the run that was just looked at, whenever it is worth keeping.
    """
    fairness = job.recipe.training.fairness
    state.max_accuracy_loss = fairness.max_accuracy_loss if fairness and fairness.weights else None
    state.runs = state.runs or [Run(n, c, LoopState.begin(job, c)) for n, c in enumerate(job.candidates)]
    for until, keep in rungs(len(job.candidates), job.recipe.training.steps, halving=job.recipe.training.drops_candidates):
        for run in state.alive:
            _train(job, state, run, workers, report, until)
        _drop_worst(state, keep, until)
    for number in range(job.recipe.training.seeds):
        if number == len(state.seeds):
            state.runs.append(_repetition(job, state, number))
        _train(job, state, state.seeds[number], workers, report)
    return state


def fairest(runs: Sequence[Run], max_accuracy_loss: float) -> Run:
    """The run with the smallest gap among those that are almost as accurate as the best; of equals the more accurate one.

    Args:
        runs: Ended, each with a gap at its best look.
        max_accuracy_loss: How much less accurate it may be, in points.
    """
    looks = {run.number: run.loop.best_look for run in runs}
    best = max(look.validation_accuracy or 0.0 for look in looks.values())
    good = [run for run in runs if best - (looks[run.number].validation_accuracy or 0.0) <= max_accuracy_loss / 100 + 1e-9]
    return min(good, key=lambda run: (looks[run.number].validation_gap or 0.0, -(looks[run.number].validation_accuracy or 0.0)))


def rungs(num_candidates: int, steps: int, *, halving: bool) -> list[tuple[int, int]]:
    """(step, how many go on after it), in order; the last is (steps, the same number): nobody is dropped at the end."""
    found: list[tuple[int, int]] = []
    keep, at = 1, steps // 2
    while halving and keep < num_candidates and at > 0:
        found.append((at, keep))
        keep, at = keep * 2, at // 2
    found.reverse()
    return [*found, (steps, found[-1][1] if found else num_candidates)]


def planned_steps(num_candidates: int, steps: int, seeds: int, *, halving: bool) -> int:
    """Optimiser steps of all runs together, if none stops early."""
    total, before, alive = 0, 0, num_candidates
    for until, keep in rungs(num_candidates, steps, halving=halving):
        total += alive * (until - before)
        before, alive = until, min(alive, keep)
    return total + (seeds - 1) * steps


def _repetition(job: Job, state: PopulationState, extra: int) -> Run:
    """The chosen candidate with another seed."""
    chosen = state.chosen
    candidate = chosen.candidate.model_copy(update={"seed": job.recipe.training_of(chosen.candidate).seed + extra})
    return Run(len(state.runs), candidate, LoopState.begin(job, candidate), repeats=chosen.number)


def _train(job: Job, state: PopulationState, run: Run, workers: Workers, report: Report, until: int | None = None) -> None:
    run_loop(job, run.number, run.candidate, run.loop, workers, lambda _: report(state, run), until)


def _drop_worst(state: PopulationState, keep: int, step: int) -> None:
    """Give up all but the best; running it again after a resume changes nothing."""
    best = sorted(state.alive, key=lambda run: run.loop.best_score, reverse=True)
    for run in best[keep:]:
        run.dropped_at = step
