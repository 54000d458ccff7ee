"""Fill a page template. Everything is escaped unless it is markup that we made."""

import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def write_page(path: Path, template: str, **content: Any) -> None:
    """Write a self-contained HTML page, complete or not at all.

    Args:
        path: File to write.
        template: Name of a template in this folder, without its endings.
        **content: The template's variables; missing ones raise.
    """
    environment = Environment(
        loader=PackageLoader("softprompt.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "short": short, "p_value": p_value}
    text = environment.get_template(f"{template}.html.j2").render(**content)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def number(value: float) -> str:
    """Three decimals for fractions, thousands separated for counts."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * value:.1f} %"


def p_value(value: float) -> str:
    """Three decimals; smaller ones are no more exact than that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest[:12]
