"""A fleet of serving pods: the chart installed, waited for, asked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.channel import Channel
from tests.cluster.kubernetes import ROOT, Kubernetes, an_object
from tests.cluster.s3_users import as_environment, make_reader

CHART = ROOT / "charts" / "softprompt"
LAPTOP = CHART / "ci" / "laptop-values.yaml"


def prepare_namespace(kubernetes: Kubernetes, name: str, channel: Channel) -> str:
    """A namespace in which pods must be `restricted`, with what the chart wants to be there already."""
    kubernetes.namespace(name)
    keys = as_environment(make_reader(kubernetes.s3, channel.bucket))
    kubernetes.apply(
        an_object("v1", "Secret", "softprompt-reader", namespace=name, stringData=keys),
        trust_root_object(name, "softprompt-trust-root", channel.trust_root),
    )
    return name


@dataclass(frozen=True)
class Fleet:
    """A release of the chart.

    Attributes:
        image: Of its pods, `REPOSITORY:TAG`.
    """

    kubernetes: Kubernetes
    namespace: str
    channel: Channel
    image: str
    name: str = "softprompt"
    values: dict[str, Any] = field(default_factory=dict)
    """Path in values.yaml -> value, above those of a laptop."""

    @property
    def here(self) -> tuple[str, str]:
        """Flags that name its namespace."""
        return ("--namespace", self.namespace)

    @property
    def selector(self) -> str:
        """Of its pods."""
        return f"app.kubernetes.io/instance={self.name}"

    @property
    def url(self) -> str:
        """Of its Service."""
        return f"http://{self.kubernetes.get('service', self.name, *self.here)['spec']['clusterIP']}"

    def install(self, **values: Any) -> "Fleet":
        """Install, or upgrade with more values, and return at once."""
        repository, _, tag = self.image.rpartition(":")
        own = {
            "serving.image.repository": repository,
            "serving.image.tag": tag,
            "store.uri": f"s3://{self.channel.bucket}",
            "serving.baseModel.uri": f"s3://{self.channel.bucket}/bases/tiny",
            # The machine itself is a client of these tests, at the address that it has on the nodes' network.
            "networkPolicy.clients[0].podSelector.matchLabels.may": "ask",
            "networkPolicy.clients[1].ipBlock.cidr": "10.99.0.0/24",
        }
        every = own | self.values | values
        settings = [part for key, value in every.items() for part in ("--set", f"{key}={value}")]
        self.kubernetes.run("helm", "upgrade", "--install", self.name, CHART, *self.here, "--values", LAPTOP, *settings)
        return self

    def uninstall(self) -> None:
        self.kubernetes.run("helm", "uninstall", self.name, *self.here)

    def wait(self, timeout_seconds: int = 280) -> "Fleet":
        """Until all of its pods are ready; if that fails, their logs are in the error."""
        command = ("kubectl", "rollout", "status", f"deployment/{self.name}", *self.here, f"--timeout={timeout_seconds}s")
        try:
            self.kubernetes.run(*command, timeout_seconds=timeout_seconds + 20)
        except AssertionError as error:
            log = self.kubernetes.attempt("kubectl", "logs", f"deployment/{self.name}", *self.here, "--tail=30").stdout
            raise AssertionError(f"{error}\n{log}\n{self.kubernetes.run('kubectl', 'get', 'events', *self.here)}") from None
        return self

    def pods(self) -> list[dict[str, Any]]:
        return self.kubernetes.pods(self.namespace, self.selector)

    def has_said(self, text: str) -> bool:
        """Whether a text is in a log of its pods, or of a container that ended before.

        Ask over and over: where kubelets share a machine, they throw away each other's logs every minute.
        """
        logs = ("kubectl", "logs", *self.here, "--selector", self.selector, "--tail=20")
        return any(text in self.kubernetes.attempt(*logs, *which).stdout for which in ((), ("--previous",)))

    def classify(self, text: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/classify", json={"model": "colours", "input": text}, timeout=30)


def trust_root_object(namespace: str, name: str, file: Path) -> dict[str, Any]:
    """A ConfigMap that holds a trust root."""
    return an_object("v1", "ConfigMap", name, namespace=namespace, data={"root.json": file.read_text()})
