"""`softprompt review` on a laptop: a real MLflow on SQLite, a real S3 server, the commands as a person gives them."""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from softprompt.cli import app
from softprompt.deployment import laptop
from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import TrackingUnavailable
from softprompt.registry_review import version_to_review
from softprompt.release.layout import audit_key
from softprompt.release.store import open_store
from softprompt.release.trust import load_signer, load_trust_root
from softprompt.settings import Settings
from softprompt.tracking import mlflow_client

PROMPT, REPORT = "a" * 64, "b" * 64
PAGE = "**Passed: better.**\n\n| gate | status |\n| --- | --- |\n| accuracy | passed |\n\n[a link](http://example.org)\x1b[31m"


@dataclass
class Laptop:
    """A state folder whose registry has versions, and the commands."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self):
        return Settings.from_environment(self.environment)

    @property
    def uri(self):
        return self.settings.tracking_uri

    def register(self, name="greeting", prompt=PROMPT, **tags):
        from mlflow.exceptions import MlflowException

        client = mlflow_client(self.uri)
        with suppress(MlflowException):
            client.create_registered_model(name)
        given = {"softprompt.prompt": prompt, "review.status": "pending", "softprompt.channel": "laptop"}
        given |= {"softprompt.gates.report": REPORT, "softprompt.gates.verdict": "passed"}
        given |= {"softprompt.lead": "accuracy +0.100 [+0.050, +0.150] over the champion"}
        source = (self.home / "model").as_uri()
        return client.create_model_version(name, source, tags=given | tags, description=PAGE).version

    def tag(self, key, value, name="greeting", version="1"):
        mlflow_client(self.uri).set_model_version_tag(name, version, key, value)

    def run(self, *arguments, code=0):
        done = CliRunner().invoke(app, ["review", *arguments], env=self.environment)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    def version(self, name="greeting", version="1"):
        return version_to_review(self.uri, name, version)

    def log(self):
        return json.loads(self.run("log", "--json"))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """MLflow's database takes seconds to make."""
    home = tmp_path_factory.mktemp("laptop") / "home"
    home.mkdir()
    git = home / "gitconfig"
    git.write_text("[user]\n  name = Ada Lovelace\n  email = ada@example.org\n")
    environment = {"SOFTPROMPT_HOME": str(home), "GIT_CONFIG_GLOBAL": str(git), "GIT_CONFIG_NOSYSTEM": "1", "COLUMNS": "200"}
    started = Laptop(home, environment)
    started.register("other-model")
    with embedded_s3(home / "s3"):  # so that not every command starts one
        yield started


@pytest.fixture
def here(started, request, monkeypatch):
    """With a version of its own, in a log that others have used."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    monkeypatch.chdir(started.home)
    started.register(name)
    return started, name


def test_a_version_is_listed_shown_and_approved(here):
    laptop_, name = here
    listed = laptop_.run("list", name)
    assert f"{name}@1" in listed
    assert "accuracy +0.100" in listed
    assert "just now" in listed
    shown = laptop_.run("show", f"{name}@1")
    assert "Passed: better." in shown
    assert "pending" in shown
    assert "\x1b[31m" not in shown, "a page is somebody's text, and the terminal obeys none of it"
    told = laptop_.run("approve", f"{name}@1", "--note", "better on short messages")
    assert "Ada Lovelace <ada@example.org> (by git config)" in told
    assert f"softprompt release propose {name} 1 --channel laptop" in told
    version = laptop_.version(name)
    assert (version.status, version.reviewer) == ("approved", "Ada Lovelace <ada@example.org>")
    assert version.note == "better on short messages"
    newest = laptop_.log()["entries"][-1]
    assert newest["record"]["judgement"] == {
        "decision": "approved",
        "name": name,
        "model_version": "1",
        "prompt": PROMPT,
        "report": REPORT,
        "reviewer": "Ada Lovelace <ada@example.org>",
        "note": "better on short messages",
    }
    assert version.record == f"laptop/{newest['record']['number']} approved"
    assert newest["holder"] == "this laptop"
    assert f"{name}@1" not in laptop_.run("list")
    assert f"{name}@1" in laptop_.run("list", "--all")
    assert "signed, record laptop/" in laptop_.run("show", f"{name}@1")


def test_the_same_decision_again_changes_nothing_and_another_is_another_record(here):
    laptop_, name = here
    laptop_.run("approve", f"{name}@1", "--note", "good")
    before = len(laptop_.log()["entries"])
    assert "already" in laptop_.run("approve", f"{name}@1", "--note", "good")
    assert len(laptop_.log()["entries"]) == before
    told = laptop_.run("reject", f"{name}@1", "--note", "on second thoughts", "--reviewer", "Grace")
    assert "it was approved by Ada Lovelace" in told
    assert "Grace (by --reviewer)" in told
    entries = laptop_.log()["entries"]
    assert [entry["record"]["judgement"]["decision"] for entry in entries[before - 1 :]] == ["approved", "rejected"]
    assert (laptop_.version(name).status, laptop_.version(name).reviewer) == ("rejected", "Grace")


def test_a_decision_that_was_stopped_before_its_tags_is_finished_by_doing_it_again(here, monkeypatch):
    laptop_, name = here
    with monkeypatch.context() as patched:
        patched.setattr("softprompt.review.set_review", lambda *_, **__: (_ for _ in ()).throw(TrackingUnavailable("away")))
        laptop_.run("approve", f"{name}@1", code=5)
    recorded = len(laptop_.log()["entries"])
    assert laptop_.version(name).status == "pending"
    laptop_.run("approve", f"{name}@1")
    assert (laptop_.version(name).status, len(laptop_.log()["entries"])) == ("approved", recorded)


def test_a_tag_that_was_set_by_hand_is_told_from_a_signed_one(here):
    laptop_, name = here
    laptop_.tag("review.status", "approved", name)
    assert "(unsigned)" in laptop_.run("list", name, "--all")
    assert "not signed: the tag was set by hand" in laptop_.run("show", f"{name}@1")


def test_decisions_by_hand_are_recorded_once_with_the_registrys_key(here):
    laptop_, name = here
    laptop_.tag("review.status", "rejected", name)
    laptop_.tag("review.note", "seen in MLflow", name)
    assert f"{name}@1 rejected by somebody, by the tags in MLflow: laptop, number" in laptop_.run("record", name)
    assert laptop_.run("record", name) == "Every decision has its record.\n"
    assert laptop_.version(name).is_signed
    judgement = laptop_.log()["entries"][-1]["record"]["judgement"]
    assert (judgement["name"], judgement["decision"], judgement["note"]) == (name, "rejected", "seen in MLflow")


def test_a_tag_that_was_changed_after_a_signed_decision_is_not_called_signed(here):
    laptop_, name = here
    laptop_.run("reject", f"{name}@1", "--reviewer", "Grace")
    laptop_.tag("review.status", "approved", name)
    assert "(unsigned)" in laptop_.run("list", name, "--all")
    laptop_.run("record", name)
    entries = laptop_.log()["entries"][-2:]
    judgements = [entry["record"]["judgement"] for entry in entries]
    assert [judgement["decision"] for judgement in judgements] == ["rejected", "approved"]
    assert [judgement["reviewer"] for judgement in judgements] == ["Grace", "Grace, by the tags in MLflow"]


def test_a_newer_evaluation_than_the_decision_is_said(here):
    laptop_, name = here
    laptop_.run("approve", f"{name}@1")
    assert "evaluated again" not in laptop_.run("show", f"{name}@1")
    laptop_.tag("softprompt.gates.report", "c" * 64, name)
    assert "It was evaluated again since" in laptop_.run("show", f"{name}@1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nobody@1"], "knows no version of nobody"),
        (["show", "other-model@9"], "one of other-model@1"),
        (["approve", "other-model"], "NAME@VERSION"),
        (["approve", "other-model@1", "--channel", "elsewhere"], "does not know this channel"),
        (["approve", "other-model@1", "--key", "none.pem"], "There is no key to sign the decision with"),
        (["approve", "other-model@1", "--note", "x" * 2001], "a note of at most 2000"),
        (["log", "--channel", "elsewhere"], "does not know this channel"),
    ],
)
def test_what_cannot_be_done_is_said_kindly(started, arguments, message, monkeypatch):
    monkeypatch.chdir(started.home)
    told = started.run(*arguments, code=2)
    assert message in re.sub(r"\s+", " ", told)
    assert "Traceback" not in told
    assert started.version("other-model").status == "pending"


def test_a_key_that_the_trust_root_does_not_list_decides_nothing(here, tmp_path):
    laptop_, name = here
    (tmp_path / "key.pem").write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    told = laptop_.run("approve", f"{name}@1", "--key", str(tmp_path / "key.pem"), code=2)
    assert "does not list this key for review decisions" in told
    publishing = laptop_.settings.signing_key("laptop")
    assert "does not list this key" in laptop_.run("approve", f"{name}@1", "--key", str(publishing), code=2)
    assert laptop_.version(name).status == "pending"


def test_the_laptops_own_keys_are_two(started):
    started.run("log")
    root = load_trust_root(started.settings.trust_root)
    audit = load_signer(started.settings.audit_key("laptop")).public_key.keyid
    assert [key.keyid for key in root.audit_keys_for("laptop", 1)] == [audit]
    assert audit not in root.publishing_keys


def test_a_laptop_of_before_there_were_audit_keys_gets_one(started):
    """And what its first key signed stays believed."""
    before = [entry["envelope"] for entry in started.log()["entries"]]
    started.settings.audit_key("laptop").unlink()
    assert [entry["envelope"] for entry in started.log()["entries"]] == before
    assert started.settings.audit_key("laptop").is_file()
    assert len(load_trust_root(started.settings.trust_root).audit_keys) == 2


def test_a_broken_chain_ends_with_5_and_names_the_number(here):
    """Last: it leaves the log as it was."""
    laptop_, name = here
    laptop_.run("approve", f"{name}@1")
    number = laptop_.log()["entries"][-1]["record"]["number"]
    table = laptop_.run("log")
    assert "the chain is whole" in table
    assert f"{name}@1" in table
    with os_environ(laptop_.environment), laptop(laptop_.settings):
        store = open_store(laptop_.settings.store)
        key = audit_key("laptop", number)
        good = store.get(key, max_bytes=10**6)
        store.put(key, good.replace(b'"sig":"', b'"sig":"A'))
        told = laptop_.run("log", code=5)
        store.put(key, good)
    assert f"number {number}" in told
    assert "the chain is broken" in told
    assert laptop_.run("log").count("\n") == table.count("\n")


class os_environ:
    """The commands' environment, for the library."""

    def __init__(self, values):
        self.values = values

    def __enter__(self):
        self.before = dict(os.environ)
        os.environ.update(self.values)

    def __exit__(self, *_):
        os.environ.clear()
        os.environ.update(self.before)
