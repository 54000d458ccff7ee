"""The chart: its values are documented and checked, and a fleet of it becomes ready and answers on a real cluster.

The tests marked `cluster` start the cluster of one machine that lies beside this repository, build and load the image, and
install the chart under Pod Security `restricted`.
"""

import base64
import copy
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from ruamel.yaml import YAML

from components import IMAGE
from infra import check_chart
from softprompt import __version__
from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.engine.encoding import TextEncoder
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.fetch import fetch_base
from softprompt.release.care.init_channel import init_channel, publishing_key_file
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.store import S3Store

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "softprompt"
CLUSTER = ROOT.parent / "shared" / "cluster"
CLUSTER_STATE = Path(os.environ.get("SOFTPROMPT_CLUSTER", "/var/lib/softprompt-cluster"))
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
LAPTOP = CHART / "ci" / "laptop-values.yaml"


def read_yaml(path: Path) -> dict:
    return YAML(typ="safe").load(path)


def schema() -> dict:
    return json.loads((CHART / "values.schema.json").read_text())


def problems(values: dict) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    return [error.message for error in jsonschema.Draft7Validator(schema()).iter_errors(values)]


def with_value(values: dict, path: str, value: object) -> dict:
    changed = copy.deepcopy(values)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    return changed


@pytest.mark.parametrize("path", [CHART / "values.yaml", *EXAMPLES], ids=lambda path: path.name)
def test_the_values_keep_to_their_schema(path):
    assert problems(read_yaml(path)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 3),
        ("store.url", "s3://b"),
        ("store.uri", "http://bucket"),
        ("store.endpoint", "s3.example:7070"),
        ("trustRoot.kind", "Volume"),
        ("serviceAccounts.reviewer", {"create": True}),
        ("serving.replica", 3),
        ("serving.replicas", "2"),
        ("serving.baseModel.uri", "hf://org/name@main"),
        ("serving.image.digest", "sha256:1"),
        ("serving.arguments", ["max-rows=3"]),
        ("serving.environment", {"A": 1}),
        ("serving.environment", {"A-B": "1"}),
        ("serving.podDisruptionBudget.maxUnavailable", 0),
        ("serving.podDisruptionBudget.maxUnavailable", "half"),
        ("serving.resources.limits", {"memory": "2 GB"}),
        ("serving.autoscaling.minReplicas", 0),
        ("reconciler.git.remote", "https://user:password@git.example/prompts.git"),
        ("reconciler.replicas", 2),
        ("pipeline.backend", "slurm"),
        ("pipeline.policies", {"Staging": "authority: git"}),
        ("mlflow.artifacts", "file:///tmp"),
        ("networkPolicy.clients", [{}]),
        ("networkPolicy.clients", [{"podSelectors": {}}]),
        ("networkPolicy.store", []),
        ("networkPolicy.store.ports", ["http"]),
        ("priorityClasses.serving", 2_000_000_000),
        ("externalSecrets.secrets", {"tokens": {"data": {}}}),
    ],
)
def test_the_schema_refuses_what_is_not_known_or_cannot_work(path, value):
    assert problems(with_value(read_yaml(CHART / "values.yaml"), path, value))


def test_every_object_of_the_schema_is_closed():
    def objects(part: object, path: str = "values"):
        if isinstance(part, dict):
            if "properties" in part and part.get("type") == "object":
                yield path, part
            for key, below in part.items():
                yield from objects(below, f"{path}.{key}")

    open_ones = [path for path, part in objects(schema()) if part.get("additionalProperties") is not False]
    assert open_ones == []


def test_every_value_says_what_it_is():
    """A key is documented itself, or lies in one that is, or is a group whose first key is documented or a group."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent, covered_from = [], None
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        indent = len(line) - len(line.lstrip())
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if covered_from is not None and indent > covered_from:
            continue
        covered_from = indent if before.lstrip().startswith("# --") else None
        is_group = line.endswith(":") and (after.lstrip().startswith("# --") or after.endswith(":"))
        if covered_from is None and not is_group:
            silent.append(line)
    assert silent == []


def test_chart_images_and_package_are_of_one_version():
    chart, values = read_yaml(CHART / "Chart.yaml"), read_yaml(CHART / "values.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    images = [values[part]["image"] for part in ("serving", "reconciler", "mlflow")]
    assert [image["repository"] for image in images] == ["softprompt/serving", "softprompt/release", "softprompt/steps"]
    assert {values["image"]["tag"], *(image["tag"] for image in images)} == {""}
    assert f"{images[-1]['repository']}:{chart['appVersion']}" == IMAGE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_pass_lint(path):
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    done = subprocess.run(["helm", "lint", "--strict", CHART, "--values", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [check_chart.VERSIONS[0], check_chart.VERSIONS[-1]])
def test_every_object_fits_the_schemas_of_oldest_and_newest_kubernetes(version):
    """`make chart` does this for every example and every version between."""
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    objects, unknown = check_chart.render(CHART / "ci" / "production-values.yaml", version), set()
    assert list(check_chart.faults(objects, version, unknown)) == []
    assert {kind.partition(" ")[0] for kind in unknown} == {"ExternalSecret", "LocalQueue", "ServiceMonitor"}
    deployment = next(found for found in objects if found["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Never"
    assert "imagePullPolicies" in "".join(check_chart.faults([deployment], version, unknown)), "what no version knows is found"


def test_the_chart_passes_its_own_tests():
    if not shutil.which("helm-unittest"):
        pytest.skip("helm-unittest is not on PATH")
    done = subprocess.run(["helm-unittest", CHART], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_says_what_the_values_say():
    if not shutil.which("helm-docs"):
        pytest.skip("helm-docs is not on PATH")
    command = ["helm-docs", "--chart-search-root", CHART, "--dry-run", "--log-level", "error"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert made.strip() == (CHART / "README.md").read_text().strip()


# What follows is marked `cluster`.


@dataclass(frozen=True)
class Kubernetes:
    """The cluster of this machine, through its own command lines."""

    environment: dict[str, str]

    def run(self, *command: str | Path, given: object = None, timeout_seconds: float = 120) -> str:
        """What a command prints; objects go to it as JSON on standard input, so that nothing secret is an argument."""
        done = subprocess.run(
            [str(part) for part in command],
            input=None if given is None else json.dumps(given),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            cwd=ROOT,
        )
        assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def apply(self, *objects: dict) -> None:
        self.run("kubectl", "apply", "--filename", "-", given={"apiVersion": "v1", "kind": "List", "items": list(objects)})

    def get(self, *what: str) -> dict:
        return json.loads(self.run("kubectl", "get", *what, "--output", "json"))

    def namespace(self, name: str, level: str = "restricted") -> str:
        self.apply(_object("v1", "Namespace", name, labels={"pod-security.kubernetes.io/enforce": level}))
        return name

    @cached_property
    def s3(self) -> S3Access:
        """The cluster's S3 server, as its owner."""
        keys = self.get("secret", "s3-root", "--namespace", "s3")["data"]
        address = self.get("service", "s3", "--namespace", "s3")["spec"]["clusterIP"]
        access, secret = (base64.b64decode(keys[name]).decode() for name in ("access", "secret"))
        return S3Access(endpoint_url=f"http://{address}:7070", region="us-east-1", access_key_id=access, secret_access_key=secret)


def make_reader(owner: S3Access, bucket: str) -> S3Access:
    """A new user of the cluster's S3 server (versitygw) who may list one bucket and get its objects, nothing else."""
    reader = dataclasses.replace(owner, access_key_id=f"reader-{uuid.uuid4().hex[:8]}", secret_access_key=secrets.token_hex(16))
    fields = {"Access": reader.access_key_id, "Secret": reader.secret_access_key, "Role": "user"}
    account = f"<Account>{''.join(f'<{name}>{value}</{name}>' for name, value in fields.items())}</Account>"
    headers = {"x-amz-content-sha256": hashlib.sha256(account.encode()).hexdigest()}
    request = AWSRequest("PATCH", f"{owner.endpoint_url}/create-user", data=account.encode(), headers=headers)
    SigV4Auth(Credentials(owner.access_key_id, owner.secret_access_key), "s3", owner.region).add_auth(request)
    httpx.request("PATCH", request.url, content=account.encode(), headers=dict(request.headers)).raise_for_status()
    allowed = {
        "Effect": "Allow",
        "Principal": {"AWS": [reader.access_key_id]},
        "Action": ["s3:ListBucket", "s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    s3_client(owner).put_bucket_policy(Bucket=bucket, Policy=policy)
    return reader


def _object(api: str, kind: str, name: str, *, labels: dict | None = None, namespace: str = "", **content: object) -> dict:
    metadata = {"name": name, "labels": labels or {}} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}


@dataclass
class Channel:
    """A channel in a bucket of its own on the cluster's S3 server, whose base model lies beside it."""

    folder: Path
    store: S3Store
    bucket: str
    base: FrozenBase

    @property
    def trust_root(self) -> Path:
        return self.folder / "root.json"

    def begin(self) -> None:
        policy = self.folder / "environments" / "laptop" / "_policy.yaml"
        policy.parent.mkdir(parents=True)
        policy.write_text(LAPTOP_POLICY)
        init_channel("laptop", store=self.store, keys_dir=self.folder / "keys", trust_root=self.trust_root)

    def publish(self, prompt: PromptFile) -> int:
        outcome = publish_prompt(
            prompt=prompt,
            name="colours",
            channel="laptop",
            verdict="passed",
            evidence={},
            model_version="1",
            numerics="float32",
            store=self.store,
            policy_dir=self.folder / "environments",
            trust_root=self.trust_root,
            signing_key=publishing_key_file(self.folder / "keys", "laptop"),
            state_dir=self.folder / "journal",
        )
        assert outcome.outcome == "published"
        return outcome.generation

    def prompt(self, seed: int) -> PromptFile:
        template = "Thing: {text}\nColour:"
        return PromptFile.build(
            np.random.default_rng(seed).normal(scale=0.5, size=(4, self.base.hidden_size)).astype(np.float32),
            task="classification",
            template=template,
            template_examples=TextEncoder(self.base.text, template).examples(),
            answers=tuple(Answer(label=label, text=f" {label}") for label in ("blue", "red", "green")),
            max_new_tokens=5,
            base_fingerprint=self.base.fingerprint,
        )

    def answer_here(self, prompt: PromptFile, text: str) -> dict[str, float]:
        """Label -> probability, as this process computes it."""
        task = EncodedTask.of_manifest(self.base.text, prompt.manifest)
        found = Predictor(self.base, task, SoftPrompt(torch.from_numpy(prompt.values))).predict([{"text": text}])[0]
        return dict(zip((answer.label for answer in prompt.manifest.answers), found.probabilities, strict=True))


@pytest.fixture(scope="module")
def kubernetes() -> Kubernetes:
    """The cluster, started if need be, with the image of this working tree on its node."""
    if not (CLUSTER / "up").is_file():
        pytest.skip(f"{CLUSTER} is absent")
    if os.geteuid() != 0:
        pytest.skip("a cluster on this machine needs root")
    path = f"{CLUSTER_STATE / 'bin'}:{os.environ['PATH']}"
    found = Kubernetes(dict(os.environ) | {"KUBECONFIG": str(CLUSTER_STATE / "kubeconfig"), "PATH": path})
    found.run(CLUSTER / "up", timeout_seconds=600)
    found.run("make", "image", f"IMAGE_BUILD={CLUSTER / 'image'} build", timeout_seconds=1800)
    found.run(CLUSTER / "image", "load", IMAGE, timeout_seconds=600)
    return found


@pytest.fixture(scope="module")
def channel(kubernetes, llama_directory, tmp_path_factory) -> Channel:
    """Serves one prompt."""
    bucket, client = f"chart-{uuid.uuid4().hex[:12]}", s3_client(kubernetes.s3)
    client.create_bucket(Bucket=bucket)
    for file in llama_directory.iterdir():
        client.upload_file(str(file), bucket, f"bases/tiny/{file.name}")
    made = Channel(tmp_path_factory.mktemp("channel"), S3Store(bucket, "", client), bucket, load_base_model(llama_directory))
    made.begin()
    made.publish(made.prompt(seed=1))
    return made


@pytest.fixture(scope="module")
def namespace(kubernetes, channel):
    """One in which pods must be `restricted`, with what the chart wants to be there already."""
    name = kubernetes.namespace(f"chart-{uuid.uuid4().hex[:8]}")
    reader = make_reader(kubernetes.s3, channel.bucket)
    keys = {"AWS_ACCESS_KEY_ID": reader.access_key_id, "AWS_SECRET_ACCESS_KEY": reader.secret_access_key}
    kubernetes.apply(
        _object("v1", "Secret", "softprompt-reader", namespace=name, stringData=keys),
        _object("v1", "ConfigMap", "softprompt-trust-root", namespace=name, data={"root.json": channel.trust_root.read_text()}),
    )
    yield name
    kubernetes.run("kubectl", "delete", "namespace", name, "--wait=false")


def install(kubernetes: Kubernetes, release: str, namespace: str, channel: Channel, **sets: str) -> None:
    """Install and return at once."""
    values = {"store.uri": f"s3://{channel.bucket}", "serving.baseModel.uri": f"s3://{channel.bucket}/bases/tiny"} | sets
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    kubernetes.run(
        *("helm", "upgrade", "--install", release, CHART, "--namespace", namespace, "--values", LAPTOP, *settings),
        # The machine itself is a client of these tests, at the address that it has on the nodes' network.
        *("--set", "networkPolicy.clients[0].podSelector.matchLabels.may=ask"),
        *("--set", "networkPolicy.clients[1].ipBlock.cidr=10.99.0.0/24"),
    )


def wait_until_ready(kubernetes: Kubernetes, release: str, namespace: str) -> str:
    """URL of the release's Service, once a pod of it is ready."""
    here = ("--namespace", namespace)
    try:
        kubernetes.run("kubectl", "rollout", "status", f"deployment/{release}", *here, "--timeout=280s", timeout_seconds=300)
    except AssertionError as error:
        log = kubernetes.run("kubectl", "logs", f"deployment/{release}", *here, "--tail=30")
        raise AssertionError(f"{error}\n{log}\n{kubernetes.run('kubectl', 'get', 'events', *here)}") from None
    return f"http://{kubernetes.get('service', release, *here)['spec']['clusterIP']}"


@pytest.fixture(scope="module")
def fleet(kubernetes, namespace, channel) -> str:
    """URL of a fleet that is ready."""
    install(kubernetes, "softprompt", namespace, channel)
    return wait_until_ready(kubernetes, "softprompt", namespace)


def classify(fleet: str, text: str) -> httpx.Response:
    return httpx.post(f"{fleet}/v1/classify", json={"model": "colours", "input": text}, timeout=30)


@pytest.mark.cluster
def test_a_fleet_under_pod_security_restricted_answers_as_this_process_does(fleet, channel):
    assert [model["id"] for model in httpx.get(f"{fleet}/v1/models", timeout=30).json()["data"]] == ["colours"]
    reply = classify(fleet, "ruby")
    assert reply.headers["x-softprompt-digest"] == f"sha256:{channel.prompt(seed=1).digest}"
    assert reply.json()["probabilities"] == pytest.approx(channel.answer_here(channel.prompt(seed=1), "ruby"), abs=1e-4)
    unknown = httpx.post(f"{fleet}/v1/completions", json={"model": "base", "prompt": "ruby"}, timeout=30)
    assert unknown.status_code == 404


@pytest.mark.cluster
def test_a_published_prompt_is_swapped_in_without_a_restart(kubernetes, namespace, fleet, channel):
    new = channel.prompt(seed=2)
    generation = channel.publish(new)
    deadline = time.monotonic() + 60
    while not (reply := classify(fleet, "ruby")).headers["x-softprompt-digest"].endswith(new.digest):
        assert time.monotonic() < deadline, "the new prompt was never served"
        time.sleep(0.5)
    assert reply.headers["x-softprompt-generation"] == str(generation)
    assert reply.json()["probabilities"] == pytest.approx(channel.answer_here(new, "ruby"), abs=1e-4)
    pods = kubernetes.get("pods", "--namespace", namespace, "--selector", "app.kubernetes.io/instance=softprompt")["items"]
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0]


@pytest.mark.cluster
def test_another_fleet_serves_the_same_channel_on_the_base_model_that_is_in_the_image(kubernetes, namespace, channel):
    embedded = dataclasses.replace(channel, base=load_base_model(fetch_base("embedded://base")))
    prompt = embedded.prompt(seed=3)
    embedded.publish(prompt)
    install(kubernetes, "softprompt-embedded", namespace, channel, **{"serving.baseModel.uri": "embedded://base"})
    reply = classify(wait_until_ready(kubernetes, "softprompt-embedded", namespace), "ruby")
    assert reply.headers["x-softprompt-digest"] == f"sha256:{prompt.digest}"
    assert reply.json()["probabilities"] == pytest.approx(embedded.answer_here(prompt, "ruby"), abs=1e-4)
    kubernetes.run("helm", "uninstall", "softprompt-embedded", "--namespace", namespace)


ASK_FROM_A_POD = """
import sys, time, urllib.request
for _ in range(8):  # policies take effect a little late
    try:
        urllib.request.urlopen(sys.argv[1] + "/v1/models", timeout=2)
        sys.exit(0)
    except OSError as error:
        time.sleep(0.5)
sys.exit(str(error))
"""


@pytest.mark.cluster
def test_only_named_clients_reach_the_pods(kubernetes, namespace, fleet):
    outcomes = {}
    for name, labels in (("friend", {"may": "ask"}), ("stranger", {})):
        kubernetes.apply(_asking_pod(name, namespace, labels, fleet))
        outcomes[name] = _phase_at_end(kubernetes, name, namespace)
    assert outcomes == {"friend": "Succeeded", "stranger": "Failed"}


def _asking_pod(name: str, namespace: str, labels: dict[str, str], fleet: str) -> dict:
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "ask",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", ASK_FROM_A_POD, fleet],
        "securityContext": safe | {"runAsNonRoot": True, "readOnlyRootFilesystem": True},
    }
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
    return _object("v1", "Pod", name, namespace=namespace, labels=labels, spec=spec)


def _phase_at_end(kubernetes: Kubernetes, pod: str, namespace: str) -> str:
    deadline = time.monotonic() + 90
    while (phase := kubernetes.get("pod", pod, "--namespace", namespace)["status"].get("phase")) not in ("Succeeded", "Failed"):
        assert time.monotonic() < deadline, f"pod {pod} is still {phase}"
        time.sleep(1)
    return phase


@pytest.mark.cluster
def test_a_node_that_may_believe_nobody_is_never_ready_and_says_why(kubernetes, namespace, channel, tmp_path):
    """Its trust root knows a channel of the same name, but with other keys."""
    bucket = f"other-{uuid.uuid4().hex[:12]}"
    client = s3_client(kubernetes.s3)
    client.create_bucket(Bucket=bucket)
    other = Channel(tmp_path, S3Store(bucket, "", client), bucket, channel.base)
    other.begin()
    data = {"root.json": other.trust_root.read_text()}
    kubernetes.apply(_object("v1", "ConfigMap", "other-trust-root", namespace=namespace, data=data))
    install(kubernetes, "softprompt-doubting", namespace, channel, **{"trustRoot.name": "other-trust-root"})
    selector = ("--namespace", namespace, "--selector", "app.kubernetes.io/instance=softprompt-doubting")
    deadline = time.monotonic() + 120
    while True:
        found = [pod["status"]["containerStatuses"][0] for pod in kubernetes.get("pods", *selector)["items"] if _has_started(pod)]
        assert not any(container["ready"] for container in found)
        if any(container["restartCount"] for container in found):
            break
        assert time.monotonic() < deadline, "the container neither became ready nor ended"
        time.sleep(1)
    log = kubernetes.run("kubectl", "logs", *selector, "--tail=20", "--previous")
    assert "The channel has no generation that this node may serve." in log
    kubernetes.run("helm", "uninstall", "softprompt-doubting", "--namespace", namespace)


def _has_started(pod: dict) -> bool:
    return bool(pod["status"].get("containerStatuses"))
