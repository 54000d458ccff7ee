"""What a ServiceAccount's token may really do: every verb of every resource, tried against the API server."""

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from tests.cluster.kubernetes import Kubernetes
from tests.waiting import wait_for

METHODS = {
    "create": "POST",
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}
ON_ONE = {"get", "update", "patch", "delete"}
"""Verbs that are about one object by its name."""
ABSENT = "softprompt-absent"
"""Name of an object that is not there, so that what is allowed changes nothing."""
EVERYBODYS = {"selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"}
"""What Kubernetes lets whoever is somebody ask: about himself."""
Right = tuple[str, str]
"""Verb, and resource with its group: `pods/log`, `rayjobs.ray.io`."""


@dataclass(frozen=True)
class Resource:
    """A resource or subresource that the API server has."""

    group_version: str
    name: str
    verbs: tuple[str, ...]
    is_namespaced: bool

    @property
    def title(self) -> str:
        group = self.group_version.rpartition("/")[0]
        name, _, subresource = self.name.partition("/")
        return (f"{name}.{group}" if group else name) + (f"/{subresource}" if subresource else "")

    def path(self, namespace: str, verb: str, name: str = ABSENT) -> str:
        """Of a request."""
        main, _, subresource = self.name.partition("/")
        root = f"/api/{self.group_version}" if "/" not in self.group_version else f"/apis/{self.group_version}"
        parts = [root, *(["namespaces", namespace] if self.is_namespaced else []), main]
        if verb in ON_ONE or subresource:
            parts.append(name)
        return "/".join([*parts, *([subresource] if subresource else [])])


@dataclass(frozen=True)
class Api:
    """The API server, asked with a token and nothing else."""

    client: httpx.Client

    @classmethod
    def as_account(cls, kubernetes: Kubernetes, account: str, namespace: str) -> "Api":
        """With a token of a ServiceAccount, as its pods have."""
        token = kubernetes.run("kubectl", "create", "token", account, "--namespace", namespace).strip()
        found = kubernetes.run("kubectl", "config", "view", "--raw", "--minify", "--output", "json")
        cluster = httpx.Response(200, text=found).json()["clusters"][0]["cluster"]
        trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        headers = {"Authorization": f"Bearer {token}"}
        return cls(httpx.Client(base_url=cluster["server"], verify=trust, headers=headers, timeout=30))

    @cached_property
    def resources(self) -> list[Resource]:
        """All that there are, of all groups and served versions."""
        versions = [f"/api/{version}" for version in self.client.get("/api").json()["versions"]]
        for group in self.client.get("/apis").json()["groups"]:
            versions += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
        return [
            Resource(found["groupVersion"], one["name"], tuple(one["verbs"]), one["namespaced"])
            for found in (self._discovered(path) for path in versions)
            for one in found.get("resources", ())
        ]

    def _discovered(self, path: str) -> dict[str, Any]:
        """What a group version has; of one that another server serves, once that one answers."""

        def ask() -> httpx.Response | None:
            reply = self.client.get(path)
            return reply if reply.status_code == 200 else None

        found: dict[str, Any] = wait_for(ask, f"{path} answers", timeout_seconds=90).json()
        return found

    def may(self, verb: str, resource: Resource, namespace: str, name: str = ABSENT) -> bool:
        """Whether the API server lets a request pass; authorization comes before everything else that could be wrong with it."""
        query: dict[str, Any] = {}
        if verb in ("create", "update", "patch", "delete", "deletecollection"):
            query["dryRun"] = "All"
        if verb == "watch":
            query |= {"watch": "true", "timeoutSeconds": 1}
        headers = {"Content-Type": "application/merge-patch+json" if verb == "patch" else "application/json"}
        body = b"{}" if METHODS[verb] not in ("GET",) else None
        path = resource.path(namespace, verb, name)
        reply = self.client.request(METHODS[verb], path, params=query, headers=headers, content=body)
        assert reply.status_code != 401, "the token is no token"
        return reply.status_code != 403 or "forbidden: User" not in reply.text

    def rights(self, namespace: str) -> Iterator[Right]:
        """All that is allowed in a namespace and, without one, in the cluster."""
        for resource in self.resources:
            if resource.is_namespaced == bool(namespace) and resource.name not in EVERYBODYS:
                for verb in resource.verbs:
                    if verb in METHODS and self.may(verb, resource, namespace):
                        yield verb, resource.title

    def resource(self, title: str) -> Resource:
        """By its title."""
        return next(found for found in self.resources if found.title == title)
