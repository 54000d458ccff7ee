"""A Git checkout of `environments/`, through the program git: which commit it is, and what that commit follows.

Git asks nobody anything here (no prompt for a password), and is given up on after a while. What the files of a checkout
say is `policy`'s business.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from softprompt.errors import GitUnavailable, InvalidRequest

GIT_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Checkout:
    """A folder in a Git checkout."""

    folder: Path

    def commit(self) -> str:
        """The commit that is checked out, if the folder holds all of it and nothing else, with its whole history.

        Raises:
            InvalidRequest: No checkout, changes that are in no commit, or a shallow clone.
        """
        commit = self.git("rev-parse", "HEAD")
        if self.git("rev-parse", "--is-shallow-repository") == "true":
            raise InvalidRequest(
                "This is a shallow clone, so nobody can say which commits its own one follows.",
                where=str(self.folder),
                hint="Run `git fetch --unshallow`; in GitHub's actions/checkout set `fetch-depth: 0`, in GitLab `GIT_DEPTH: 0`.",
            )
        changed = self.git("status", "--porcelain", "--untracked-files=all", "--", ".")
        if changed:
            raise InvalidRequest(
                "The checkout has changes that are in no commit.",
                where=str(self.folder),
                actual=changed,
                hint="Commit or undo them.",
            )
        return commit

    def follows(self, before: str, now: str) -> bool:
        """Whether a commit is another's descendant, or the same; one that is not there is nobody's ancestor."""
        return run_git(self.folder, "merge-base", "--is-ancestor", before, now).returncode == 0

    def changed_channels(self, since: str) -> tuple[str, ...]:
        """Folders right below this one in which something differs from where this commit and `since` parted, sorted.

        Raises:
            InvalidRequest: There is no such commit here.
        """
        found = self.git("diff", "--name-only", "--relative", f"{since}...HEAD", "--", ".")
        return tuple(sorted({line.split("/")[0] for line in found.splitlines() if "/" in line}))

    def touched(self, before: str, now: str, folder: str) -> bool:
        """Whether a commit after `before`, up to `now`, changed something in a folder below this one, undone later or not."""
        return bool(self.git("log", "-1", "--full-history", "--format=%H", f"{before}..{now}", "--", folder))

    @property
    def root(self) -> Path:
        """The checkout's top folder."""
        return Path(self.git("rev-parse", "--show-toplevel"))

    def git(self, *arguments: str) -> str:
        """What git prints. InvalidRequest: it refused, for its own reason."""
        done = run_git(self.folder, *arguments)
        if done.returncode != 0:
            known = run_git(self.folder, "rev-parse", "--git-dir").returncode == 0
            what = f"git {arguments[0]} did not work." if known else "This is not a Git checkout."
            raise InvalidRequest(what, where=str(self.folder), actual=done.stderr.strip() or done.stdout.strip())
        return done.stdout.strip()


def check_order(checkout: Checkout, before: str, now: str) -> None:
    """Refuse to publish a commit over a channel that was published from one that it does not follow.

    Args:
        checkout: With its history.
        before: Commit of the channel's newest generation; empty: none.
        now: The commit to publish.

    Raises:
        InvalidRequest: It does not follow.
    """
    if before and not checkout.follows(before, now):
        raise InvalidRequest(
            "The channel was published from a commit that this checkout does not follow.",
            where=str(checkout.folder),
            expected=f"a commit after {before}",
            actual=now,
            hint="Update the checkout: `git pull`, or merge the main branch into this one.",
        )


def run_git(
    folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> "subprocess.CompletedProcess[str]":
    """Run git in a folder; its exit code and what it said are the caller's.

    Args:
        folder: Where.
        arguments: The command.
        environment: What it sees beside this process's own.

    Raises:
        InvalidRequest: git is not installed.
        GitUnavailable: It did not come to an end.
    """
    quiet = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8", "GIT_OPTIONAL_LOCKS": "0"}
    command: Sequence[str] = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(
            command,
            env={**os.environ, **environment, **quiet},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_TIMEOUT_SECONDS,
        )
    except FileNotFoundError:
        raise InvalidRequest("The program git is not installed.", hint="Install git.") from None
    except subprocess.TimeoutExpired:
        raise GitUnavailable(
            "Git did not come to an end.",
            where=f"{folder}, git {arguments[0]}",
            actual=f"nothing after {GIT_TIMEOUT_SECONDS:.0f} s",
            hint="Is the remote reachable from here?",
        ) from None


def without_credentials(remote: str) -> str:
    """A remote's address without user and password, for messages."""
    parts = urlsplit(remote)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "://" in remote else remote
