"""The care of a channel from the command line, over a real S3 server: every ceremony, and a node that slept through two."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from softprompt.cli import app
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.s3_client import s3_client
from softprompt.release.store import open_store
from softprompt.release.trust import load_trust_root
from softprompt.settings import Settings
from tests.ports import free_port
from tests.prompts import random_prompt_file

SERVER = Path(__file__).parents[4] / "shared" / "cluster" / "s3"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An S3 server of its own, with two buckets, in the environment."""
    if not SERVER.exists():
        pytest.skip(f"no versitygw here: {SERVER} is missing")
    port = free_port()
    keys = {"ROOT_ACCESS_KEY": "care-access", "ROOT_SECRET_KEY": "care-secret"}
    command = [str(SERVER), str(tmp_path / "s3"), str(port)]
    process = subprocess.Popen(command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for name, value in {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "care-access",
            "AWS_SECRET_ACCESS_KEY": "care-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "SOFTPROMPT_STORE": "s3://prompts",
            "SOFTPROMPT_HOME": str(tmp_path / "home"),
            "COLUMNS": "200",
        }.items():
            monkeypatch.setenv(name, value)
        _wait_for(port, process)
        for bucket in ("prompts", "copy"):
            s3_client().create_bucket(Bucket=bucket)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port, process):
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        time.sleep(0.1)
    raise AssertionError("the server does not listen")


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["release", *map(str, arguments)])
    assert done.exit_code == code, f"{arguments}: {done.output}\n{done.exception!r}"
    return done.output


def prompt(seed):
    return random_prompt_file(seed, num_tokens=2, width=4)


def publish(seed, name="greeting", key=None):
    settings = Settings.from_environment()
    return publish_prompt(
        prompt=prompt(seed),
        name=name,
        channel="staging",
        verdict="passed",
        evidence={"notes.txt": b"good"},
        model_version="",
        numerics="float32",
        store=open_store(settings.store),
        policy_dir=settings.policies,
        trust_root=settings.trust_root,
        signing_key=key or settings.signing_key("staging"),
        state_dir=settings.journal,
    )


def node(folder, mounted, store="s3://prompts"):
    return Reader(store=open_store(store), channel="staging", trust=load_trust_root(mounted), state_dir=folder)


def test_a_channel_is_cared_for_from_its_beginning_to_its_copy(server, tmp_path):
    settings = Settings.from_environment()
    keys = settings.keys
    run("init", "--channel", "staging")
    (settings.policies / "staging").mkdir(parents=True)
    (settings.policies / "staging" / "_policy.yaml").write_text(LAPTOP_POLICY)
    mounted = shutil.copy(settings.trust_root, tmp_path / "mounted.json")
    publish(1)
    assert publish(2, "farewell").generation == 3
    sleeper = node(tmp_path / "sleeper", mounted)
    assert sleeper.refresh().generation == 3

    # The publishing key changes: the new one first, then the old one goes.
    old_key = keys / "publish-staging.pem"
    new_public = json.loads(run("keygen", "--scheme", "ecdsa-p256", "--out", keys / "new.pem"))
    old_public = json.loads(run("keygen", "--signer", old_key))
    (tmp_path / "new.pub").write_text(json.dumps(new_public))
    run("root", "add-key", tmp_path / "new.pub", "--channel", "staging")
    run("root", "publish")
    shutil.copy(keys / "new.pem", old_key)
    assert publish(3).generation == 4
    said = run("root", "revoke-key", old_public["key_id"][:12], "--last-good", "staging=head")
    assert "root publish" in said
    assert "not believed any more" not in said
    run("root", "publish")

    # The root key changes, too, and everything old is forbidden.
    run("keygen", "--out", keys / "root-2.pem")
    run("root", "rotate-root", "--new-key", keys / "root-2.pem")
    run("root", "raise-minimum", "staging", 2, "--root-key", keys / "root-2.pem")
    assert "version 6" in run("root", "renew", "--root-key", keys / "root-2.pem", "--life-days", "30")
    run("root", "renew", code=2)  # by the old root key
    run("root", "publish")
    assert "version 6" in run("root", "show", "--follow")

    # A node that slept through both, with the very first root mounted; and one that starts only now.
    publish(4)
    for reader in (sleeper, node(tmp_path / "sleeper", mounted), node(tmp_path / "fresh", mounted)):
        snapshot = reader.refresh()
        assert (snapshot.generation, snapshot.alarms, snapshot.stale) == (5, (), False)

    # A prompt is revoked.
    assert "published" in run("revoke", prompt(2).digest, "--channel", "staging")
    assert sorted(sleeper.refresh().prompts) == ["greeting"]
    assert publish(2, "again").outcome == "refused"
    said = run("history", "--channel", "staging", "--json", tmp_path / "history.json")
    assert "farewell" in said
    entries = json.loads((tmp_path / "history.json").read_text())["entries"]
    assert [entry["generation"] for entry in entries] == [6, 5, 4, 3, 2]
    assert [entry["signed_by"] == new_public["key_id"] for entry in entries] == [True, True, True, False, False]
    assert "served now" in run("trace", prompt(4).digest[:10], "--channel", "staging", "--no-registry")

    # Everything holds; then nothing is garbage yet, since all of it is young.
    assert "everything holds" in run("verify", "--json", tmp_path / "verify.json")
    assert json.loads((tmp_path / "verify.json").read_text())["num_roots"] == 6
    open_store("s3://prompts").put(f"blobs/sha256/{'0' * 64}", b"not that")
    assert "A blob is missing or is not what its name says" in run("verify", code=5)
    s3_client().delete_object(Bucket="prompts", Key=f"blobs/sha256/{'0' * 64}")
    assert "0 blobs, 0 bytes to collect" in run("gc", "--delete")

    # A copy in another bucket, twice, and the nodes that follow it there.
    assert "is whole in s3://copy" in run("restore", "--channel", "staging", "--from", "s3://prompts", "--to", "s3://copy")
    assert "0 written now" in run("restore", "--channel", "staging", "--from", "s3://prompts", "--to", "s3://copy")
    for folder in ("sleeper", "elsewhere"):
        snapshot = node(tmp_path / folder, mounted, "s3://copy").refresh()
        assert (snapshot.generation, snapshot.alarms, snapshot.stale) == (6, (), False)
        assert snapshot.load(prompt(4).digest) == prompt(4)


def test_revoking_where_git_is_the_authority_prints_a_patch_that_git_takes(server, tmp_path, monkeypatch):
    environments = tmp_path / "repository" / "environments"
    (environments / "staging").mkdir(parents=True)
    (environments / "staging" / "_policy.yaml").write_text("# ours\nschema_version: 1\nauthority: git\n")
    share = f'  "{"ba5e" * 16}":\n    - prompt: "{prompt(1).digest}"  # the first\n      approval: "{"a" * 64}"\n'
    other = f'    - prompt: "{prompt(2).digest}"\n      approval: "{"b" * 64}"\n'
    (environments / "staging" / "greeting.yaml").write_text(f"schema_version: 1\nbases:\n{share}")
    (environments / "staging" / "canary.yaml").write_text(f"schema_version: 1\nbases:\n{share}{other}")
    git = ["git", "-C", str(tmp_path / "repository")]
    subprocess.run([*git, "init", "--quiet"], check=True)
    before = run("revoke", prompt(1).digest, "--channel", "staging", "--environments", environments)
    subprocess.run([*git, "apply"], input=before, text=True, check=True)
    policy = (environments / "staging" / "_policy.yaml").read_text()
    assert policy == f'# ours\nschema_version: 1\nauthority: git\nrevoked:\n  - "{prompt(1).digest}"\n'
    assert "removed: true" in (environments / "staging" / "greeting.yaml").read_text()
    left = (environments / "staging" / "canary.yaml").read_text()
    assert prompt(1).digest not in left
    assert prompt(2).digest in left
    run("revoke", prompt(1).digest, "--channel", "staging", "--environments", environments)
