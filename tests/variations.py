"""The same job or recipe with other keys of `training`."""

from dataclasses import replace

from softprompt.recipe import Recipe
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import Job


def job_with(job: Job, **training: object) -> Job:
    """A job whose recipe says otherwise; its base and rows are the same."""
    return replace(job, recipe=_recipe_with(job.recipe, training))


def resolved_with(resolved: ResolvedRecipe, **training: object) -> ResolvedRecipe:
    """A resolved recipe that says otherwise."""
    return resolved.model_copy(update={"recipe": _recipe_with(resolved.recipe, training)})


def _recipe_with(recipe: Recipe, training: dict[str, object]) -> Recipe:
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})
