"""Tuning on KubeRay, for real: a step's pod makes a RayJob whose two worker pods tune a prompt; what is killed does not count.

The reference is the same recipe with two workers on this machine; all prompts are compared bit by bit.
"""

import itertools
import time
import uuid

import pytest

from softprompt.artifact import PromptFile
from softprompt.data.dataset import DatasetManifest, read_manifest
from softprompt.evaluation.evaluate import evaluate_prompt
from softprompt.evaluation.gate_report import GateReport
from softprompt.progress import NoSink
from softprompt.resolve import resolve_recipe
from softprompt.tuning.training_log import TrainingLog
from softprompt.tuning.tune import tune_prompt
from tests.cluster.locks import lock
from tests.cluster.step_pods import patient_s3
from tests.cluster.training_place import TRAINERS, TrainingPlace, recipe_text, recipe_with
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
STEPS = 300
TRAINING = f"steps: {STEPS}, validate_every_steps: 20, batch_size: 32"
TENSOR = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def place(kubernetes, images, tmp_path_factory):
    name = f"rayjob-{uuid.uuid4().hex[:8]}"
    made = TrainingPlace(kubernetes, name, images.name("steps"), name, tmp_path_factory.mktemp("rayjob"))
    kubernetes.namespace(name)
    patient_s3(kubernetes.s3).create_bucket(Bucket=name)
    made.install()
    yield made
    kubernetes.delete_namespace(name)


@pytest.fixture(scope="module")
def resolved():
    return recipe_with(f"{TRAINING}, num_workers: 2")


@pytest.fixture(scope="module")
def dataset(place, resolved):
    return place.put_dataset(resolved, "tickets")


def tuned_here(place, resolved, name):
    """The folder with the prompt and the log of a training on this machine, over the dataset of `put_dataset`."""
    folder = place.folder / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("SOFTPROMPT_CACHE", str(place.folder / "cache"))
        outputs = [folder / name for name in ("prompt", "log", "page")]
        dataset = place.folder / "tickets" / "dataset"
        tune_prompt(resolved, dataset, *outputs, sink=NoSink(), run_id=name, storage=str(folder / "checkpoints"))
    return folder


@pytest.fixture(scope="module")
def tuned(place, resolved, dataset):
    """Tuned by two workers on this machine."""
    return tuned_here(place, resolved, "reference")


@pytest.fixture(scope="module")
def reference(tuned):
    """The bytes of its prompt's tensor."""
    return (tuned / "prompt" / TENSOR).read_bytes()


ASK_RAY = """
import os, sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:8265/api/jobs/")
if sys.argv[1:]:
    request.add_header("Authorization", "Bearer " + os.environ["RAY_AUTH_TOKEN"])
try:
    print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def answers_of_ray(place):
    """What the head's dashboard, which takes jobs, answers without a token and with the cluster's."""
    ask = ("python3", "-c", ASK_RAY)
    return place.in_head(*ask).strip(), place.in_head(*ask, "with token").strip()


class Training:
    """A step that is tried again as often as its pod is lost, as KFP does it.

    Args:
        place: Where it runs.
        resolved: The recipe.
        dataset: URI of its artifact.
        task_config: What is set on the task.
    """

    def __init__(self, place: TrainingPlace, resolved, dataset, **task_config):
        self.place, self.steps, self._dataset, self._attempts = place, place.steps(), dataset, itertools.count()
        self._parameters = {"resolved_recipe": resolved.to_bytes().decode(), "backend": "rayjob", "task_config": task_config}
        self._looks = resolved.recipe.training.validate_every_steps
        self._others = {run for run, _ in place.checkpoints()}
        self.began = time.monotonic()
        self.pod = self._start()

    def _start(self):
        return self.steps.start("tune_prompt", self._parameters, {"dataset": self._dataset}, next(self._attempts))

    def reach(self, step):
        """Wait until the training has kept a checkpoint of this step or a later one; 0: until its driver runs.

        Not by the log: where several nodes share one machine, each kubelet tidies the others' logs away.
        """
        if step:
            look = lambda: self._kept() * self._looks >= step
        else:
            look = lambda: [job for job in self.place.rayjobs() if job.get("status", {}).get("jobStatus") == "RUNNING"]
        wait_for(look, f"step {step}", timeout_seconds=900, every_seconds=1 if step else 3)
        self._say(f"reached: step {step}")

    def _kept(self):
        return max((number for run, number in self.place.checkpoints() if run not in self._others), default=0)

    def _say(self, words):
        print(f"{time.monotonic() - self.began:6.1f} s  {words}", flush=True)

    def lose(self, victim):
        """Lose a `worker`, the `head`, or the `step`'s pod."""
        if victim == "step":
            self.place.kubernetes.run("kubectl", "delete", "pod", self.pod, "--namespace", self.place.namespace)
            self.pod = self._start()
        else:
            self.place.remove(self.place.ray_pods(victim)[:1])
        self._say(f"lost: {victim}")

    def finish(self):
        """The log of the last try, and the bytes of the prompt's tensor; nothing is left of any RayJob."""
        log = self.steps.wait(self.pod, timeout_seconds=1200)
        self._say("done")
        self.place.wait_until_clean()
        return log, self.steps.output("tune_prompt", "prompt", TENSOR)


def test_a_rayjob_with_two_workers_tunes_the_prompt_of_two_workers_here(place, resolved, dataset, reference):
    training = Training(place, resolved, dataset)
    training.reach(20)
    assert answers_of_ray(place) == ("401", "200")
    log, tensor = training.finish()
    assert tensor == reference
    assert "runs with 2 workers" in log
    assert f"step {STEPS}/{STEPS}" in log, "its log is the step's"


@pytest.mark.cluster_soak
def test_a_training_that_loses_a_worker_then_its_head_then_its_step_ends_with_the_same_prompt(
    place, resolved, dataset, reference
):
    training = Training(place, resolved, dataset)
    for step, victim in ((60, "worker"), (140, "head"), (220, "step")):
        training.reach(step)
        training.lose(victim)
    _, tensor = training.finish()
    assert tensor == reference


@pytest.mark.cluster_soak
@pytest.mark.parametrize("victim", ["worker", "head", "step"])
def test_whoever_is_lost_at_four_moments_the_prompt_is_the_same(place, resolved, dataset, reference, victim):
    training = Training(place, resolved, dataset)
    for step in (0, 20, 160, STEPS - 20):
        training.reach(step)
        training.lose(victim)
    _, tensor = training.finish()
    assert tensor == reference


def test_a_try_that_follows_one_which_could_say_nothing_adopts_its_rayjob(place, resolved, dataset, reference):
    training = Training(place, resolved, dataset)
    training.reach(20)
    (before,), lost = place.rayjobs(), training.pod
    # Every process but the launcher: the step is gone without a word, as after the out-of-memory killer.
    kill = ("kubectl", "exec", lost, "--namespace", place.namespace, "--", "python3", "-c", "import os; os.kill(-1, 9)")
    place.kubernetes.attempt(*kill)
    assert place.kubernetes.phase_at_end(lost, place.namespace) == "Failed"
    training.pod = training._start()
    owned = lambda: [owner["name"] for owner in place.rayjobs()[0]["metadata"]["ownerReferences"]]
    wait_for(lambda: owned() == [training.pod], "the second pod has adopted the RayJob", timeout_seconds=180, every_seconds=3)
    place.kubernetes.run("kubectl", "delete", "pod", lost, "--namespace", place.namespace)
    training.reach(160)
    (after,) = place.rayjobs()
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "what the first pod owned is not its any more"
    _, tensor = training.finish()
    assert tensor == reference


SPOT = "softprompt.dev/spot"
"""A taint and a label of nodes that may go at any time."""


@pytest.fixture
def spot_nodes(three_nodes):
    """Two of the nodes, for workers only; the test crashes one, so that nobody else does at the same time."""
    nodes = three_nodes.nodes()[1:]
    with lock("nodes"):
        three_nodes.wait_until_whole()
        three_nodes.kubernetes.run("kubectl", "taint", "nodes", *nodes, f"{SPOT}=true:NoSchedule")
        three_nodes.kubernetes.run("kubectl", "label", "nodes", *nodes, f"{SPOT}=true")
        yield nodes
        three_nodes.kubernetes.run("kubectl", "taint", "nodes", *nodes, f"{SPOT}-")
        three_nodes.kubernetes.run("kubectl", "label", "nodes", *nodes, f"{SPOT}-")


def test_a_node_that_crashes_under_a_worker_costs_no_bit(machine, spot_nodes, images, place, resolved, dataset, reference):
    assert images.name("steps") == place.image, "it is on the new nodes, too"
    tolerations = [{"key": SPOT, "operator": "Exists"}]
    training = Training(place, resolved, dataset, tolerations=tolerations, nodeSelector={SPOT: "true"})
    training.reach(60)
    pods = [place.kubernetes.get("pod", name, "--namespace", place.namespace) for name in place.ray_pods("worker")]
    nodes = {pod["spec"]["nodeName"] for pod in pods}
    assert nodes <= set(spot_nodes), "what was set on the task reached the workers"
    node = max(nodes)
    with machine.crashed(node):
        training._say(f"crashed: {node}")
        # As whoever runs the machines says when one is gone for good; a cloud removes the node's object, to the same end.
        gone = ("kubectl", "taint", "nodes", node, "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
        machine.kubernetes.run(*gone)
        try:
            _, tensor = training.finish()
        finally:
            machine.kubernetes.run("kubectl", "taint", "nodes", node, "node.kubernetes.io/out-of-service-")
    assert tensor == reference


def test_in_a_queue_nothing_runs_until_kueue_says_so(place, resolved, dataset):
    """Kueue itself is not here; what it does to a RayJob is one patch."""
    place.install(**{"pipeline.environment.SOFTPROMPT_RAYJOB_QUEUE": "gpus"})
    try:
        training = Training(place, recipe_with("steps: 2, num_workers: 1"), dataset)
        is_queued = lambda: [job for job in place.rayjobs() if job.get("status", {}).get("jobDeploymentStatus") == "Suspended"]
        (rayjob,) = wait_for(is_queued, "the RayJob waits", timeout_seconds=180, every_seconds=3)
        assert rayjob["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
        assert place.names("pods", *TRAINERS) == []
        named = (rayjob["metadata"]["name"], "--namespace", place.namespace)
        place.kubernetes.run("kubectl", "patch", "rayjob", *named, "--type=merge", '--patch={"spec":{"suspend":false}}')
        log, _ = training.finish()
        assert "waits for its queue" in log
    finally:
        place.install()


@pytest.mark.cluster_soak
def test_rows_are_validated_and_answered_over_ray_as_they_are_here(place, resolved, dataset, tuned):
    text = recipe_text(f"{TRAINING}, num_workers: 2").replace("evaluation:\n", "evaluation:\n  engine: ray\n")
    over_ray = resolve_recipe(text.replace("dataset:\n", "dataset:\n  engine: ray\n"))
    steps, rows = place.steps(), place.folder / "tickets" / "dataset"
    parameters = {"resolved_recipe": over_ray.to_bytes().decode(), "backend": "rayjob"}
    steps.wait(steps.start("validate_dataset", parameters, {}))
    there = DatasetManifest.from_bytes(steps.output("validate_dataset", "dataset", "manifest.json"), source="there")
    assert there.content_digest == read_manifest(rows).content_digest
    inputs = {"prompt": tuned / "prompt", "training_log": tuned / "log"}
    uris = {name: place.put(path, f"inputs/{name}") for name, path in inputs.items()} | {"dataset": dataset}
    parameters |= {"prompt_digest": PromptFile.read(tuned / "prompt").digest}
    log = steps.wait(steps.start("evaluate_prompt", parameters, uris))
    assert "runs with 1 workers" in log
    found = GateReport.from_bytes(steps.output("evaluate_prompt", "gate_report"), source="there")
    here = evaluate_prompt(resolved, rows, *inputs.values(), tuned / "gates", tuned / "evaluation.html")
    assert found.measured == here.measured
    assert found.verdict == here.verdict
    place.wait_until_clean()


LONG = "steps: 600, validate_every_steps: 20, batch_size: 128"
"""Minutes of training."""
GROUP_SIZE = "grep -hoE 'Started training worker group of size [0-9]+' /tmp/ray/session_latest/logs/job-driver-*.log | tail -1"


def group_size(place):
    """How many workers take part in the training that runs, as Ray Train's controller told the driver."""
    return int((place.in_head("sh", "-c", GROUP_SIZE).split() or ["0"])[-1])


@pytest.mark.cluster_soak
def test_a_training_grows_when_there_is_room_and_ends_with_the_same_prompt(place, dataset):
    """With one worker, two, and one again: the bits of two workers here."""
    here = tuned_here(place, recipe_with(f"{LONG}, num_workers: 2"), "long")
    training = Training(place, recipe_with(f"{LONG}, num_workers: [1, 2]"), dataset)
    training.reach(20)
    assert group_size(place) == 1, "the second pod is the autoscaler's"
    wait_for(lambda: group_size(place) == 2, "the training has grown", timeout_seconds=300, every_seconds=3)
    training._say("two workers")
    training.lose("worker")
    _, tensor = training.finish()
    assert tensor == (here / "prompt" / TENSOR).read_bytes()
    assert losses(training.steps.output("tune_prompt", "training_log")) == losses((here / "log").read_bytes())


def losses(log):
    """The training loss at each look."""
    return [look.training_loss for look in TrainingLog.from_bytes(log, source="log").measurements]
