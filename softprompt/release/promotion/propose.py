"""Propose a change of a channel: edit a name's file and commit that on a branch, without touching anybody's work tree.

The edit is made in a temporary worktree, so a checkout with changes of somebody's own stays as it is, and hooks and signing of
commits work as they do for every other commit. Nothing is pushed.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from softprompt.errors import InvalidRequest, SoftpromptError
from softprompt.release.planning.policy import read_policy
from softprompt.release.promotion.checkout import Checkout, run_git
from softprompt.release.promotion.plan_report import ChannelPlan

ENVIRONMENTS = "environments"
"""Folder of the promotion repository that holds the channels."""


@dataclass(frozen=True)
class Proposed:
    """A branch with one commit that changes one name's file."""

    branch: str
    """Empty: the file says it already."""
    commit: str
    target: str
    """Branch that it is meant to be merged into."""
    plan: ChannelPlan
    """What merging it would do."""


def propose_change(
    repository: Path,
    channel: str,
    name: str,
    edit: Callable[[str, str], str],
    *,
    branch: str,
    title: str,
    body: str,
    base: str = "",
    plan: Callable[[Path], ChannelPlan],
) -> Proposed:
    """Commit an edit of a name's file on a branch of its own.

    Args:
        repository: Any folder of the promotion repository's checkout.
        channel: Whose file.
        name: Which file.
        edit: (the file's text, its path for messages) -> its new text; the text is empty if there is no file.
        branch: To make; one with the same change is taken as it is.
        title: Of the commit and the pull request.
        body: The commit's message below the title.
        base: Commit or branch to start from; empty: the remote's main branch as it was fetched last, else what is checked out.
        plan: Given `environments/` of the new commit, what merging it would do.

    Raises:
        InvalidRequest: No repository, no such channel in it, a file that is wrong, or another branch of that name.
    """
    root = Checkout(repository).root
    start, target = _start(root, base)
    with _worktree(root, start) as folder:
        read_policy(folder / ENVIRONMENTS, channel)
        file = folder / ENVIRONMENTS / channel / f"{name}.yaml"
        before = file.read_text() if file.is_file() else ""
        after = edit(before, f"{ENVIRONMENTS}/{channel}/{name}.yaml")
        if after == before:
            return Proposed("", start, target, _planned(plan, folder, channel))
        file.write_text(after)
        tree = Checkout(folder)
        tree.git("add", "--", str(file))
        tree.git("commit", "--quiet", "-m", title, "-m", body)
        commit = tree.git("rev-parse", "HEAD")
        planned = _planned(plan, folder, channel)
        return Proposed(branch, _keep(root, branch, commit), target, planned)


def _planned(plan: Callable[[Path], ChannelPlan], folder: Path, channel: str) -> ChannelPlan:
    """A plan that cannot be made does not undo the commit; it is told."""
    try:
        return plan(folder / ENVIRONMENTS)
    except SoftpromptError as error:
        return ChannelPlan.failure(channel, error)


def _start(root: Path, base: str) -> tuple[str, str]:
    """The commit to start from, and the name of the branch to merge into."""
    tree = Checkout(root)
    remote = run_git(root, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD").stdout.strip()
    current = run_git(root, "symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
    chosen = base or remote or "HEAD"
    target = (base or remote).removeprefix("origin/") or current or "main"
    return tree.git("rev-parse", "--verify", f"{chosen}^{{commit}}"), target


def _keep(root: Path, branch: str, commit: str) -> str:
    """Make the branch, unless it is there with the very same change; returns its commit."""
    tree = Checkout(root)
    there = run_git(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").stdout.strip()
    if not there:
        tree.git("branch", "--no-track", branch, commit)
        return commit
    same = [tree.git("rev-parse", f"{one}^{{tree}}", f"{one}^") for one in (there, commit)]
    if same[0] != same[1]:
        raise InvalidRequest(
            "There is a branch of this name with another change.",
            where=branch,
            actual=there[:12],
            hint=f"Delete it (`git branch -D {branch}`), or give another name with --branch.",
        )
    return there


@contextmanager
def _worktree(root: Path, commit: str) -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="softprompt-propose-"))
    folder = parent / "tree"
    try:
        Checkout(root).git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        yield folder
    finally:
        run_git(root, "worktree", "remove", "--force", str(folder))
        shutil.rmtree(parent, ignore_errors=True)
        run_git(root, "worktree", "prune")
