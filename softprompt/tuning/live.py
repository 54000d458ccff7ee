"""How far a training is, for the person who waits."""

from dataclasses import dataclass

from softprompt.recipe import Recipe
from softprompt.tuning.population import PopulationState, planned_steps
from softprompt.tuning.training_log import Measurement


@dataclass(frozen=True)
class Progress:
    """Where a population is.

    Attributes:
        num_candidates, alive: Candidates in all, and those not dropped.
        steps: Steps of one candidate.
        total: Optimiser steps of all runs together, if none stops early.
        seconds_left: Of all runs together, at the pace so far.
    """

    num_candidates: int
    alive: int
    steps: int
    total: int
    seconds_left: float

    @classmethod
    def of(cls, recipe: Recipe, state: PopulationState, look: Measurement) -> "Progress":
        """Progress after a look at validation."""
        training, count = recipe.training, len(recipe.training.variations)
        total = planned_steps(count, training.steps, training.seeds, halving=training.drops_candidates)
        spent = sum(run.loop.measurements[-1].seconds for run in state.runs if run.loop.measurements)
        left = spent / max(1, state.steps_done) * max(0, total - state.steps_done)
        return cls(count, len(state.alive), training.steps, total, left)

    def sentence(self, look: Measurement) -> str:
        """One line for a person."""
        which = f"candidate {look.candidate + 1} ({self.alive}/{self.num_candidates} alive), " if self.num_candidates > 1 else ""
        accuracy = f", accuracy {look.validation_accuracy:.3f}" if look.validation_accuracy is not None else ""
        losses = f"loss {look.training_loss:.3f}, validation loss {look.validation_loss:.3f}"
        pace = f"{look.tokens_per_second:,.0f} tokens/s, {self.seconds_left:.0f} s left"
        return f"{which}step {look.step}/{self.steps}: {losses}{accuracy}, {pace}"

    def facts(self) -> dict[str, float]:
        """The same for a program."""
        return {"alive": self.alive, "num_candidates": self.num_candidates, "seconds_left": round(self.seconds_left, 1)}
