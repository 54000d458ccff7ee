"""A change on a branch of its own: nobody's work tree is touched, and the same again is the same branch."""

import os
import subprocess

import pytest

from softprompt.errors import InvalidRequest, StoreUnavailable
from softprompt.release.promotion.plan_report import ChannelPlan
from softprompt.release.promotion.propose import propose_change

IDENTITY = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture
def git(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)

    def run(*arguments, check=True):
        done = subprocess.run(["git", "-C", str(folder), *arguments], check=check, capture_output=True, text=True)
        return done.stdout.strip()

    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    (folder / "environments" / "staging").mkdir(parents=True)
    (folder / "environments" / "staging" / "_policy.yaml").write_text("schema_version: 1\nauthority: git\n")
    run("add", "-A")
    run("commit", "-q", "-m", "begin")
    run.folder = folder
    return run


def change(git, text="schema_version: 1\nremoved: true\n", **changes):
    given = {"branch": "promote/x", "title": "A title", "body": "the body"}
    given["plan"] = lambda environments: ChannelPlan(
        channel="staging", outcome="change", commit=str(len(list(environments.iterdir())))
    )
    return propose_change(git.folder, "staging", "greeting", lambda before, _: text, **(given | changes))


def test_a_dirty_tree_stays_as_it_is(git):
    (git.folder / "environments" / "staging" / "_policy.yaml").write_text("half written")
    (git.folder / "environments" / "staging" / "greeting.yaml").write_text("mine, not committed")
    git("add", "environments/staging/_policy.yaml")
    before = git("status", "--porcelain"), git("stash", "list"), git("rev-parse", "HEAD"), git("branch", "--show-current")
    made = change(git)
    assert before == (
        git("status", "--porcelain"),
        git("stash", "list"),
        git("rev-parse", "HEAD"),
        git("branch", "--show-current"),
    )
    assert git("show", f"{made.branch}:environments/staging/greeting.yaml") == "schema_version: 1\nremoved: true"
    assert git("diff", "--name-only", "main", made.branch) == "environments/staging/greeting.yaml"
    assert git("log", "-1", "--format=%B", made.branch) == "A title\n\nthe body"
    assert git("worktree", "list").count("\n") == 0, "the temporary one is gone"


def test_the_same_again_is_the_same_branch_and_another_change_is_refused(git):
    made = change(git)
    assert change(git) == made
    with pytest.raises(InvalidRequest, match="another change"):
        change(git, "schema_version: 1\nremoved: true\npinned: true\n")
    assert change(git, "schema_version: 1\nremoved: true\npinned: true\n", branch="promote/y").branch == "promote/y"


def test_what_is_so_already_makes_no_branch(git):
    made = change(git)
    git("merge", "-q", made.branch)
    assert change(git, branch="promote/again").branch == ""
    assert "promote/again" not in git("branch")


def test_it_starts_from_the_remotes_main_branch_as_it_was_fetched(git, tmp_path):
    clone = tmp_path / "clone"
    git("clone", "-q", str(git.folder), str(clone))
    subprocess.run(["git", "-C", str(clone), "commit", "-q", "--allow-empty", "-m", "mine alone"], check=True)
    made = propose_change(
        clone, "staging", "greeting", lambda *_: "schema_version: 1\nremoved: true\n",
        branch="b", title="t", body="b", plan=lambda _: ChannelPlan(channel="staging", outcome="unchanged"),
    )  # fmt: skip
    parent = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "b^"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert (parent, made.target) == (git("rev-parse", "main"), "main")
    assert change(git, base="main").target == "main"
    with pytest.raises(InvalidRequest, match="git rev-parse did not work"):
        change(git, base="nowhere")


def test_a_plan_that_cannot_be_made_keeps_the_commit(git):
    def away(_):
        raise StoreUnavailable("It is away.")

    made = change(git, plan=away)
    assert (made.plan.outcome, made.branch) == ("failed", "promote/x")
    assert "It is away." in made.plan.reasons[0]


def test_a_hook_that_refuses_leaves_nothing(git):
    hook = git.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not on Fridays' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(InvalidRequest, match="not on Fridays"):
        change(git)
    assert (git("branch"), git("worktree", "list").count("\n")) == ("* main", 0)


def test_a_channel_that_the_repository_does_not_have_is_named(git, tmp_path):
    with pytest.raises(InvalidRequest, match="no policy"):
        propose_change(git.folder, "moon", "greeting", lambda *_: "x", branch="b", title="t", body="b", plan=None)
    with pytest.raises(InvalidRequest, match="not a Git checkout"):
        propose_change(tmp_path, "staging", "greeting", lambda *_: "x", branch="b", title="t", body="b", plan=None)
    assert os.listdir(git.folder / "environments") == ["staging"]
