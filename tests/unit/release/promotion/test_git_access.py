"""What a reconciler shows a Git remote: over HTTPS with a token, over SSH with keys, and never to anybody else."""

import os
import subprocess

import pytest

from softprompt.errors import GitUnavailable, InvalidRequest
from softprompt.release.promotion.git_access import authenticates, git_environment
from softprompt.release.promotion.mirror import Mirror
from tests.git_remotes import SSHD, https_remote, make_certificate, ssh_remote

TOKEN = "ghs_0123456789-first"
IDENTITY = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A folder with one bare repository, `prompts.git`."""
    folder = tmp_path_factory.mktemp("repositories")
    work = tmp_path_factory.mktemp("work")
    (work / "file").write_text("first")
    for command in ("init -q -b main", "add -A", "commit -q -m first", f"clone -q --bare . {folder}/prompts.git"):
        subprocess.run(["git", *command.split()], cwd=work, env=os.environ | IDENTITY, check=True)
    return folder


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"), "127.0.0.1")


@pytest.fixture
def secret(tmp_path, certificate):
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "password").write_text(TOKEN + "\n")
    (folder / "ca.crt").write_bytes(certificate.read_bytes())
    return folder


def mirror(url, tmp_path, secret, name="clone"):
    return Mirror(f"{url}/prompts.git", "main", tmp_path / name, secret)


def test_a_token_in_a_file_opens_an_https_remote_and_a_new_one_is_used_at_once(repositories, certificate, secret, tmp_path):
    with https_remote(repositories, certificate, TOKEN) as remote:
        clone = mirror(remote.url, tmp_path, secret)
        assert (clone.update() / "file").read_text() == "first"
        remote.token = "ghs_second"
        with pytest.raises(GitUnavailable) as refused:
            clone.update()
        assert TOKEN not in str(refused.value)
        (secret / "password").write_text("ghs_second")
        assert (clone.update() / "file").read_text() == "first"
    stored = "".join(path.read_text(errors="replace") for path in (tmp_path / "clone" / ".git").rglob("*") if path.is_file())
    assert "ghs_" not in stored
    assert "Basic" not in stored


def test_a_remote_with_another_certificate_gets_no_token(repositories, secret, tmp_path):
    other = make_certificate(tmp_path, "127.0.0.1")
    with https_remote(repositories, other, TOKEN) as remote, pytest.raises(GitUnavailable, match="certificate"):
        mirror(remote.url, tmp_path, secret).update()
    assert remote.asked == []


def test_a_redirect_is_not_followed_with_the_token(repositories, certificate, secret, tmp_path):
    with https_remote(repositories, certificate, TOKEN) as thief, https_remote(repositories, certificate, TOKEN) as remote:
        remote.redirect = thief.url
        with pytest.raises(GitUnavailable):
            mirror(remote.url, tmp_path, secret).update()
        assert remote.asked
        assert thief.asked == []


def test_credentials_of_this_machine_are_not_tried(repositories, certificate, secret, tmp_path, monkeypatch):
    """The folder decides alone: without a token in it the remote refuses, whatever git's own configuration would offer."""
    store = tmp_path / "git-credentials"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "credential.helper")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"store --file={store}")
    with https_remote(repositories, certificate, TOKEN) as remote:
        store.write_text(remote.url.replace("https://", f"https://git:{TOKEN}@") + "\n")
        (secret / "password").unlink()
        with pytest.raises(GitUnavailable):
            mirror(remote.url, tmp_path, secret).update()
        (secret / "ca.crt").unlink()
        with pytest.raises(InvalidRequest, match="nothing for an HTTPS remote"):
            mirror(remote.url, tmp_path, secret).update()


@pytest.mark.skipif(not SSHD.exists(), reason="no sshd here (Debian's package openssh-server)")
@pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets others in only when it is root's")
def test_a_key_in_a_file_opens_an_ssh_remote_that_is_the_right_host(repositories, tmp_path):
    with ssh_remote(tmp_path) as (address, secret):
        clone = mirror(f"{address}{repositories}", tmp_path, secret)
        assert (clone.update() / "file").read_text() == "first"

        known = (secret / "known_hosts").read_text()
        other = (tmp_path / "authorized_keys").read_text().split()[1]
        (secret / "known_hosts").write_text(known.replace(known.split()[2], other))
        with pytest.raises(GitUnavailable, match="Host key verification failed"):
            clone.update()
        (secret / "known_hosts").write_text("")
        with pytest.raises(GitUnavailable, match="Host key verification failed"):
            clone.update()
        (secret / "known_hosts").unlink()
        with pytest.raises(InvalidRequest, match="no known_hosts"):
            clone.update()


@pytest.mark.parametrize("remote", ["http://git.example/p.git", "git://git.example/p.git", "/srv/p.git", "file:///srv/p.git"])
def test_credentials_go_to_nobody_who_does_not_prove_who_it_is(remote, secret):
    with pytest.raises(InvalidRequest, match="does not prove who it is"):
        git_environment(remote, secret)


@pytest.mark.parametrize(
    ("remote", "proves"),
    [
        ("https://git.example/p.git", True),
        ("ssh://git@git.example/p.git", True),
        ("git@git.example:p.git", True),
        ("/srv/p.git", True),
        ("http://git.example/p.git", False),
        ("git://git.example/p.git", False),
    ],
)
def test_who_authenticates(remote, proves):
    assert authenticates(remote) is proves


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff\xfe", b"x\x00y", b"a" * 70_000])
def test_a_file_that_is_no_token_is_refused_without_being_shown(content, secret):
    (secret / "password").write_bytes(content)
    with pytest.raises(InvalidRequest) as refused:
        git_environment("https://git.example/p.git", secret)
    assert str(secret / "password") in str(refused.value)
    assert "lines" not in str(refused.value)


def test_the_user_of_a_token_may_be_named(secret):
    (secret / "username").write_text("oauth2\n")
    values = git_environment("https://somebody@git.example:8443/group/p.git", secret)
    headers = {value: values[key.replace("VALUE", "KEY")] for key, value in values.items() if "Authorization" in value}
    ((header, where),) = headers.items()
    assert where == "http.https://git.example:8443/.extraHeader"
    import base64

    assert base64.b64decode(header.split()[-1]).decode() == f"oauth2:{TOKEN}"
