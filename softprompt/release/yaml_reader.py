"""Read the YAML files of a channel strictly, and name what is wrong by file, line and key."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from softprompt.documents import Document, canonical_json
from softprompt.errors import InvalidRecipe, InvalidRequest
from softprompt.recipe_reader import parse_yaml
from softprompt.release.durable import read_if_there

_Model = TypeVar("_Model", bound=Document)


def read_yaml_file(path: Path, model: type[_Model]) -> _Model:
    """A document from a YAML file.

    Raises:
        InvalidRequest: One message that names every wrong key with its line.
    """
    try:
        text = (read_if_there(path) or b"").decode("utf-8")
        tree = parse_yaml(text, source=str(path))
    except UnicodeDecodeError as error:
        raise InvalidRequest("A file is not UTF-8.", where=str(path), actual=str(error)) from None
    except InvalidRecipe as error:  # the parser is the recipe's, and speaks of recipes
        what = error.what.replace("A recipe", "A channel's file").replace("The recipe", "A channel's file")
        raise InvalidRequest(
            what, where=error.where, expected=error.expected, actual=error.actual, hint=error.hint
        ) from None
    try:
        # Dates and other YAML types become text, which the schema then judges; NaN is refused by canonical_json.
        return model.model_validate_json(canonical_json(json.loads(json.dumps(tree, default=str))))
    except ValidationError as error:
        problems = sorted((_line(found["loc"], tree), _sentence(found)) for found in error.errors())
    except ValueError as error:
        problems = [(1, str(error))]
    raise InvalidRequest(
        "\n".join(["A channel's file is not valid.", *(f"  {path}:{line}: {text}" for line, text in problems)])
    )


def _sentence(found: Any) -> str:
    path = ".".join(str(part) for part in found["loc"] if part != "[key]") or "(top)"
    if found["type"] == "extra_forbidden":
        return f"{path}: unknown key"
    if found["type"] == "missing":
        return f"{path}: is missing"
    if found["type"] == "value_error":
        return str(found["msg"].removeprefix("Value error, "))
    message = found["msg"]
    return f"{path}: {message[0].lower()}{message[1:]}, got {json.dumps(found.get('input'), default=str)[:60]}"


def _line(path: tuple[int | str, ...], tree: Any) -> int:
    """1-based line of a key, or of its nearest parent that is there."""
    node, line = tree, 1
    for part in path:
        positions = getattr(getattr(node, "lc", None), "data", None) or {}
        if part not in positions:
            break
        line = positions[part][0] + 1
        node = node[part]
    return line
