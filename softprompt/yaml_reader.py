"""Read a YAML file into a `Document` and say what is wrong with it by file, line and key.

YAML 1.2 through ruamel.yaml: duplicate keys are refused by the parser; aliases and deep nesting are refused here, because a few
bytes of either can keep a parser busy for minutes; NaN, unknown keys and wrong types are refused by the schema.
"""

import difflib
import json
import re
from collections.abc import Iterable
from io import StringIO
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from softprompt.documents import Document, canonical_json
from softprompt.errors import InvalidRequest

MAX_YAML_BYTES = 256 * 1024
MAX_DEPTH = 20

Path = tuple[int | str, ...]
Model = TypeVar("Model", bound=Document)


def read_yaml(
    text: str, model: type[Model], *, source: str, error: type[InvalidRequest] = InvalidRequest, hint: str = ""
) -> Model:
    """Read a document strictly.

    Args:
        text: YAML.
        model: What it has to be.
        source: Where it comes from, for messages: a path, a packaged name, a URI.
        error: What is raised.
        hint: What to do about a key that is wrong.

    Raises:
        InvalidRequest: Or its subclass `error`: one message that names every wrong key with its line.
    """
    tree = _parse(text, source, error)
    try:
        return model.model_validate_json(canonical_json(_plain(tree)))
    except ValidationError as invalid:
        problems = [_problem(found, tree, model) for found in invalid.errors()]
    except ValueError as invalid:
        problems = [(1, "", str(invalid))]
    raise error("\n".join([f"{source} is not valid.", *(_sentence(source, *problem) for problem in sorted(problems))]), hint=hint)


def _parse(text: str, source: str, error: type[InvalidRequest]) -> CommentedMap:
    """YAML text to a mapping that remembers lines."""
    if len(text) > MAX_YAML_BYTES:
        raise error("A YAML file is larger than it may be.", where=source, expected=f"<= {MAX_YAML_BYTES} bytes")
    try:
        _check_events(text, source, error)
        tree = YAML(typ="rt", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as invalid:
        raise error("This is not valid YAML.", where=_place(invalid, source), actual=_first_line(invalid)) from None
    if not isinstance(tree, CommentedMap):
        raise error("The file has to be a mapping of keys to values.", where=source, actual=type(tree).__name__)
    return tree


def _check_events(text: str, source: str, error: type[InvalidRequest]) -> None:
    """Refuse aliases and deep nesting while they are read."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(StringIO(text)):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if isinstance(event, AliasEvent):
            raise error("YAML aliases (*name) are not read here.", where=source, hint="Write the value out.")
        if depth > MAX_DEPTH:
            raise error("The file is nested too deeply.", where=source, expected=f"<= {MAX_DEPTH} levels")


def _plain(tree: Any) -> Any:
    """Comment-carrying nodes to plain values; dates and other YAML types to the text they were written as."""
    if isinstance(tree, CommentedMap):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, CommentedSeq):
        return [_plain(value) for value in tree]
    if isinstance(tree, float) and (tree != tree or tree in (float("inf"), float("-inf"))):
        return f"{tree}"  # refused by the schema, as a wrong type with its key's path
    return json.loads(json.dumps(tree, default=str))


def _problem(found: Any, tree: CommentedMap, model: type[Document]) -> tuple[int, str, str]:
    """One pydantic error as (line, key path, sentence)."""
    path = _written_path(found["loc"], tree)
    sentence = re.sub(r"^Value error, ", "", found["msg"])
    named = re.match(r"([\w.]+): (.*)", sentence, re.DOTALL)
    if found["type"] == "value_error" and named:
        path, sentence = (*path, *(int(part) if part.isdigit() else part for part in named[1].split("."))), named[2]
    if found["type"] == "extra_forbidden":
        sentence = "unknown key" + _suggestion(str(path[-1]), path[:-1], model)
    elif found["type"] == "missing":
        sentence = "is missing"
    elif found["type"] != "value_error":
        sentence = f"{sentence[0].lower()}{sentence[1:]}, got {_shown(found.get('input'))}"
    return _line(path, tree), ".".join(map(str, path)), sentence


def _sentence(source: str, line: int, path: str, sentence: str) -> str:
    return f"  {source}:{line}: " + (f"{path}: " if path else "") + sentence


def _written_path(loc: Path, tree: Any) -> Path:
    """A pydantic location without the tags of discriminated unions, which the person who wrote the file did not write."""
    path: list[int | str] = []
    node, tagged = tree, False
    for part in loc:
        tags = (node.get("method"), node.get("kind", "metric")) if isinstance(node, CommentedMap) else ()
        if part in tags and not tagged and (part == node.get("method") or path[:1] == ["gates"]):
            tagged = True
            continue
        path.append(part)
        node, tagged = (node[part] if _has(node, part) else None), False
    return tuple(path)


def _suggestion(key: str, parents: Path, top: type[Document]) -> str:
    model: Any = top
    for part in parents:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation if part in model.model_fields else None
    known: Iterable[str] = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else ()
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known keys: {', '.join(known)}" if known else ""


def _line(path: Path, tree: Any) -> int:
    """1-based line of a key, or of its nearest parent that is there."""
    node, line = tree, 1
    for part in path:
        if not _has(node, part):
            break
        position = node.lc.data.get(part) if node.lc.data else None
        line = position[0] + 1 if position else line
        node = node[part]
    return line


def _has(node: Any, part: int | str) -> bool:
    if isinstance(node, CommentedMap):
        return part in node
    return isinstance(node, CommentedSeq) and isinstance(part, int) and 0 <= part < len(node)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _place(error: Exception, source: str) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{source}:{mark.line + 1}" if mark is not None else source


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or error).strip().splitlines()[0]
