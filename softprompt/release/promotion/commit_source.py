"""What a promotion repository says about the commit that a generation was computed from."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from softprompt.errors import InvalidRequest
from softprompt.release.planning.policy import Desired
from softprompt.release.promotion.checkout import run_git
from softprompt.yaml_reader import read_yaml

_REQUESTS = (
    re.compile(r"^Merge pull request (#\d+)", re.MULTILINE),
    re.compile(r"See merge request (\S+!\d+)"),
    re.compile(r"\A[^\n]*\((#\d+)\)$", re.MULTILINE),
)
"""How GitHub writes a merge, GitLab one, and GitHub a squash."""


@dataclass(frozen=True)
class FoundCommit:
    """A commit, and how a prompt came to it."""

    standing: Literal["verified", "missing", "contradicted"]
    how: str
    merge: str = ""
    """The commit on the main line that brought the prompt in."""
    request: str = ""
    """Number of the pull or merge request, as that commit's message has it."""


class CommitSource:
    """A checkout of a promotion repository.

    Args:
        environments: The folder in it that holds `<channel>/`.
    """

    def __init__(self, environments: Path) -> None:
        self._folder = environments

    def find(self, channel: str, names: list[str], digest: str, commit: str) -> FoundCommit:
        """Whether a commit really asks for a prompt, and which merge brought that in.

        Raises:
            InvalidRequest: git is not installed.
        """
        if run_git(self._folder, "cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
            return FoundCommit("missing", f"no such commit in {self._folder}; fetch its history")
        file = next((file for name in names if self._asks(file := f"./{channel}/{name}.yaml", digest, commit)), "")
        if not file:
            return FoundCommit("contradicted", "no file of the channel asks for this prompt at that commit")
        search = ("log", "-1", "--first-parent", "-m", f"-S{digest}", "--format=%H%n%B", commit, "--", file)
        merge, _, message = run_git(self._folder, *search).stdout.partition("\n")
        request = next((match[1] for form in _REQUESTS if (match := form.search(message))), "")
        return FoundCommit("verified", f"{file[2:]} asks for it at that commit", merge.strip(), request)

    def _asks(self, file: str, digest: str, commit: str) -> bool:
        shown = run_git(self._folder, "show", f"{commit}:{file}")
        try:
            shares = read_yaml(shown.stdout, Desired, source=file).shares if shown.returncode == 0 else ()
        except InvalidRequest:
            return False
        return digest in (share.prompt for share in shares)
