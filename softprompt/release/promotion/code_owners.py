"""Who has to approve a change of a file: the repository's CODEOWNERS, as GitHub and GitLab read it.

The last line whose pattern fits counts. Patterns are .gitignore's without `!` and `[`, which neither forge takes. GitLab's
sections are refused: a file then has an owner of each section, and nothing here needs that.
https://docs.github.com/repositories/managing-your-repositorys-settings-and-features/customizing-your-repository/about-code-owners
"""

import re
from pathlib import Path

from softprompt.errors import InvalidRequest
from softprompt.release.durable import read_if_there

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS", ".gitlab/CODEOWNERS")
"""Where the forges look, the first that is there counts."""
MAX_BYTES = 1024 * 1024


def file_owners(repository: Path, file: str) -> tuple[str, ...]:
    """Who has to approve a change of a file; nobody if no line fits, or there is no CODEOWNERS.

    Args:
        repository: The checkout's top folder.
        file: Path in it, with `/`.

    Raises:
        InvalidRequest: CODEOWNERS has a line that cannot be read.
    """
    found: tuple[str, ...] = ()
    for pattern, owners in _rules(repository):
        if pattern.fullmatch(file):
            found = owners
    return found


def _rules(repository: Path) -> list[tuple[re.Pattern[str], tuple[str, ...]]]:
    for place in PLACES:
        data = read_if_there(repository / place)
        if data is not None:
            lines = data[:MAX_BYTES].decode("utf-8", "replace").splitlines()
            return [rule for number, line in enumerate(lines, 1) if (rule := _rule(line, f"{repository / place}:{number}"))]
    return []


def _rule(line: str, where: str) -> tuple[re.Pattern[str], tuple[str, ...]] | None:
    words = line.split("#")[0].split()
    if not words:
        return None
    if words[0].startswith(("!", "[", "^[")) or "\\" in words[0]:
        raise InvalidRequest("A line of CODEOWNERS is not one that is read here.", where=where, actual=line.strip())
    return _expression(words[0]), tuple(words[1:])


def _expression(pattern: str) -> re.Pattern[str]:
    """A path pattern as an expression over whole paths: a folder's pattern fits all that is in it."""
    anchored = "/" in pattern.rstrip("/")
    parts = {"**/": r"(?:[^/]+/)*", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    body = "".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/")))
    # As on GitHub, `docs/*` is the files right in it, and `docs` or `docs/` everything below.
    below = "/.*" if pattern.endswith("/") else "" if pattern.endswith("/*") else "(?:/.*)?"
    return re.compile(("" if anchored else r"(?:.*/)?") + body + below)
