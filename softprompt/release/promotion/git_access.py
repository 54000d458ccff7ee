"""How git shows a remote who it is: out of a folder of files, such as a Secret that is mounted into a reconciler's pod.

    password, username         HTTPS; the password may be a token, and where no username is needed there need be no such file.
                               Keys of Kubernetes' `kubernetes.io/basic-auth`
    ca.crt                     HTTPS, where the remote's certificate is not signed by a public authority
    ssh-privatekey, known_hosts
                               SSH, with the remote's host keys. Keys of `kubernetes.io/ssh-auth`, and one more

The files are read anew for each command, so what is rotated is used at once. Everything travels in the environment of the one
git process: nothing is written, and no command line shows it. Without a folder git uses its own means.
"""

import base64
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from softprompt.errors import InvalidRequest

MOST_BYTES = 64 * 1024
"""Of one file; a token is tens of bytes, a bundle of authorities tens of thousands."""
CONNECT_SECONDS = 20


def authenticates(remote: str) -> bool:
    """Whether a remote proves who it is: what `git://` and `http://` deliver, anybody between here and there can have written."""
    return urlsplit(remote).scheme not in ("git", "http", "ftp")


def git_environment(remote: str, folder: Path | None) -> dict[str, str]:
    """What git's environment has to say for a remote.

    Args:
        remote: Address of the repository: `https://`, `ssh://` or `user@host:path`.
        folder: Of the files above; None: nothing is added.

    Raises:
        InvalidRequest: A file is missing, or is not what it should be, or the remote is one that nothing secret may be sent to.
    """
    if folder is None:
        return {}
    scheme = urlsplit(remote).scheme
    if scheme == "https":
        return _https(remote, folder)
    if scheme == "ssh" or (not scheme and ":" in remote):
        return _ssh(folder)
    raise InvalidRequest(
        "Git's credentials would be sent to a remote that does not prove who it is.",
        where=str(folder),
        expected="https:// or SSH",
        actual=f"{scheme}://" if scheme else "a path",
        hint="Give another --remote, or unset SOFTPROMPT_GIT_CREDENTIALS.",
    )


def _https(remote: str, folder: Path) -> dict[str, str]:
    # An empty helper forgets those of this machine; the header goes to this host alone, wherever it would lead us.
    config = {"credential.helper": "", "http.followRedirects": "false"}
    authority = folder / "ca.crt"
    if (folder / "password").is_file():
        user = _line(folder / "username") if (folder / "username").is_file() else "git"
        token = base64.b64encode(f"{user}:{_line(folder / 'password')}".encode()).decode()
        parts = urlsplit(remote)
        host = parts._replace(netloc=parts.netloc.rpartition("@")[2], path="/", query="", fragment="").geturl()
        config[f"http.{host}.extraHeader"] = f"Authorization: Basic {token}"
    elif not authority.is_file():
        raise _missing(folder / "password", "There is nothing for an HTTPS remote.")
    # By its variable, which outranks the setting: many machines have it set.
    return _as_environment(config) | ({"GIT_SSL_CAINFO": str(authority)} if authority.is_file() else {})


def _as_environment(config: dict[str, str]) -> dict[str, str]:
    """Settings after those that the environment holds already."""
    before = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    found = {"GIT_CONFIG_COUNT": str(before + len(config))}
    for number, (key, value) in enumerate(config.items(), before):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _ssh(folder: Path) -> dict[str, str]:
    key, hosts = folder / "ssh-privatekey", folder / "known_hosts"
    for file in (key, hosts):
        if not file.is_file():
            raise _missing(file, "There is not everything for an SSH remote.")
    options = {
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": str(hosts),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
    }
    words = ["ssh", "-F", "none", "-i", str(key), *(f"-o{name}={value}" for name, value in options.items())]
    return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def _line(file: Path) -> str:
    """A file's only line. Its content is in no message."""
    if file.stat().st_size <= MOST_BYTES:
        text = file.read_bytes().decode("ascii", "replace").strip()
        if text and text.isprintable() and text.isascii() and not (file.name == "username" and ":" in text):
            return text
    raise InvalidRequest(
        "A file of Git's credentials is not one.",
        where=str(file),
        expected="one line of ASCII" + (" without a colon" if file.name == "username" else ""),
        hint="Make the Secret again: `kubectl create secret generic NAME --from-file=password`.",
    )


def _missing(file: Path, what: str) -> InvalidRequest:
    return InvalidRequest(
        what,
        where=str(file.parent),
        expected="password (and username), or ca.crt, for HTTPS; ssh-privatekey and known_hosts for SSH",
        actual=f"no {file.name}",
        hint="Add the key to the Secret; `ssh-keyscan HOST` prints known_hosts, to be compared with what the host publishes.",
    )
