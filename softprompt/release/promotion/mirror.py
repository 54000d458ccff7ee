"""A clone of the promotion repository that a reconciler keeps: always the newest commit of one branch, or an error.

It holds nothing of its own, so whatever is wrong with it (a process killed in the middle, another remote, a full disk that was
emptied) is mended by cloning anew. How the remote is told who asks is `git_access`'s subject.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from softprompt.errors import GitUnavailable
from softprompt.release.promotion.checkout import run_git, without_credentials
from softprompt.release.promotion.git_access import git_environment

# Symbolic links become small files: a link in a repository must not make this machine read a file of its own.
_SAFE = ("-c", "core.symlinks=false", "-c", "core.hooksPath=/dev/null")


class Mirror:
    """The newest commit of a branch, as a work tree.

    Args:
        remote: Address of the repository, or a path.
        branch: To follow.
        folder: Of the clone; nobody else's.
        credentials: Folder of what the remote is shown; None: git's own means.
    """

    def __init__(self, remote: str, branch: str, folder: Path, credentials: Path | None = None) -> None:
        self._remote, self._branch, self._folder, self._credentials = remote, branch, folder, credentials

    def update(self) -> Path:
        """Fetch, and return the work tree.

        Raises:
            GitUnavailable: The remote does not answer, refuses, or has no such branch; the work tree is then not to be used.
            InvalidRequest: The credentials are not such.
        """
        access = git_environment(self._remote, self._credentials)
        self._ensure_clone()
        here = f"refs/remotes/origin/{self._branch}"
        try:
            self._run("fetch", "--quiet", "--no-tags", "--prune", "origin", f"+refs/heads/{self._branch}:{here}", access=access)
            self._run(*_SAFE, "checkout", "--quiet", "--force", "--detach", here)
            self._run("clean", "--quiet", "-ffdx")
        except GitUnavailable:
            if run_git(self._folder.parent, "ls-remote", self._remote, environment=access).returncode == 0:
                shutil.rmtree(self._folder, ignore_errors=True)  # the fault is the clone's, such as a lock that was left
            raise
        return self._folder

    def _ensure_clone(self) -> None:
        known = run_git(self._folder, "config", "--get", "remote.origin.url") if self._folder.is_dir() else None
        if known and known.returncode == 0 and known.stdout.strip() == self._remote and (self._folder / ".git").is_dir():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run("init", "--quiet")
        self._run("remote", "add", "origin", self._remote)

    def _run(self, *arguments: str, access: Mapping[str, str] = MappingProxyType({})) -> None:
        done = run_git(self._folder, *arguments, environment=access)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().replace(self._remote, without_credentials(self._remote))
            raise GitUnavailable(
                f"git {next(word for word in arguments if word.isalpha())} did not work.",
                where=f"{without_credentials(self._remote)}, branch {self._branch}",
                actual=said[-1000:],
                hint="Is the remote reachable from here, with the right to read it, and is there such a branch?",
            )
