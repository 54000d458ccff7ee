"""Input templates as text: `"Message: {text}\\nAnswer:"` around a row's columns. Turning text into tokens is the engine's."""

import re

from softprompt.errors import InvalidRequest

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def template_fields(template: str) -> tuple[str, ...]:
    """Column names in a template, in order of first use.

    Raises:
        ValueError: A brace without a partner, or a field that is not a plain name.
    """
    found: dict[str, None] = {}
    for match in _FIELD.finditer(template):
        if match.group() in ("{{", "}}"):
            continue
        if match.group(1) is None:
            raise ValueError("a single brace; write {{ or }} for a brace that is text")
        if not re.fullmatch(r"\w+", match.group(1)):
            raise ValueError(f"{{{match.group(1)}}} is not a plain column name")
        found[match.group(1)] = None
    return tuple(found)


def fill_template(template: str, values: dict[str, str]) -> str:
    """Put values into a template in one pass, so that braces inside a value stay text.

    Raises:
        KeyError: A field of the template has no value.
    """

    def replacement(match: re.Match[str]) -> str:
        token = match.group()
        return token[0] if token in ("{{", "}}") else values[match.group(1)]

    return _FIELD.sub(replacement, template)


def values_for(template: str, given: str | dict[str, str]) -> dict[str, str]:
    """Values of a template's fields from what a client sent.

    Raises:
        InvalidRequest: A field is missing or unknown, or one text is given for several fields.
    """
    fields = template_fields(template)
    if isinstance(given, str) and len(fields) == 1:
        return {fields[0]: given}
    if isinstance(given, str) or set(given) != set(fields):
        raise InvalidRequest(
            "The input does not fit the prompt's template.",
            expected=f"values for {', '.join(fields)}",
            actual="one text" if isinstance(given, str) else f"values for {', '.join(given)}",
        )
    return given
