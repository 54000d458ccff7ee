"""The Kubernetes API as a step's pod sees it: RayJobs of its own namespace, their pods and logs, and itself."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from softprompt.errors import ClusterUnavailable, InvalidRequest
from softprompt.rayjob.manifest import GROUP, PLURAL, VERSION
from softprompt.rayjob.task import Fragment

POD_NAME = "KFP_POD_NAME"
RUN_LABEL = "pipeline/runid"
"""KFP's launcher and compiler say these."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SUBMITTER_LABEL, CLUSTER_LABEL = "batch.kubernetes.io/job-name", "ray.io/cluster"
TIMEOUT_SECONDS = 20
_DELETE_TRIES = 10


@dataclass(frozen=True)
class StepPod:
    """The pod that a step runs in."""

    name: str
    uid: str
    image: str
    """Of the container that the step runs in."""
    run: str
    """The pipeline run's id; empty: it is no pipeline's pod."""

    @property
    def owner(self) -> Fragment:
        """An owner reference to it: what names it is collected when the pod is deleted."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


class Cluster:
    """RayJobs of one namespace.

    Args:
        namespace: Its name.
        custom, core: The API's clients.
    """

    def __init__(self, namespace: str, custom: Any, core: Any) -> None:
        self.namespace, self._custom, self._core = namespace, custom, core
        self._place = {"group": GROUP, "version": VERSION, "namespace": namespace, "plural": PLURAL}

    @classmethod
    def of_this_pod(cls) -> Self:
        """The cluster that this process runs in. InvalidRequest: it runs in none."""
        from kubernetes import client, config

        try:
            config.load_incluster_config()
            namespace = NAMESPACE_FILE.read_text().strip()
        except (config.ConfigException, OSError) as error:
            hint = "Elsewhere the backend is `local`. In a pod, its service account's token has to be mounted."
            raise InvalidRequest("Only a pod of a Kubernetes cluster can make RayJobs.", actual=str(error), hint=hint) from None
        return cls(namespace, client.CustomObjectsApi(), client.CoreV1Api())

    def own_pod(self) -> StepPod:
        """The pod of this process. ClusterUnavailable: the API does not show it."""
        name = os.environ.get(POD_NAME) or os.environ["HOSTNAME"]
        with self._errors("show the step's own pod", "get pods"):
            pod = self._core.read_namespaced_pod(name, self.namespace, _request_timeout=TIMEOUT_SECONDS)
        containers = {container.name: container.image for container in pod.spec.containers}
        image = containers.get("main") or pod.spec.containers[0].image  # KFP calls the step's `main`
        return StepPod(name, pod.metadata.uid, image, (pod.metadata.labels or {}).get(RUN_LABEL, ""))

    def get(self, name: str) -> Fragment | None:
        """A RayJob, or None."""
        with self._errors("show a RayJob", "get rayjobs"):
            return self._found(lambda: self._custom.get_namespaced_custom_object(**self._named(name)))

    def create(self, job: Fragment) -> bool:
        """Make a RayJob; False: there is one of this name."""
        with self._errors("make a RayJob", "create rayjobs"):
            return self._unless(409, lambda: self._custom.create_namespaced_custom_object(**self._place, body=job, **_LIMITED))

    def own(self, job: Fragment, owner: Fragment) -> bool:
        """Give a RayJob to another pod; False: it has changed or gone since it was looked at.

        The pod that had it may be deleted at any time, and the garbage collector looks again before it collects.
        """
        metadata = {"resourceVersion": job["metadata"]["resourceVersion"], "ownerReferences": [owner]}
        patch = {"body": {"metadata": metadata}, **_LIMITED}
        with self._errors("give a RayJob to another pod", "patch rayjobs"):
            name = self._named(job["metadata"]["name"])
            return self._unless(409, lambda: self._custom.patch_namespaced_custom_object(**name, **patch))

    def delete(self, name: str, *, owner: str = "") -> None:
        """Take a RayJob away, with all that belongs to it; done when it is asked for.

        Args:
            name: The RayJob's.
            owner: Uid of a pod: only if the RayJob is still this pod's. Empty: whosever it is.
        """
        for _ in range(_DELETE_TRIES):
            job = self.get(name)
            if job is None or job["metadata"].get("deletionTimestamp") or (owner and owner not in owners_of(job)):
                return
            same = {key: job["metadata"][key] for key in ("uid", "resourceVersion")}
            body = {"propagationPolicy": "Background", "preconditions": same}
            with self._errors("delete a RayJob", "delete rayjobs"):
                name_of_it = self._named(name)
                if self._unless(409, lambda: self._custom.delete_namespaced_custom_object(**name_of_it, body=body)):  # noqa: B023
                    return
        raise ClusterUnavailable("A RayJob changes too often to be deleted.", where=f"{self.namespace}/{name}")

    def changes(self, name: str, seconds: int) -> Iterator[Fragment]:
        """A RayJob as it is now, and each time that it changes, for some seconds; nothing once it is gone."""
        from kubernetes import watch

        only = {
            "field_selector": f"metadata.name={name}",
            "timeout_seconds": seconds,
            "_request_timeout": seconds + TIMEOUT_SECONDS,
        }
        with self._errors("show a RayJob's changes", "list and watch rayjobs"):
            for event in watch.Watch().stream(self._custom.list_namespaced_custom_object, **self._place, **only):
                if event["type"] == "DELETED":
                    return
                yield event["object"]

    def submitters(self, name: str) -> list[str]:
        """Pods that print a RayJob's log and have begun to, the oldest first."""
        begun = [pod for pod in self._pods(f"{SUBMITTER_LABEL}={name}") if pod.status.phase in ("Running", "Succeeded", "Failed")]
        return [pod.metadata.name for pod in sorted(begun, key=lambda pod: pod.metadata.creation_timestamp)]

    def log(self, pod: str) -> Iterator[str]:
        """Lines of a pod's log as they come, from its start to its end."""
        with self._errors("show a pod's log", "get pods/log"):
            stream = self._core.read_namespaced_pod_log(pod, self.namespace, follow=True, _preload_content=False)
            begun = b""
            for piece in stream.stream():
                *lines, begun = (begun + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if begun:
                yield begun.decode(errors="replace")

    def troubles(self, ray_cluster: str) -> list[str]:
        """What keeps a Ray cluster's pods from starting, one sentence a pod that has such."""
        return [trouble for pod in self._pods(f"{CLUSTER_LABEL}={ray_cluster}") if (trouble := _trouble(pod))]

    def _pods(self, selector: str) -> list[Any]:
        with self._errors("show a RayJob's pods", "list pods"):
            found = self._core.list_namespaced_pod(self.namespace, label_selector=selector, _request_timeout=TIMEOUT_SECONDS)
        return list(found.items)

    def _named(self, name: str) -> dict[str, str]:
        return self._place | {"name": name}

    def _found(self, ask: Callable[[], Fragment]) -> Fragment | None:
        answer: list[Fragment] = []
        return answer[0] if self._unless(404, lambda: answer.append(ask())) else None

    def _unless(self, status: int, ask: Callable[[], object]) -> bool:
        """Whether a request did what it should; False: the API answered with this status, or that there is no such thing."""
        from kubernetes.client import ApiException

        try:
            ask()
        except ApiException as error:
            if error.status not in (status, 404):
                raise
            return False
        return True

    @contextmanager
    def _errors(self, doing: str, right: str) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            hint = f"Give the step's service account the right to {right}; the chart does." if error.status == 403 else ""
            actual = f"{error.status} {error.reason}: {(error.body or '')[:500]}"
            raise ClusterUnavailable(
                f"The Kubernetes API did not {doing}.", where=self.namespace, actual=actual, hint=hint
            ) from None
        except (HTTPError, OSError) as error:
            raise ClusterUnavailable(f"The Kubernetes API did not {doing}.", where=self.namespace, actual=str(error)) from None


_LIMITED = {"_request_timeout": TIMEOUT_SECONDS}


def owners_of(job: Fragment) -> list[str]:
    """Uids of the objects that own one."""
    return [owner["uid"] for owner in job["metadata"].get("ownerReferences", ())]


def _trouble(pod: Any) -> str:
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"pod {pod.metadata.name}: {condition.message}"
    for status in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waiting = status.state.waiting
        if waiting and waiting.reason not in ("PodInitializing", "ContainerCreating"):
            return f"pod {pod.metadata.name}, container {status.name}: {waiting.reason}, {waiting.message or 'no message'}"
    return ""
