"""Datasets of the hub: data files only, from a stand-in for the hub's HTTP interface and from its cache."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from softprompt.errors import DatasetRefused
from softprompt.fetch import fetch_dataset

COMMIT = "c" * 40
FILES = {
    "README.md": b"# about",
    "loader.py": b"raise SystemExit",
    "weights.pkl": b"pickle",
    "train/a.jsonl": b'{"text": "a"}\n',
    "train/b.csv.gz": b"\x1f\x8b",
    "test/c.parquet": b"PAR1",
}


class Hub(BaseHTTPRequestHandler):
    """Enough of the hub for a snapshot of one dataset."""

    asked: list = []

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        path = unquote(self.path.partition("?")[0])
        Hub.asked.append(path)
        if path.startswith("/api/datasets/org/name/tree/"):
            entries = [{"type": "file", "path": name, "size": len(body), "oid": _oid(body)} for name, body in FILES.items()]
            return self._send(json.dumps(entries).encode(), with_body)
        if path.startswith("/api/datasets/org/name"):
            info = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            return self._send(json.dumps(info).encode(), with_body)
        name = path.removeprefix(f"/datasets/org/name/resolve/{COMMIT}/")
        if name in FILES:
            return self._send(FILES[name], with_body, ETag=f'"{_oid(FILES[name])}"', **{"X-Repo-Commit": COMMIT})
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def _send(self, body, with_body, **headers):
        self.send_response(200)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def _oid(body):
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(hub, home, *uris):
    """In a process of its own, because the hub's client reads its settings when it is imported."""
    program = (
        "import sys\n"
        "from softprompt.errors import DatasetRefused\n"
        "from softprompt.fetch import fetch_dataset\n"
        "for uri in sys.argv[1:]:\n"
        "    try: print({file.name: file.path.read_bytes() for file in fetch_dataset(uri)})\n"
        "    except DatasetRefused as error: print(repr(str(error)))\n"
    )
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name in ("HTTP_PROXY", "http_proxy", "HF_HUB_OFFLINE"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", program, *uris], env=environment, capture_output=True, text=True, check=True)
    return [eval(line) for line in done.stdout.splitlines()]


def test_a_dataset_is_its_data_files_and_nothing_else(hub, tmp_path):
    Hub.asked.clear()
    train = {"a.jsonl": FILES["train/a.jsonl"], "b.csv.gz": FILES["train/b.csv.gz"]}
    everything, folder, file, reference, none, unknown = fetched(
        hub,
        tmp_path,
        "hf://datasets/org/name@main",
        "hf://datasets/org/name@main/train/",
        f"hf://datasets/org/name@{COMMIT}/test/c.parquet",
        "hf://datasets/org/name@refs/convert/parquet/train",
        "hf://datasets/org/name@main/nowhere",
        "hf://datasets/org/other@main",
    )
    assert everything == {name: FILES[name] for name in ("test/c.parquet", "train/a.jsonl", "train/b.csv.gz")}
    assert folder == reference == train
    assert file == {"c.parquet": b"PAR1"}
    assert "no data" in none
    assert "org/other" in unknown
    assert "HF_TOKEN" in unknown
    assert not [path for path in Hub.asked if path.endswith((".py", ".pkl"))]


@pytest.mark.parametrize(
    "place", ["datasets/org/name", "datasets/name@main", "datasets/org/name@", "org/name@main", "datasets/org/name@main@x"]
)
def test_a_name_without_organisation_or_revision_is_refused(place):
    with pytest.raises(DatasetRefused, match="does not name a dataset of the hub"):
        fetch_dataset(f"hf://{place}")


def test_the_hubs_cache_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "datasets--org--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "x").write_bytes(b"{}")
    (snapshot / "a.jsonl").symlink_to("../../blobs/x")
    (snapshot / "loader.py").write_text("raise SystemExit")
    (file,) = fetch_dataset(f"hf://datasets/org/name@{COMMIT}")
    assert (file.name, file.path.read_bytes()) == ("a.jsonl", b"{}")
