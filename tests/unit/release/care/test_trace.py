"""From a served prompt back to where it came from, each link with what it rests on."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from softprompt.errors import InvalidRequest
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.record import Judgement
from softprompt.release.audit.report import examine_audit
from softprompt.release.care.init_channel import allow_audit, audit_key_file
from softprompt.release.care.trace import Sources, trace_prompt
from softprompt.release.layout import blob_key
from softprompt.release.promotion.commit_source import CommitSource
from softprompt.release.promotion.reconciler import apply_channel
from softprompt.release.trust import load_signer

DATASET = "da7a" * 16


def report_of(prompt, **changes):
    content = {"prompt": prompt.digest, "verdict": "passed", "dataset": DATASET, "gates": []}
    return {"gate_report.json": json.dumps(content | changes, separators=(",", ":"), sort_keys=True).encode()}


def traced(channel, prompt, **sources):
    found = trace_prompt(channel.log, prompt.digest, Sources(**sources))
    return found, {link.what: link for link in found.links}


def test_a_prompt_leads_back_through_the_store(channel, make_prompt):
    channel.publish(make_prompt(1), evidence=report_of(make_prompt(1)))
    channel.publish(make_prompt(2), evidence=report_of(make_prompt(2)))
    found, links = traced(channel, make_prompt(1))
    assert found.is_consistent
    assert links["generations"].value == "2, not served any more, as greeting"
    assert links["prompt file"].standing == links["base model"].standing == links["gate report"].standing == "verified"
    assert links["evidence gate_report.json"].standing == "verified"
    assert (links["dataset"].value, links["dataset"].standing) == (DATASET, "claimed")
    assert links["MLflow version"].standing == links["gates verdict"].standing == "claimed"
    assert links["commit"].value == "(none)"
    assert traced(channel, make_prompt(2))[1]["generations"].value == "3, served now, as greeting"


def test_what_was_collected_or_changed_since_is_missing(channel, make_prompt):
    channel.publish(make_prompt(1), evidence=report_of(make_prompt(1)))
    digest = channel.log.head().signed.generation.state.approvals[make_prompt(1).digest].evidence["gate_report.json"]
    channel.store.put(blob_key(digest), b"other")
    channel.store.delete(blob_key(make_prompt(1).digest), version="")
    _, links = traced(channel, make_prompt(1))
    assert (links["prompt file"].standing, links["evidence gate_report.json"].standing) == ("missing", "missing")
    assert "dataset" not in links


def test_a_digest_may_be_cut_short_and_an_unknown_one_is_refused(channel, make_prompt):
    channel.publish(make_prompt(1))
    assert trace_prompt(channel.log, make_prompt(1).digest[:8], Sources()).prompt == make_prompt(1).digest
    for digest in (make_prompt(2).digest, make_prompt(1).digest[:7]):
        with pytest.raises(InvalidRequest, match=r"(?s)never served this prompt.*2 generations"):
            trace_prompt(channel.log, digest, Sources())


@pytest.mark.parametrize(
    ("says", "standing"),
    [
        ({"prompt": "right", "dataset": DATASET, "run_id": "r1"}, "claimed"),
        ({"prompt": "0" * 64}, "contradicted"),
        ({}, "missing"),
    ],
)
def test_the_registry_only_claims_and_may_contradict(channel, make_prompt, says, standing):
    channel.publish(make_prompt(1), evidence=report_of(make_prompt(1)), model_version="7")
    asked = []

    def registry(name, version):
        asked.append((name, version))
        return says | ({"prompt": make_prompt(1).digest} if says.get("prompt") == "right" else {})

    found, links = traced(channel, make_prompt(1), registry=registry, registry_uri="http://mlflow")
    assert asked == [("greeting", "7")]
    link = links.get("MLflow's prompt") or links["MLflow run"]
    assert (link.standing, found.is_consistent) == (standing, standing != "contradicted")
    if says.get("run_id"):
        assert (links["MLflow run"].value, links["MLflow run"].standing) == ("r1", "claimed")


def test_review_decisions_about_the_prompt_are_listed_and_verified(channel, make_prompt):
    allow_audit("staging", keys_dir=channel.folder / "keys", trust_root=channel.trust_root, holder="Ada")
    channel.publish(make_prompt(1))
    channel.publish(make_prompt(2))
    log = AuditLog(channel.store, "staging", channel.log.trust)
    signer = load_signer(audit_key_file(channel.folder / "keys", "staging"))
    judged = Judgement(
        decision="approved", name="greeting", model_version="1", prompt=make_prompt(1).digest, report="", reviewer="ada", note=""
    )
    log.record(judged, signer, since=0, clock=channel.clock)
    audit = examine_audit(log)
    _, links = traced(channel, make_prompt(1), audit=audit)
    assert (links["review decision"].standing, links["review decision"].value[:15]) == ("verified", "approved by ada")
    assert "signed by Ada" in links["review decision"].how
    assert "review decision" not in traced(channel, make_prompt(2), audit=audit)[1]


@pytest.fixture
def repository(channel, make_prompt):
    """A promotion repository; `merge` puts a proposal into it as GitHub or GitLab would."""
    folder = channel.folder / "repository"
    files = folder / "environments" / "staging"
    files.mkdir(parents=True)
    (files / "_policy.yaml").write_text("schema_version: 1\nauthority: git\n")
    channel.write_policy("schema_version: 1\nauthority: git\n")

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    git("add", "."), git("commit", "--quiet", "-m", "begin")

    def merge(prompt, message, *, squash=False):
        text = channel.publish(prompt, evidence=report_of(prompt)).proposal
        git("checkout", "--quiet", "-b", "topic")
        (files / "greeting.yaml").write_text(text)
        git("add", "."), git("commit", "--quiet", "-m", "the change")
        git("checkout", "--quiet", "main")
        if squash:
            git("merge", "--quiet", "--squash", "topic"), git("commit", "--quiet", "-m", message)
        else:
            git("merge", "--quiet", "--no-ff", "-m", message, "topic")
        git("branch", "--quiet", "-D", "topic")
        return git("rev-parse", "HEAD")

    def apply():
        return apply_channel(
            folder / "environments",
            "staging",
            store=channel.store,
            trust_root=channel.trust_root,
            signing_key=channel.signing_key,
            state_dir=channel.folder / "journals",
            clock=channel.clock,
        )

    return SimpleNamespace(environments=folder / "environments", merge=merge, apply=apply, git=git, files=files)


@pytest.mark.parametrize(
    ("message", "squash", "request_number"),
    [
        ("Merge pull request #12 from team/topic\n\nServe it", False, "#12"),
        ("Merge branch 'topic' into 'main'\n\nSee merge request team/prompts!34", False, "team/prompts!34"),
        ("Serve greeting 3 (#56)", True, "#56"),
        ("by hand", False, ""),
    ],
)
def test_the_commit_is_verified_and_the_pull_request_is_what_its_merge_says(
    channel, repository, make_prompt, message, squash, request_number
):
    merged = repository.merge(make_prompt(1), message, squash=squash)
    repository.git("commit", "--quiet", "--allow-empty", "-m", "Something else (#99)")
    assert repository.apply().outcome == "published"
    found, links = traced(channel, make_prompt(1), commits=CommitSource(repository.environments))
    assert found.is_consistent
    assert (links["commit"].value, links["commit"].standing) == (repository.git("rev-parse", "HEAD"), "verified")
    assert links["merged by"].value == merged
    assert (links["pull request"].value if request_number else "") == request_number
    assert "pull request" not in links or links["pull request"].standing == "claimed"


def test_a_commit_that_does_not_ask_for_the_prompt_contradicts(channel, repository, make_prompt):
    repository.merge(make_prompt(1), "m")
    repository.apply()
    commits = CommitSource(repository.environments)
    head = repository.git("rev-parse", "HEAD")
    assert commits.find("staging", ["greeting"], make_prompt(1).digest, head).standing == "verified"
    assert commits.find("staging", ["greeting"], make_prompt(2).digest, head).standing == "contradicted"
    assert commits.find("staging", ["greeting"], make_prompt(1).digest, "0" * 40).standing == "missing"
