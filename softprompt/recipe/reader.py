"""Read a recipe, and print its schema for editors."""

from typing import Any

from softprompt.errors import InvalidRecipe
from softprompt.recipe import Recipe
from softprompt.yaml_reader import read_yaml


def read_recipe(text: str, *, source: str) -> Recipe:
    """Read a recipe strictly.

    Args:
        text: YAML.
        source: Where it comes from, for messages: a path, a packaged name, a URI.

    Raises:
        InvalidRecipe: One message that names every wrong key with its line.
    """
    hint = "`softprompt schema` prints the schema; editors that know JSON Schema complete and check keys as you type."
    return read_yaml(text, Recipe, source=source, error=InvalidRecipe, hint=hint)


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "softprompt recipe", **schema}
