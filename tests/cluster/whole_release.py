"""A release of every part of the chart: fleet and MLflow in one namespace, the reconciler in another, KFP runs in a third."""

import subprocess
import uuid
from dataclasses import dataclass
from typing import Any

from softprompt.release.care.init_channel import publishing_key_file
from tests.cluster.channel import Channel
from tests.cluster.fleet import CHART, LAPTOP, trust_root_object
from tests.cluster.images import Images
from tests.cluster.kubernetes import Kubernetes, an_object, restricted
from tests.cluster.s3_users import READ, WRITE, allow, as_environment, make_user

SPLIT = {"reader": "fleet", "registry": "fleet", "reconciler": "release", "pipeline": "runs", "trainer": "runs"}
"""Duty -> which of the namespaces it is in."""
# The policy takes a prompt out of use that nobody ever served, so there is something to publish. Other tests crash nodes: the pod
# may be started again, and finds what it made.
SERVE_GIT = """
set -e
if [ ! -d /tmp/git ]; then
    rm -rf /tmp/begun /tmp/work
    git init --quiet --bare --initial-branch=main /tmp/begun/prompts.git
    git clone --quiet /tmp/begun/prompts.git /tmp/work
    cd /tmp/work && git checkout --quiet -B main
    mkdir -p environments/laptop
    printf 'schema_version: 1\\nauthority: git\\nrevoked: ["%064d"]\\n' 0 > environments/laptop/_policy.yaml
    git add . && git -c user.name=tester -c user.email=tester@example.org commit --quiet -m 'Begin'
    git push --quiet origin main
    mv /tmp/begun /tmp/git
fi
exec git daemon --export-all --base-path=/tmp/git --listen=0.0.0.0 --port=9418
"""


def duty_labels(duty: str) -> dict[str, str]:
    """Labels of a pod that the network policies go by."""
    return {"app.kubernetes.io/part-of": "softprompt", "softprompt.dev/duty": duty}


@dataclass(frozen=True)
class WholeRelease:
    """See the module.

    Attributes:
        prefix: What its namespaces begin with; no other release's do.
    """

    kubernetes: Kubernetes
    channel: Channel
    images: Images
    prefix: str
    name: str = "softprompt"

    @classmethod
    def prepare(cls, kubernetes: Kubernetes, channel: Channel, images: Images) -> "WholeRelease":
        """Namespaces, restricted, with the objects that the chart wants to be there already, and a promotion repository."""
        made = cls(kubernetes, channel, images, f"whole-{uuid.uuid4().hex[:6]}")
        reader, publisher, registry = (make_user(kubernetes.s3, duty) for duty in ("reader", "publisher", "registry"))
        rights = {reader.access_key_id: READ, publisher.access_key_id: WRITE, registry.access_key_id: (*WRITE, "s3:DeleteObject")}
        allow(kubernetes.s3, channel.bucket, rights)
        for namespace in made.namespaces.values():
            kubernetes.namespace(namespace)
        fleet, release = made.namespaces["fleet"], made.namespaces["release"]
        key = publishing_key_file(channel.folder / "keys", "laptop").read_text()
        kubernetes.apply(
            *(trust_root_object(namespace, "softprompt-trust-root", channel.trust_root) for namespace in (fleet, release)),
            an_object("v1", "Secret", "softprompt-reader", namespace=fleet, stringData=as_environment(reader)),
            an_object("v1", "Secret", "softprompt-registry", namespace=fleet, stringData=as_environment(registry)),
            an_object("v1", "Secret", "softprompt-publisher", namespace=release, stringData=as_environment(publisher)),
            an_object("v1", "Secret", "softprompt-key", namespace=release, stringData={"publish.pem": key}),
            *made._git(),
        )
        return made

    @property
    def namespaces(self) -> dict[str, str]:
        """What is in a namespace -> its name. `others` is where nothing of the release is."""
        return {part: f"{self.prefix}-{part}" for part in ("fleet", "release", "runs", "others")}

    def namespace_of(self, duty: str) -> str:
        """Where a duty's pods are."""
        return self.namespaces[SPLIT[duty]]

    def values(self) -> dict[str, Any]:
        """What is other than in the values of a laptop."""

        def image(role: str) -> dict[str, str]:
            repository, _, tag = self.images.name(role).rpartition(":")  # type: ignore[arg-type]
            return {"repository": repository, "tag": tag}

        others = {"matchLabels": {"kubernetes.io/metadata.name": self.namespaces["others"]}}

        def pods(app: str) -> list[dict[str, Any]]:
            return [{"namespaceSelector": others, "podSelector": {"matchLabels": {"app": app}}}]

        small = {"requests": {"cpu": "20m", "memory": "64Mi"}}
        return {
            "store": {"uri": f"s3://{self.channel.bucket}"},
            "serving": {
                "image": image("serving"),
                "baseModel": {"uri": f"s3://{self.channel.bucket}/bases/tiny"},
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            },
            "reconciler": {
                "enabled": True,
                "namespace": self.namespaces["release"],
                "image": image("release"),
                "git": {"remote": f"git://git.{self.namespaces['others']}/prompts.git"},
                "intervalSeconds": 5,
                "signingKey": {"secret": "softprompt-key"},
                "credentials": {"secret": "softprompt-publisher"},
                "resources": small,
            },
            "pipeline": {
                "enabled": True,
                "namespace": self.namespaces["runs"],
                "kfpLauncher": {
                    "create": True,
                    "pipelineRoot": f"s3://{self.channel.bucket}/kfp",
                    "secret": "softprompt-pipeline",
                },
                "secretEnvironment": {"HF_TOKEN": "not one"},
                "environment": {"HF_HUB_OFFLINE": "1"},
            },
            "mlflow": {
                "enabled": True,
                "image": image("steps"),
                "credentials": {"secret": "softprompt-registry"},
                "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
            },
            "networkPolicy": {
                "clients": pods("client"),
                "monitoring": pods("monitoring"),
                "registryClients": pods("ingress"),
                "rayOperator": pods("ray-operator"),
                "git": {"peers": pods("git"), "ports": [9418]},
                "kfp": {"peers": pods("kfp"), "ports": [8887]},
                "sources": {"peers": pods("hub"), "ports": [8443]},
                "cloud": {"peers": pods("cloud"), "ports": [8444]},
                "apiServer": {
                    "peers": [{"ipBlock": {"cidr": f"{address}/32"}} for address in self.api_servers()],
                    "ports": [6443],
                },
            },
        }

    def install(self) -> "WholeRelease":
        """Install or upgrade, and wait until every pod is ready."""
        done = self.attempt_install(self.values())
        if done.returncode != 0:
            pods = [self.kubernetes.run("kubectl", "get", "pods", "--namespace", name) for name in self.namespaces.values()]
            raise AssertionError("\n".join([done.stderr, *pods]))
        return self

    def attempt_install(self, values: dict[str, Any]) -> "subprocess.CompletedProcess[str]":
        """Install or upgrade with these values, which may fail."""
        return self.kubernetes.attempt(
            *("helm", "upgrade", "--install", self.name, CHART, "--namespace", self.namespaces["fleet"]),
            *("--values", LAPTOP, "--values", "-", "--wait", "--timeout", "6m"),
            given=values,
            timeout_seconds=400,
        )

    def run_as(self, duty: str, script: str, *arguments: str) -> str:
        """The last line that a Python script prints in a pod of a duty, with the variables that steps get."""
        runs, registry = self.namespaces["runs"], {"name": "softprompt-pipeline", "key": "MLFLOW_TRACKING_URI"}
        container = restricted(
            name="run",
            image=self.images.name("release"),
            command=[
                "sh",
                "-c",
                'python3 -c "$0" "$@" > /tmp/said && tail -1 /tmp/said > /dev/termination-log',
                script,
                *arguments,
            ],
            env=[{"name": "MLFLOW_TRACKING_URI", "valueFrom": {"configMapKeyRef": registry}}],
            volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
        )
        spec = {
            "restartPolicy": "OnFailure",
            "serviceAccountName": f"softprompt-{duty}",
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
        name = f"run-{uuid.uuid4().hex[:6]}"
        self.kubernetes.apply(an_object("v1", "Pod", name, namespace=runs, labels=duty_labels(duty), spec=spec))
        assert self.kubernetes.phase_at_end(name, runs, timeout_seconds=300) == "Succeeded", self.kubernetes.run(
            "kubectl", "logs", name, "-n", runs
        )
        [status] = self.kubernetes.get("pod", name, "--namespace", runs)["status"]["containerStatuses"]
        return str(status["state"]["terminated"]["message"]).strip()

    def delete(self) -> None:
        """All of it, without waiting for the end."""
        for namespace in self.namespaces.values():
            self.kubernetes.delete_namespace(namespace)

    def api_servers(self) -> list[str]:
        """Addresses that the API server listens on itself, which is what policies see."""
        subsets = self.kubernetes.get("endpoints", "kubernetes", "--namespace", "default")["subsets"]
        return [address["ip"] for subset in subsets for address in subset["addresses"]]

    def _git(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A pod that serves a promotion repository, and its Service."""
        container = restricted(
            name="git",
            image=self.images.name("release"),
            command=["sh", "-c", SERVE_GIT],
            readinessProbe={"tcpSocket": {"port": 9418}, "periodSeconds": 1},
            volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],
        )
        spec = {"automountServiceAccountToken": False, "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
        here = {"namespace": self.namespaces["others"]}
        return (
            an_object("v1", "Pod", "git", labels={"app": "git", "serves": "prompts"}, spec=spec, **here),
            an_object("v1", "Service", "git", spec={"selector": {"serves": "prompts"}, "ports": [{"port": 9418}]}, **here),
        )
