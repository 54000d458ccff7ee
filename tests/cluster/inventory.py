"""Everything that is in some namespaces, of every kind that the API server can list."""

import json
from collections.abc import Iterable

from tests.cluster.kubernetes import Kubernetes

COMES_AND_GOES = ("events", "events.events.k8s.io", "pods.metrics.k8s.io")
"""What says how things are or were, and is no thing itself."""


def things_in(kubernetes: Kubernetes, namespaces: Iterable[str]) -> set[str]:
    """`namespace/kind/name` of all that is in namespaces."""
    kinds = set(_kinds(kubernetes, namespaced=True)) - set(COMES_AND_GOES)
    found = set()
    for namespace in namespaces:
        names = kubernetes.run("kubectl", "get", ",".join(sorted(kinds)), "--namespace", namespace, "--output", "name")
        found |= {f"{namespace}/{name}" for name in names.split()}
    return found


def things_of_the_cluster(kubernetes: Kubernetes, mentions: str) -> set[str]:
    """`kind/name` of all that is in no namespace and says a word anywhere, such as a release's namespace."""
    kinds = ",".join(sorted(_kinds(kubernetes, namespaced=False)))
    listed = json.loads(kubernetes.run("kubectl", "get", kinds, "--output", "json"))["items"]
    return {f"{found['kind']}/{found['metadata']['name']}" for found in listed if mentions in json.dumps(found)}


def _kinds(kubernetes: Kubernetes, *, namespaced: bool) -> list[str]:
    command = ("kubectl", "api-resources", "--verbs=list", f"--namespaced={str(namespaced).lower()}", "--output=name")
    return [kind for kind in kubernetes.run(*command).split() if not kind.endswith("componentstatuses")]
