"""The clone that a reconciler keeps: always the newest commit, whatever happened to it."""

import os
import shutil
import subprocess

import pytest

from softprompt.errors import GitUnavailable
from softprompt.release.promotion.mirror import Mirror

IDENTITY = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Remote:
    def __init__(self, folder):
        self.folder = folder
        subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
        self.commit("first")

    def git(self, *arguments):
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, env=os.environ | IDENTITY, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, text, file="environments/staging/greeting.yaml"):
        (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / file).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def remote(tmp_path):
    return Remote(tmp_path / "remote")


@pytest.fixture
def mirror(remote, tmp_path):
    return Mirror(f"file://{remote.folder}", "main", tmp_path / "state" / "clone")


def text(folder):
    return (folder / "environments" / "staging" / "greeting.yaml").read_text()


def head(folder):
    return subprocess.check_output(["git", "-C", str(folder), "rev-parse", "HEAD"], text=True).strip()


def test_it_follows_the_branch_with_its_whole_history(remote, mirror):
    assert text(mirror.update()) == "first"
    commit = remote.commit("second")
    folder = mirror.update()
    assert (text(folder), head(folder)) == ("second", commit)
    assert subprocess.check_output(["git", "-C", str(folder), "rev-list", "--count", "HEAD"], text=True).strip() == "2"
    remote.git("checkout", "-q", "-b", "other")
    remote.commit("not on main")
    assert text(mirror.update()) == "second"


def test_what_somebody_left_in_it_goes(remote, mirror):
    folder = mirror.update()
    (folder / "environments" / "staging" / "greeting.yaml").write_text("tampered")
    (folder / "environments" / "staging" / "other.yaml").write_text("stray")
    folder = mirror.update()
    assert (text(folder), (folder / "environments" / "staging" / "other.yaml").exists()) == ("first", False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder / ".git" / "objects"),
        lambda folder: (folder / ".git" / "index.lock").touch(),
        lambda folder: (folder / ".git" / "index").write_bytes(b"junk"),
        lambda folder: (folder / ".git" / "HEAD").unlink(),
        lambda folder: shutil.rmtree(folder),
        lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / ".git").mkdir()),
    ],
    ids=["no objects", "a lock that was left", "a broken index", "no HEAD", "gone", "half a clone"],
)
def test_a_damaged_clone_is_mended_within_two_rounds(remote, mirror, damage):
    folder = mirror.update()
    damage(folder)
    commit = remote.commit("second")
    try:
        folder = mirror.update()
    except GitUnavailable:
        folder = mirror.update()
    assert (text(folder), head(folder)) == ("second", commit)


def test_a_rewritten_branch_is_followed_too(remote, mirror):
    remote.commit("second")
    mirror.update()
    remote.git("reset", "-q", "--hard", "HEAD~1")
    other = remote.commit("other second")
    assert head(mirror.update()) == other


def test_another_remote_is_cloned_anew(remote, mirror, tmp_path):
    folder = mirror.update()
    other = Remote(tmp_path / "other")
    other.commit("of the other")
    assert text(Mirror(str(other.folder), "main", folder).update()) == "of the other"


def test_a_remote_that_is_away_or_lacks_the_branch_is_an_error_without_secrets(remote, mirror, tmp_path):
    mirror.update()
    away = Mirror("https://user:s3cret@127.0.0.1:9/prompts.git", "main", tmp_path / "away")
    with pytest.raises(GitUnavailable) as caught:
        away.update()
    assert "s3cret" not in str(caught.value)
    assert "https://127.0.0.1:9/prompts.git, branch main" in str(caught.value)
    with pytest.raises(GitUnavailable, match="git fetch did not work"):
        Mirror(str(remote.folder), "nowhere", tmp_path / "nowhere").update()


def test_a_link_in_the_repository_reads_no_file_of_this_machine(remote, mirror, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (remote.folder / "environments" / "staging" / "link.yaml").symlink_to(secret)
    remote.git("add", "-A")
    remote.git("commit", "-q", "-m", "link")
    link = mirror.update() / "environments" / "staging" / "link.yaml"
    assert not link.is_symlink()
    assert link.read_text() == str(secret)
