"""Datasets over HTTP: whole files or nothing, over TLS or from this machine, and messages without secrets."""

import datetime
import ipaddress
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from softprompt.errors import DatasetRefused, InvalidRequest, ServiceUnavailable
from softprompt.fetch import cache_folder, fetch_dataset, web

BODY = b'{"text": "a"}\n' * 1000


class Site(BaseHTTPRequestHandler):
    """Paths say what happens; `served` counts whole answers."""

    served: list = []

    def do_GET(self):
        path = self.path.partition("?")[0]
        answer = getattr(self, "answer_" + path.split("/")[1], None)
        answer(path) if answer else self.send_error(404)

    def answer_data(self, path, headers=(("ETag", '"1"'),), length=0, body=BODY):
        self.send_response(200)
        for name, value in (*headers, ("Content-Length", str(length or len(body)))):
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
            Site.served.append(path)
        except OSError:
            pass

    def answer_dated(self, path):
        self.answer_data(path, headers=[("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")])

    def answer_unversioned(self, path):
        self.answer_data(path, headers=[])

    def answer_cut(self, path):
        self.answer_data(path, length=2 * len(BODY))

    def answer_broken(self, path):
        self.send_error(503)

    def answer_closed(self, path):
        self.send_error(403)

    def answer_slow(self, path):
        threading.Event().wait(3)

    def answer_to(self, path):
        self.send_response(302)
        self.send_header("Location", self.headers.get("X-To") or Site.target)
        self.end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def serving(context=None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    Site.served.clear()
    yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def site():
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of 127.0.0.1 with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "test.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_site(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(context) as url:
        yield url


def kept():
    folder = cache_folder() / "datasets"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("path", ["data", "dated"])
def test_a_file_is_fetched_once_for_each_version(site, path, monkeypatch):
    url = f"{site}/{path}/my%20rows.jsonl"
    (file,) = fetch_dataset(url)
    assert (file.name, file.path.read_bytes()) == ("my rows.jsonl", BODY)
    monkeypatch.setattr(web, "_save", lambda *_: pytest.fail("fetched again"))
    assert fetch_dataset(url) == (file,)


def test_a_new_version_is_fetched(site, monkeypatch):
    first = fetch_dataset(f"{site}/data/a.jsonl")
    answer = Site.answer_data
    monkeypatch.setattr(Site, "answer_data", lambda self, path: answer(self, path, headers=[("ETag", '"2"')], body=BODY.upper()))
    second = fetch_dataset(f"{site}/data/a.jsonl")
    assert second[0].path.read_bytes() == BODY.upper()
    assert first[0].path.read_bytes() == BODY


def test_a_server_without_versions_is_asked_again_and_equal_bytes_are_kept_once(site):
    assert fetch_dataset(f"{site}/unversioned/a.jsonl") == fetch_dataset(f"{site}/unversioned/a.jsonl")
    assert len(Site.served) == 2
    assert len(kept()) == 1


def test_an_answer_that_is_cut_off_leaves_nothing(site):
    with pytest.raises(ServiceUnavailable, match="whole dataset"):
        fetch_dataset(f"{site}/cut/a.jsonl")
    assert kept() == []


def test_a_file_that_is_too_large_leaves_nothing(site, monkeypatch):
    monkeypatch.setattr(web, "MAX_DOWNLOAD_BYTES", len(BODY) - 1)
    with pytest.raises(DatasetRefused, match="larger than"):
        fetch_dataset(f"{site}/data/a.jsonl")
    assert kept() == []


def test_a_server_that_falls_silent_is_given_up(site, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(ServiceUnavailable, match="whole dataset"):
        fetch_dataset(f"{site}/slow/a.jsonl")


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [("none", DatasetRefused, "404"), ("closed", DatasetRefused, "403"), ("broken", ServiceUnavailable, "503")],
)
def test_refusals_of_the_server_are_told_without_the_query(site, path, kind, reason):
    with pytest.raises(kind) as caught:
        fetch_dataset(f"{site}/{path}/a.jsonl?signature=SECRET")
    assert reason in caught.value.actual
    assert "SECRET" not in str(caught.value)
    assert caught.value.hint


def test_nobody_at_home():
    with pytest.raises(ServiceUnavailable) as caught:
        fetch_dataset("http://127.0.0.1:9/a.jsonl")
    assert "refused" in caught.value.actual


@pytest.mark.parametrize(
    "url",
    ["http://example.com/a.jsonl", "https://me:SECRET@127.0.0.1/a.jsonl", "http://me:SECRET@127.0.0.1/a.jsonl", "ftp://a/b.csv"],
)
def test_addresses_that_are_not_safe_are_refused(url):
    with pytest.raises(InvalidRequest) as caught:
        fetch_dataset(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "/", "/a", "/a.xlsx", "/..%2f..%2f.csv%00", "/a%0a.csv"])
def test_an_address_that_names_no_data_is_refused_before_it_is_asked(path):
    with pytest.raises(DatasetRefused):
        fetch_dataset(f"http://127.0.0.1:9{path}")


def test_a_certificate_that_is_not_trusted_is_explained(tls_site):
    with pytest.raises(ServiceUnavailable, match="certificate") as caught:
        fetch_dataset(f"{tls_site}/data/a.jsonl")
    assert "self-signed" in caught.value.actual
    assert "SSL_CERT_FILE" in caught.value.hint


def test_tls_with_a_trusted_authority(tls_site, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetch_dataset(f"{tls_site}/data/a.jsonl")[0].path.read_bytes() == BODY


def test_redirects_stay_on_tls(tls_site, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    Site.target = f"{tls_site}/data/other"
    assert fetch_dataset(f"{tls_site}/to/a.jsonl")[0].name == "a.jsonl"
    with serving() as plain:
        Site.target = f"{plain}/data/a.jsonl?signature=SECRET"
        with pytest.raises(InvalidRequest, match="without TLS") as caught:
            fetch_dataset(f"{tls_site}/to/a.jsonl")
        assert "SECRET" not in str(caught.value)
        assert Site.served == []


@pytest.mark.parametrize(
    "target", ["http://example.com/a.jsonl", "ftp://example.com/a.jsonl", "file:///etc/passwd", "gopher://a"]
)
def test_redirects_to_other_places_are_refused(site, target):
    Site.target = target
    with pytest.raises((InvalidRequest, DatasetRefused), match=r"TLS|did not give"):
        fetch_dataset(f"{site}/to/a.jsonl")
    assert kept() == []
