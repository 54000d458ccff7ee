"""Git remotes as a company has them: over HTTPS with a token and a certificate of its own, and over SSH with keys."""

import base64
import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ports import free_port

SSHD = Path("/usr/sbin/sshd")


@dataclass
class Remote:
    """A running server.

    Attributes:
        url: Of the folder of repositories.
        asked: Path and whether the token was right, for every request.
        redirect: Where to send who asks; empty: nowhere.
    """

    url: str
    token: str = ""
    asked: list[tuple[str, bool]] = field(default_factory=list)
    redirect: str = ""


def make_certificate(folder: Path, *addresses: str) -> Path:
    """A key and a certificate that signs itself, for addresses; the certificate's file, with the key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "git of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(one)) for one in addresses])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "ca.crt"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    (folder / "ca.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return file


@contextmanager
def https_remote(repositories: Path, certificate: Path, token: str, address: str = "127.0.0.1") -> Iterator[Remote]:
    """Git's own `http-backend` behind TLS; the token is asked for as GitHub asks, by HTTP's Basic authentication."""
    backend = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip()) / "git-http-backend"
    remote = Remote("", token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            expected = "Basic " + base64.b64encode(f"git:{remote.token}".encode()).decode()
            known = self.headers.get("Authorization") == expected
            remote.asked.append((self.path, known))
            if remote.redirect:
                return self._answer(301, {"Location": remote.redirect + self.path}, b"")
            if not known:
                return self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return self._run_backend()

        do_POST = do_GET

        def _run_backend(self) -> None:
            parts = urlsplit(self.path)
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(repositories),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": parts.path,
                "QUERY_STRING": parts.query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            done = subprocess.run([str(backend)], input=body, env=environment, capture_output=True, check=True, timeout=60)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            said = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self._answer(int(said.pop("Status", "200").split()[0]), said, content)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """`asked` has it."""

    server = ThreadingHTTPServer((address, 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    remote.url = f"https://{address}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield remote
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def ssh_remote(folder: Path) -> Iterator[tuple[str, Path]]:
    """OpenSSH's server on loopback, which lets one key in and runs Git's commands as this user.

    Gives the address to put before a repository's path, and a folder with `ssh-privatekey` and `known_hosts`.
    """
    credentials = folder / "credentials"
    credentials.mkdir()
    for key in (credentials / "ssh-privatekey", folder / "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (credentials / "ssh-privatekey.pub").rename(folder / "authorized_keys")
    port = free_port()
    kind, public, *_ = (folder / "host.pub").read_text().split()
    (credentials / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {public}\n")
    Path("/run/sshd").mkdir(exist_ok=True)  # the server's own jail, which its package makes at boot
    settings = [
        "ListenAddress=127.0.0.1",
        f"Port={port}",
        f"HostKey={folder}/host",
        f"AuthorizedKeysFile={folder}/authorized_keys",
    ]
    settings += ["PidFile=none", "StrictModes=no", "UsePAM=no", "PasswordAuthentication=no", "KbdInteractiveAuthentication=no"]
    command = [str(SSHD), "-D", "-e", "-f", "/dev/null", *(f"-o{setting}" for setting in settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"))
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"ssh://127.0.0.1:{port}", credentials
    finally:
        process.terminate()
        process.wait(timeout=10)
