"""Where a repository's pull requests are opened: GitHub, GitLab or elsewhere, and with which commands."""

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from softprompt.errors import GitUnavailable, InvalidRequest
from softprompt.release.promotion.checkout import run_git

OPEN_TIMEOUT_SECONDS = 120.0
_REMOTE = re.compile(r"(?:[a-z+]+://)?(?:[^@/]+@)?(?P<host>[^:/]+)(?::\d+(?=/))?[:/](?P<path>.+?)(?:\.git)?/?")


@dataclass(frozen=True)
class Forge:
    """Where a branch becomes a pull request."""

    kind: Literal["github", "gitlab", ""]
    """Empty: none that is known, or the repository has no remote."""
    remote: str
    """Name of the remote; empty: there is none."""
    address: str
    """`https://host/path` of the project in the web; empty: unknown."""

    @property
    def program(self) -> str:
        """The forge's own command line."""
        return {"github": "gh", "gitlab": "glab", "": ""}[self.kind]

    def commands(self, branch: str, target: str, title: str) -> list[list[str]]:
        """What to run to open the pull request: push, and create it where a program for that exists."""
        push = ["git", "push", "--set-upstream", self.remote or "REMOTE", branch]
        create = {
            "github": ["gh", "pr", "create", "--head", branch, "--base", target, "--title", title, "--body-file", "-"],
            "gitlab": ["glab", "mr", "create", "--source-branch", branch, "--target-branch", target, "--title", title, "--yes"],
        }
        return [push, *([create[self.kind]] if self.kind else [])]

    def shown(self, branch: str, target: str, title: str) -> list[str]:
        """What to do by hand, a line each."""
        if not self.remote:
            return ["the repository has no remote: push the branch to where it is reviewed"]
        push, *create = self.commands(branch, target, title)
        by_hand = [f"or {self.page(branch)}"] if self.kind else ["then open it where the repository is hosted"]
        fill = {"github": "gh pr create --fill --head", "gitlab": "glab mr create --fill --source-branch", "": ""}[self.kind]
        return [shlex.join(push), *([f"{fill} {branch}"] if create else []), *by_hand]

    def page(self, branch: str) -> str:
        """Where a browser opens it once the branch is pushed; empty: unknown."""
        if self.kind == "github":
            return f"{self.address}/compare/{quote(branch)}?expand=1"
        if self.kind == "gitlab":
            return f"{self.address}/-/merge_requests/new?merge_request%5Bsource_branch%5D={quote(branch, safe='')}"
        return ""


def forge_of(repository: Path, remote: str = "origin") -> Forge:
    """The forge of a repository's remote, told from the name of its host."""
    # As it was written: `git remote get-url` would show where `insteadOf` leads.
    address = run_git(repository, "config", "--get", f"remote.{remote}.url").stdout.strip()
    if not address:
        return Forge("", "", "")
    found = _REMOTE.fullmatch(address)
    host = found["host"].lower() if found else ""
    kinds: tuple[Literal["github", "gitlab", ""], ...] = ("github", "gitlab", "")
    kind = next(kind for kind in kinds if not kind or re.search(rf"(^|[.-]){kind}([.-]|$)", host))
    return Forge(kind, remote, f"https://{host}/{found['path']}" if found and kind else "")


def open_pull_request(forge: Forge, repository: Path, branch: str, target: str, title: str, body: str) -> str:
    """Push a branch and open its pull request with the forge's own program; returns what that says, its address last.

    Raises:
        InvalidRequest: The forge is unknown, or its program is not installed.
        GitUnavailable: The push or the program failed.
    """
    if not forge.kind or not shutil.which(forge.program):
        raise InvalidRequest(
            "The pull request cannot be opened from here; the branch is there.",
            where=branch,
            expected=f"the program {forge.program}" if forge.kind else "a remote on GitHub or GitLab",
            hint="Push the branch and open the pull request in the browser.",
        )
    push, create = forge.commands(branch, target, title)
    _check(run_git(repository, *push[1:]), "push")
    extra = ["--description", body] if forge.kind == "gitlab" else []
    try:
        done = subprocess.run(
            [*create, *extra],
            cwd=repository,
            input=body if forge.kind == "github" else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=OPEN_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise GitUnavailable(f"{forge.program} did not come to an end.", where=branch) from None
    _check(done, forge.program)
    return done.stdout.strip()


def _check(done: "subprocess.CompletedProcess[str]", what: str) -> None:
    if done.returncode != 0:
        raise GitUnavailable(f"{what} did not work.", actual=(done.stderr or done.stdout).strip()[-1000:])
