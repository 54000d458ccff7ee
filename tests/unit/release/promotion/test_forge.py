"""Which forge a remote is on, and what opens a pull request there; the forges' programs are stood in for by scripts."""

import json
import os
import subprocess

import pytest

from softprompt.errors import GitUnavailable, InvalidRequest
from softprompt.release.promotion.forge import Forge, forge_of, open_pull_request


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    return folder


def remote(repository, address):
    subprocess.run(["git", "-C", str(repository), "remote", "add", "origin", address], check=True)
    return forge_of(repository)


@pytest.mark.parametrize(
    ("address", "kind", "web"),
    [
        ("https://github.com/acme/prompts.git", "github", "https://github.com/acme/prompts"),
        ("git@github.com:acme/prompts.git", "github", "https://github.com/acme/prompts"),
        ("ssh://git@github.acme.example:2222/acme/prompts", "github", "https://github.acme.example/acme/prompts"),
        ("https://token:x@gitlab.com/acme/team/prompts.git", "gitlab", "https://gitlab.com/acme/team/prompts"),
        ("git@gitlab.acme.example:team/prompts.git", "gitlab", "https://gitlab.acme.example/team/prompts"),
        ("https://git.acme.example/prompts.git", "", ""),
        ("https://notgithub.example/prompts.git", "", ""),
        ("/srv/git/prompts.git", "", ""),
    ],
)
def test_the_host_says_which_forge(repository, address, kind, web):
    forge = remote(repository, address)
    assert (forge.kind, forge.address, forge.remote) == (kind, web, "origin")


def test_what_is_shown_can_be_copied(repository):
    lines = remote(repository, "git@github.com:acme/prompts.git").shown("promote/staging/a-1", "main", "A title")
    assert lines == [
        "git push --set-upstream origin promote/staging/a-1",
        "gh pr create --fill --head promote/staging/a-1",
        "or https://github.com/acme/prompts/compare/promote/staging/a-1?expand=1",
    ]
    assert Forge("gitlab", "origin", "https://gitlab.com/a/b").shown("x/y", "main", "t")[1:] == [
        "glab mr create --fill --source-branch x/y",
        "or https://gitlab.com/a/b/-/merge_requests/new?merge_request%5Bsource_branch%5D=x%2Fy",
    ]
    assert Forge("", "", "").shown("x", "main", "t") == ["the repository has no remote: push the branch to where it is reviewed"]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """`gh` and `glab` that write down how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("gh", "glab"):
        script = folder / name
        script.write_text(
            "#!/usr/bin/env python3\nimport json, os, sys\n"
            f"json.dump({{'arguments': sys.argv[1:], 'input': sys.stdin.read(), 'folder': os.getcwd()}}, "
            f"open({str(folder)!r} + '/{name}.json', 'w'))\n"
            "print('https://example/pull/7')\nsys.exit(int(os.environ.get('FAIL', '0')))\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize(("kind", "program", "body"), [("github", "gh", "input"), ("gitlab", "glab", "arguments")])
def test_opening_pushes_and_calls_the_forges_program(repository, programs, tmp_path, kind, program, body):
    target = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(target)], check=True)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "branch", "promote/x"], check=True)
    subprocess.run([*git, "config", f"url.{target}.insteadOf", f"https://{kind}.com/acme/prompts"], check=True)
    forge = remote(repository, f"https://{kind}.com/acme/prompts")
    assert forge.kind == kind
    assert open_pull_request(forge, repository, "promote/x", "main", "A title", "the body").endswith("/pull/7")
    pushed = subprocess.run(["git", "-C", str(target), "branch"], capture_output=True, text=True, check=True).stdout
    assert "promote/x" in pushed
    called = json.loads((programs / f"{program}.json").read_text())
    assert {"promote/x", "main", "A title"} <= set(called["arguments"])
    assert "the body" in called[body]
    assert called["folder"] == str(repository)


def test_without_program_or_forge_nothing_is_pushed(repository, monkeypatch):
    monkeypatch.setenv("PATH", os.path.dirname(subprocess.check_output(["which", "git"], text=True).strip()))
    forge = remote(repository, "https://github.com/acme/prompts")
    for one in (forge, Forge("", "origin", "")):
        with pytest.raises(InvalidRequest, match="cannot be opened from here"):
            open_pull_request(one, repository, "promote/x", "main", "t", "b")


def test_a_push_that_fails_is_told(repository, programs):
    nowhere = ["config", "url./nowhere/at/all.insteadOf", "https://github.com/acme/prompts"]
    subprocess.run(["git", "-C", str(repository), *nowhere], check=True)
    forge = remote(repository, "https://github.com/acme/prompts")
    with pytest.raises(GitUnavailable, match="push did not work"):
        open_pull_request(forge, repository, "no-such-branch", "main", "t", "b")
    assert not (programs / "gh.json").exists()
