"""What pages of the documentation tell people to type and to save."""

import re


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page in a language, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
