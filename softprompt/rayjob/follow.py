"""What happens to a RayJob, told in the step's log: its states, what keeps its pods waiting, and the log of the work itself."""

import sys
import threading
import time
from contextlib import suppress

from softprompt.errors import ClusterUnavailable
from softprompt.progress import tell
from softprompt.rayjob.cluster import Cluster
from softprompt.rayjob.task import Fragment
from softprompt.step_request import HeavyStep

ENDED = ("Complete", "Failed", "ValidationFailed")
"""Values of `jobDeploymentStatus` after which nothing more happens."""
SLOW_START_SECONDS = 20
LAST_LINES_SECONDS = 10


def has_ended(job: Fragment) -> bool:
    """Whether KubeRay is done with a RayJob."""
    return job.get("status", {}).get("jobDeploymentStatus") in ENDED


class StateTeller:
    """Tells each state of a RayJob once.

    Args:
        step: Whose it is.
        cluster: Where it is.
    """

    def __init__(self, step: HeavyStep, cluster: Cluster) -> None:
        self._step, self._cluster = step, cluster
        self._told, self._since = "", time.monotonic()

    def see(self, job: Fragment) -> None:
        """Tell what is new."""
        sentence = sentence_of(job)
        if sentence != self._told:
            self._told, self._since = sentence, time.monotonic()
            tell(self._step, sentence, rayjob=job["metadata"]["name"])
        elif self._is_late(job):
            self._since = time.monotonic()
            for trouble in self._cluster.troubles(job["status"].get("rayClusterName", "")):
                tell(self._step, trouble)

    def _is_late(self, job: Fragment) -> bool:
        starts = job.get("status", {}).get("jobDeploymentStatus") == "Initializing"
        return starts and time.monotonic() - self._since > SLOW_START_SECONDS


def sentence_of(job: Fragment) -> str:
    """A RayJob's state in a line for a person."""
    status, name = job.get("status", {}), job["metadata"]["name"]
    cluster = status.get("rayClusterStatus", {})
    ready, wanted = cluster.get("readyWorkerReplicas", 0), cluster.get("desiredWorkerReplicas", 0)
    tries = f", try {status['failed'] + 1}" if status.get("failed") else ""
    said = {
        "Initializing": f"its Ray cluster starts, {ready} of {wanted} workers are ready",
        "Running": f"runs with {wanted} workers",
        "Suspended": "waits for its queue",
        "Suspending": "goes back to its queue",
        "Retrying": f"lost its Ray cluster or its driver, and gets another: {_reason(status)}",
        "Complete": "has ended",
        "Failed": f"has failed: {_reason(status)}",
        "ValidationFailed": f"was refused by KubeRay: {_reason(status)}",
    }
    return f"RayJob {name} {said.get(status.get('jobDeploymentStatus', ''), 'is made')}{tries}"


def failure_of(job: Fragment, namespace: str) -> ClusterUnavailable:
    """The error for a RayJob that ended without a result."""
    status = job.get("status", {})
    hint = "The log of the work stands above, as far as it came."
    if status.get("reason") == "DeadlineExceeded":
        hint = "Give it more time with SOFTPROMPT_RAYJOB_DEADLINE_SECONDS; started again, it goes on from its last checkpoint."
    return ClusterUnavailable(
        "A RayJob ended without a result.", where=f"{namespace}/{job['metadata']['name']}", actual=_reason(status), hint=hint
    )


def _reason(status: Fragment) -> str:
    return ", ".join(str(status[key]) for key in ("reason", "message") if status.get(key)) or "no reason given"


class LogPrinter:
    """Prints the log of a RayJob's work, which its submitter pods repeat, as it comes.

    Args:
        cluster: Where it is.
        name: The RayJob's.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._thread: threading.Thread | None = None
        self._printed: dict[str, int] = {}
        self._whole: set[str] = set()

    def go_on(self) -> None:
        """Begin to print the next log, unless one is being printed."""
        if self._thread and self._thread.is_alive():
            return
        for pod in self._cluster.submitters(self._name):
            if pod not in self._whole:
                # A daemon: when the step ends, what it still waits for is of no interest.
                self._thread = threading.Thread(target=self._print, args=(pod,), daemon=True)
                self._thread.start()
                return

    def finish(self) -> None:
        """Wait a little for the last lines."""
        if self._thread:
            self._thread.join(LAST_LINES_SECONDS)

    def _print(self, pod: str) -> None:
        already = self._printed.get(pod, 0)
        with suppress(ClusterUnavailable):  # a connection that broke is made anew, and a pod that went has no more to say
            for number, line in enumerate(self._cluster.log(pod)):
                if number >= already:
                    sys.stdout.write(f"{line}\n")
                    sys.stdout.flush()
                    self._printed[pod] = number + 1
            self._whole.add(pod)
