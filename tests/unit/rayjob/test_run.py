"""The step's side, with a stand-in for the Kubernetes API that keeps RayJobs in a dictionary; a real one: tests/cluster."""

import copy
import itertools
import os
import signal
import threading

import pytest

from softprompt.errors import ClusterUnavailable, DatasetRefused, InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.rayjob import run
from softprompt.rayjob.cluster import Cluster, StepPod, owners_of
from softprompt.rayjob.documents import JobRequest, JobResult, ToldError
from softprompt.rayjob.exchange import Exchange, table_of
from softprompt.rayjob.run import job_name, run_on_rayjob

PLACE = "s3://artifacts/prompt-tuning/0123abcd/tune-prompt/7/prompt"


class Jobs(Cluster):
    """RayJobs that do what a test says.

    Args:
        work: Called each time that somebody looks at a RayJob; makes it change.
    """

    def __init__(self, work=lambda job: None):
        self.namespace, self.jobs, self.work = "here", {}, work
        self.versions, self.deleted, self.lines = itertools.count(1), [], {}
        self.pod = StepPod("step-1", "uid-1", "registry.example/steps@sha256:00", "0123abcd-4567")

    def own_pod(self):
        return self.pod

    def get(self, name):
        return copy.deepcopy(self.jobs.get(name))

    def create(self, job):
        name = job["metadata"]["name"]
        if name in self.jobs:
            return False
        metadata = job["metadata"] | {"uid": f"job-{next(self.versions)}", "resourceVersion": str(next(self.versions))}
        self.jobs[name] = job | {"metadata": metadata, "status": {}}
        return True

    def own(self, job, owner):
        found = self.jobs.get(job["metadata"]["name"])
        if not found or found["metadata"]["resourceVersion"] != job["metadata"]["resourceVersion"]:
            return False
        found["metadata"] |= {"ownerReferences": [owner], "resourceVersion": str(next(self.versions))}
        return True

    def delete(self, name, *, owner=""):
        if name in self.jobs and (not owner or owner in owners_of(self.jobs[name])):
            self.deleted.append(self.jobs.pop(name)["metadata"]["uid"])

    def changes(self, name, seconds):
        if name in self.jobs:
            self.work(self.jobs[name])
            yield copy.deepcopy(self.jobs[name])

    def submitters(self, name):
        return sorted(self.lines)

    def log(self, pod):
        yield from self.lines[pod]

    def troubles(self, ray_cluster):
        return []


@pytest.fixture
def step(tmp_path, ask, monkeypatch):
    """A function: cluster -> outputs of a step that had its work done there."""
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.01)
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "manifest.json").write_text("{}")

    def go(cluster, config=None):
        out = {name: tmp_path / "out" / name for name in ("prompt", "training_log")}
        run_on_rayjob(
            ask(), {"dataset": dataset}, out, storage=str(tmp_path / "storage"), place=PLACE, task_config=config, cluster=cluster
        )
        return out

    request = JobRequest(
        request=ask(), inputs={"dataset": table_of(dataset)}, outputs={"prompt": "prompt", "training_log": "training_log"}
    )
    go.digest, go.name = request.digest, job_name("tune_prompt", "0123abcd-4567", PLACE, request.digest)
    go.exchange = Exchange(str(tmp_path / "storage"), go.name)
    return go


@pytest.fixture
def give(step, tmp_path):
    """A function that leaves a result in the storage, as the driver does."""

    def result(error=None):
        made = tmp_path / "made"
        (made / "prompt").mkdir(parents=True, exist_ok=True)
        (made / "prompt" / "manifest.json").write_text("the prompt")
        (made / "training_log").write_text("the log")
        paths = {name: made / name for name in ("prompt", "training_log")}
        tables = {name: table_of(path) for name, path in paths.items()}
        told = ToldError.of(error) if error else None
        step.exchange.put_result(step.digest, paths, JobResult(request=step.digest, outputs=tables, error=told))

    return result


def ends(status, **more):
    return lambda job: job["status"].update({"jobDeploymentStatus": status, **more})


def texts(outputs):
    return (outputs["prompt"] / "manifest.json").read_text(), outputs["training_log"].read_text()


def test_a_result_is_taken_and_the_rayjob_taken_away(step, give):
    cluster = Jobs(lambda job: (give(), ends("Complete")(job)))
    assert texts(step(cluster)) == ("the prompt", "the log")
    assert cluster.jobs == {}
    assert len(cluster.deleted) == 1


def test_the_manifest_is_believed_whatever_kuberay_says(step, give):
    cluster = Jobs(lambda job: (give(), ends("Failed", reason="SubmissionFailed")(job)))
    assert texts(step(cluster)) == ("the prompt", "the log")


@pytest.mark.parametrize("status", ["Complete", "Failed", "ValidationFailed"])
def test_success_without_a_manifest_is_none(step, status):
    cluster = Jobs(ends(status, reason="AppFailed", message="exit code 137"))
    with pytest.raises(ClusterUnavailable, match="without a result") as failure:
        step(cluster)
    assert "exit code 137" in failure.value.actual
    assert cluster.jobs == {}


def test_what_the_work_refused_is_refused_by_the_step_and_its_report_is_there(step, give, tmp_path):
    cluster = Jobs(lambda job: (give(DatasetRefused("Row 3 has no label.")), ends("Complete")(job)))
    with pytest.raises(DatasetRefused, match="Row 3"):
        step(cluster)
    assert (tmp_path / "out" / "training_log").read_text() == "the log"


def test_a_failed_rayjob_fails_with_what_its_last_try_said(step):
    error = StoreUnavailable("The object store did not answer.", where="s3://b")
    failure = JobResult(request=step.digest, outputs={}, error=ToldError.of(error))
    cluster = Jobs(lambda job: (step.exchange.put_failure(failure), ends("Failed")(job)))
    with pytest.raises(StoreUnavailable, match="did not answer"):
        step(cluster)


def test_a_result_whose_files_are_not_what_it_says_is_refused(step, give):
    def work(job):
        give()
        (file,) = step.exchange.result(step.digest).outputs["training_log"]
        with step.exchange._filesystem.open_output_stream(f"{step.exchange._folder}/outputs/{file.sha256}") as stream:
            stream.write(b"another")

    with pytest.raises(VerificationFailed):
        step(Jobs(work))


def test_a_result_with_other_outputs_is_refused(step, tmp_path):
    def work(job):
        tables = {"other": table_of(tmp_path / "dataset")}
        step.exchange.put_result(step.digest, {"other": tmp_path / "dataset"}, JobResult(request=step.digest, outputs=tables))

    with pytest.raises(VerificationFailed, match="other outputs"):
        step(Jobs(work))


def test_a_second_try_of_the_step_adopts_what_still_runs(step, give):
    cluster = Jobs()
    lost = StepPod("step-0", "uid-0", "image", "0123abcd-4567")
    cluster.create({"metadata": {"name": step.name, "ownerReferences": [lost.owner]}})
    (uid,) = [job["metadata"]["uid"] for job in cluster.jobs.values()]
    owners = []
    cluster.work = lambda job: (owners.append(owners_of(job)), give(), ends("Complete")(job))
    step(cluster)
    assert owners == [["uid-1"]], "the first pod's end takes nothing along"
    assert cluster.deleted == [uid]


def test_a_second_try_starts_anew_after_one_that_ended_without_a_result(step, give):
    cluster = Jobs()
    cluster.create({"metadata": {"name": step.name, "ownerReferences": []}})
    cluster.jobs[step.name]["status"] = {"jobDeploymentStatus": "Failed"}
    cluster.work = lambda job: (give(), ends("Complete")(job))
    step(cluster)
    assert len(cluster.deleted) == 2


def test_a_second_try_waits_for_the_end_of_one_that_is_being_deleted(step, give, monkeypatch):
    cluster = Jobs(lambda job: (give(), ends("Complete")(job)))
    cluster.create({"metadata": {"name": step.name, "deletionTimestamp": "now"}})
    monkeypatch.setattr(run.time, "sleep", lambda seconds: cluster.jobs.clear())
    step(cluster)
    assert len(cluster.deleted) == 1


def test_a_second_try_takes_a_result_that_is_there_and_makes_no_rayjob(step, give):
    give()
    cluster = Jobs(lambda job: pytest.fail("nothing was to be made"))
    cluster.create({"metadata": {"name": step.name, "ownerReferences": [{"uid": "uid-0"}]}})
    cluster.create = lambda job: pytest.fail("nothing was to be made")
    assert texts(step(cluster)) == ("the prompt", "the log")
    assert cluster.jobs == {}, "what the earlier try had made is not needed any more"


def test_an_api_that_does_not_delete_spoils_no_result(step, give, capsys):
    def away(name, *, owner=""):
        raise ClusterUnavailable("The Kubernetes API did not delete a RayJob.")

    cluster = Jobs(lambda job: give())
    cluster.delete = away
    assert texts(step(cluster)) == ("the prompt", "the log")
    assert "could not be deleted" in capsys.readouterr().out


def test_a_step_that_is_told_to_end_takes_its_rayjob_along(step):
    cluster = Jobs(lambda job: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        step(cluster)
    assert end.value.code == 143
    assert cluster.jobs == {}
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_step_that_is_told_to_end_leaves_a_rayjob_that_another_try_has_adopted(step):
    def adopted(job):
        job["metadata"]["ownerReferences"] = [{"uid": "uid-2"}]
        os.kill(os.getpid(), signal.SIGTERM)

    cluster = Jobs(adopted)
    with pytest.raises(SystemExit):
        step(cluster)
    assert list(cluster.jobs) == [step.name]


def test_a_rayjob_that_somebody_deletes_is_missed(step):
    cluster = Jobs()
    cluster.work = lambda job: cluster.jobs.clear()
    cluster.changes = lambda name, seconds: (cluster.jobs.clear(), iter(()))[1]
    with pytest.raises(ClusterUnavailable, match="deleted while"):
        step(cluster)


def test_an_api_that_is_away_for_a_while_is_waited_for(step, give, capsys):
    cluster, times = Jobs(), itertools.count()

    def changes(name, seconds):
        if next(times) < 3:
            raise ClusterUnavailable("The Kubernetes API did not show a RayJob's changes.", actual="connection refused")
        give()
        yield from ()

    cluster.changes = changes
    step(cluster)
    assert capsys.readouterr().out.count("Trying again") == 3


def test_an_api_that_stays_away_is_given_up(step, monkeypatch):
    monkeypatch.setattr(run, "PATIENCE_SECONDS", 0.05)
    cluster = Jobs()

    def changes(name, seconds):
        raise ClusterUnavailable("The Kubernetes API did not show a RayJob's changes.")

    cluster.changes = changes
    with pytest.raises(ClusterUnavailable, match="did not show"):
        step(cluster)


def test_the_step_says_that_it_waits_again_and_again(step, give):
    signs = []

    def work(job):
        signs.append(step.exchange.waiting())
        if len(signs) == 3:
            give()

    step(Jobs(work))
    assert len(set(signs)) == 3
    assert all(sign.startswith("uid-1 ") for sign in signs)


def test_states_and_the_log_of_the_work_come_into_the_steps_log(step, give, capsys):
    cluster = Jobs()
    cluster.lines = {"submitter-1": ["[tune_prompt] step 1/2"]}
    states = iter(["Initializing", "Running", "Running"])

    def work(job):
        state = next(states, "Complete")
        ends(state, rayClusterStatus={"readyWorkerReplicas": 1, "desiredWorkerReplicas": 2})(job)
        if state == "Complete":
            cluster.lines["submitter-2"] = ["[tune_prompt] step 2/2"]
            give()

    cluster.work = work
    step(cluster)
    out = capsys.readouterr().out
    assert "its Ray cluster starts, 1 of 2 workers are ready" in out
    assert out.count("runs with 2 workers") == 1
    assert "[tune_prompt] step 1/2\n" in out


def test_a_name_is_one_steps_and_the_same_each_time():
    names = {
        job_name("tune_prompt", "0123ABCD-4567", PLACE, "a" * 64),
        job_name("tune_prompt", "0123abcd-4567", PLACE, "a" * 64),
        job_name("tune_prompt", "0123abcd-4567", PLACE + "2", "a" * 64),
        job_name("tune_prompt", "0123abcd-4567", PLACE, "b" * 64),
        job_name("evaluate_prompt", "", PLACE, "b" * 64),
    }
    assert len(names) == 4
    for name in names:
        assert len(name) <= 47, "KubeRay's limit"
        assert name.replace("-", "a").isalnum()
        assert name[0].isalpha()


@pytest.mark.parametrize(
    ("storage", "uri", "sentence"), [("", "http://mlflow", "object storage"), ("s3://b", "sqlite:///x.db", "database file")]
)
def test_what_ray_pods_cannot_reach_is_refused_before_anything_is_made(ask, storage, uri, sentence):
    request = ask().model_copy(update={"tracking_uri": uri})
    with pytest.raises(InvalidRequest, match=sentence):
        run_on_rayjob(request, {}, {}, storage=storage, place=PLACE, task_config=None, cluster=Jobs())


def test_outside_of_a_cluster_there_are_no_rayjobs(step, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidRequest, match="Only a pod"):
        step(None)


def test_in_another_thread_no_signal_is_caught(step, give):
    cluster, found = Jobs(lambda job: give()), []
    thread = threading.Thread(target=lambda: found.append(texts(step(cluster))))
    thread.start()
    thread.join(20)
    assert found == [("the prompt", "the log")]
