"""Every part of the chart at once: pods under Pod Security `restricted`, a reconciler that reconciles, an MLflow that keeps."""

import json

import pytest

from softprompt.release.channel import ChannelLog, newest
from softprompt.release.s3_client import s3_client
from softprompt.release.trust import load_trust_root
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
TRY_TO_WRITE = """
import os, sys
for folder in ("/", "/opt", "/usr/local/bin", "/etc/softprompt"):
    try:
        open(os.path.join(folder, "written"), "w")
    except OSError:
        continue
    sys.exit(folder + " can be written to")
if os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount"):
    sys.exit("there is a token")
if os.getuid() == 0 or open("/proc/self/status").read().split("CapEff:")[1].split()[0].strip("0"):
    sys.exit("it has privileges")
print("held")
"""
ASK_ITSELF = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8080/readyz").read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""
RECORD = """
import mlflow, pathlib
with mlflow.start_run() as run:
    mlflow.log_param("colour", "green")
    path = pathlib.Path("/tmp/note.txt")
    path.write_text("kept in the bucket")
    mlflow.log_artifact(str(path))
print(run.info.run_id)
"""
READ_AGAIN = """
import mlflow, sys
run = mlflow.get_run(sys.argv[1])
print(run.data.params["colour"], open(mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path="note.txt")).read())
"""


@pytest.mark.parametrize("deployment", ["softprompt", "softprompt-mlflow", "softprompt-reconciler"])
def test_a_pod_has_no_privilege_no_token_and_no_place_to_write_but_its_own(whole_release, deployment):
    part = "release" if deployment.endswith("reconciler") else "fleet"
    command = ("kubectl", "exec", f"deployment/{deployment}", "--namespace", whole_release.namespaces[part], "--")
    assert whole_release.kubernetes.run(*command, "python3", "-c", TRY_TO_WRITE).strip() == "held"


def test_every_namespace_enforces_restricted(whole_release):
    for name in whole_release.namespaces.values():
        labels = whole_release.kubernetes.get("namespace", name)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_reconciler_follows_git_and_publishes(whole_release):
    """The commit that the repository began with is stated by a signed generation."""
    kubernetes, release = whole_release.kubernetes, whole_release.namespaces["release"]
    ask = ("kubectl", "exec", "deployment/softprompt-reconciler", "--namespace", release, "--", "python3", "-c", ASK_ITSELF)
    unknown = "Registered Model with name=colours not found"  # MLflow's own words: it was reached, and nobody registered anything

    def in_step():
        body = json.loads(kubernetes.run(*ask))
        return body.get("problems") and unknown in body["problems"][0] and body

    body = wait_for(in_step, "a round that reached Git, store and MLflow", timeout_seconds=300, every_seconds=2)
    assert not body["drift"]
    channel = whole_release.channel
    head = newest(ChannelLog(channel.store, "laptop", load_trust_root(channel.trust_root)))
    assert head.signed.generation.git_commit == body["commit"]
    assert head.signed.generation.state.revoked == ("0" * 64,)


def test_what_is_recorded_in_mlflow_is_there_after_it_was_started_again(whole_release):
    """By a Ray pod, which has neither an access key of the bucket nor one of the database."""
    kubernetes, fleet = whole_release.kubernetes, whole_release.namespaces["fleet"]
    run_id = whole_release.run_as("trainer", RECORD)
    listed = s3_client(kubernetes.s3).list_objects_v2(Bucket=whole_release.channel.bucket, Prefix="mlflow/")["Contents"]
    assert any(run_id in found["Key"] for found in listed)
    kubernetes.run("kubectl", "delete", "pod", "--selector", "app.kubernetes.io/component=registry", "--namespace", fleet)
    kubernetes.run(
        "kubectl",
        "rollout",
        "status",
        "deployment/softprompt-mlflow",
        "--namespace",
        fleet,
        "--timeout=300s",
        timeout_seconds=320,
    )
    wait_for(
        lambda: whole_release.run_as("trainer", READ_AGAIN, run_id) == "green kept in the bucket",
        "it is there",
        timeout_seconds=60,
    )
