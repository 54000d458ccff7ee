"""Rules that a generated text must keep, whatever the right answer is: a format, and phrases."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from softprompt.errors import InvalidRecipe
from softprompt.evaluation.observations import Floats
from softprompt.recipe.evaluation import EvaluationSpec, FormatSpec

REGEX_SECONDS = 1.0
"""Longest time for one text; a good expression takes microseconds."""


def format_valid(outputs: Sequence[str], spec: FormatSpec) -> Floats:
    """`[n]`, 1 where a text keeps every rule, white space around it aside.

    Raises:
        InvalidRecipe: The schema is none, or the regular expression takes too long for a text.
    """
    rules = [rule for rule in (_matches(spec.regex), _accepts(spec.json_schema)) if rule]
    return np.array([all(rule(text.strip()) for rule in rules) for text in outputs], dtype=float)


def phrases_kept(outputs: Sequence[str], spec: EvaluationSpec) -> Floats:
    """`[n]`, 1 where a text has every required phrase and no forbidden one, upper and lower case alike."""
    required, forbidden = (
        [phrase.casefold() for phrase in phrases] for phrases in (spec.required_phrases, spec.forbidden_phrases)
    )
    texts = [text.casefold() for text in outputs]
    kept = [all(p in text for p in required) and not any(p in text for p in forbidden) for text in texts]
    return np.array(kept, dtype=float)


def _matches(pattern: str) -> Callable[[str], bool] | None:
    """The whole text matches; with a time limit, since some expressions take longer than a life for some texts."""
    if not pattern:
        return None
    import regex

    compiled = regex.compile(pattern)

    def matches(text: str) -> bool:
        try:
            return compiled.fullmatch(text, timeout=REGEX_SECONDS) is not None
        except TimeoutError:
            raise InvalidRecipe(
                f"The regular expression takes longer than {REGEX_SECONDS:g} s for a text of {len(text)} characters.",
                where="evaluation.format.regex",
                actual=pattern,
                hint="Nested repetitions such as (a+)+ try every way to split a text; write it without, or possessive: (a++)+.",
            ) from None

    return matches


def _accepts(schema: dict[str, Any] | None) -> Callable[[str], bool] | None:
    """The text is JSON that the schema accepts. Nothing is fetched for it."""
    if schema is None:
        return None
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
        validator = kind(schema, registry=Registry())
    except SchemaError as error:
        raise InvalidRecipe("The JSON Schema is none.", where="evaluation.format.json_schema", actual=error.message) from None

    def accepts(text: str) -> bool:
        try:
            return bool(validator.is_valid(_strict_json(text)))
        except Unresolvable as error:
            raise InvalidRecipe(
                "The JSON Schema refers to one that is not inside it.",
                where="evaluation.format.json_schema",
                actual=str(error),
                hint="Put it under $defs.",
            ) from None
        except (ValueError, RecursionError):
            return False

    return accepts


def _strict_json(text: str) -> Any:
    """JSON as RFC 8259 has it: no NaN, no Infinity."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)
