"""The step's side of a RayJob: make it or adopt it, follow it, take its result, take it away.

A RayJob lives as long as its step. It belongs to the step's pod, so that a pod which is deleted takes it along; a step that is
told to end deletes it; and when a step's pod is lost together with its node, the next try adopts what still runs. Where all
that fails, the work itself notices that nobody waits (`softprompt.rayjob.entry`).
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from softprompt.documents import sha256_hex
from softprompt.errors import ClusterUnavailable, InvalidRequest, ServiceUnavailable, SoftpromptError, VerificationFailed
from softprompt.progress import tell
from softprompt.rayjob.cluster import Cluster, StepPod
from softprompt.rayjob.documents import JobRequest, JobResult
from softprompt.rayjob.exchange import Exchange, table_of
from softprompt.rayjob.follow import LogPrinter, StateTeller, failure_of, has_ended
from softprompt.rayjob.manifest import Plan, ray_job, workers_of
from softprompt.rayjob.settings import RayJobSettings
from softprompt.rayjob.task import Fragment, TaskSettings
from softprompt.step_request import Files, HeavyStep, StepRequest

LOOK_SECONDS = 5
"""Between looks at object storage, and signs that somebody waits."""
PATIENCE_SECONDS = 300
"""How long the API or the storage may be away in one piece."""
GONE_SECONDS = 300
"""Until a RayJob that is being deleted is gone."""


def run_on_rayjob(
    request: StepRequest,
    inputs: Files,
    outputs: Files,
    *,
    storage: str,
    place: str,
    task_config: Any,
    cluster: Cluster | None = None,
) -> None:
    """Have a step's work done by a RayJob.

    Args:
        request: What is asked.
        inputs: Files and folders by the names of the step's inputs.
        outputs: Where to write, by the names of the step's outputs.
        storage: `s3://BUCKET/PREFIX` that step and Ray pods share.
        place: URI of one of the step's outputs, the same for each of its tries.
        task_config: KFP's `dsl.TaskConfig`.
        cluster: The Kubernetes API; None: that of this pod.

    Raises:
        InvalidRequest: The deployment's settings allow no RayJob.
        ClusterUnavailable: It did not come to its end.
        SoftpromptError: What the work raised.
    """
    _check(request, storage)
    settings, cluster = RayJobSettings.from_environment(), cluster or Cluster.of_this_pod()
    pod = cluster.own_pod()
    asked = JobRequest(
        request=request,
        inputs={name: table_of(path) for name, path in inputs.items()},
        outputs={name: path.name for name, path in outputs.items()},
    )
    name = job_name(request.step, pod.run, place, asked.digest)
    exchange = Exchange(storage, name)
    plan = Plan(
        name=name,
        owner=pod.owner,
        image=settings.image or pod.image,
        step=request.step,
        run=pod.run,
        workers=workers_of(request, settings),
        arguments=(storage, name, asked.digest),
        settings=settings,
        task=TaskSettings.of(task_config),
        environment=os.environ,
    )
    with _ended_by_signal():
        result = _result_of(asked, inputs, exchange, cluster, pod, plan)
    _take(result, exchange, outputs)


def job_name(step: HeavyStep, run: str, place: str, request: str) -> str:
    """A RayJob's name: the same for each try of a step, and no other step's.

    Args:
        step: Its name.
        run: The pipeline run's id; its beginning is for people.
        place: URI of one of the step's outputs.
        request: Digest of what is asked.
    """
    parts = (step.replace("_", "-"), run[:8].lower().strip("-"), sha256_hex(f"{place}\n{request}".encode())[:12])
    return "-".join(part for part in parts if part)


def _check(request: StepRequest, storage: str) -> None:
    if not storage:
        hint = "Set SOFTPROMPT_CHECKPOINTS to s3://BUCKET/PREFIX, or SOFTPROMPT_BACKEND to local."
        raise InvalidRequest("A RayJob needs object storage that the step and its Ray pods share.", hint=hint)
    if request.tracking_uri.startswith("sqlite:"):
        hint = "Set MLFLOW_TRACKING_URI to a server's address."
        raise InvalidRequest("Ray pods cannot report to a database file.", actual=request.tracking_uri, hint=hint)


def _take(result: JobResult, exchange: Exchange, outputs: Files) -> None:
    """Copy a result's files to where they belong, each verified; raise what the work raised."""
    if unknown := set(result.outputs) - set(outputs):
        actual = ", ".join(sorted(unknown))
        raise VerificationFailed("A result has other outputs than were asked for.", where=exchange.where, actual=actual)
    for output, table in result.outputs.items():
        exchange.take_outputs(table, outputs[output])
    if result.error:
        raise result.error.error()


def _result_of(asked: JobRequest, inputs: Files, exchange: Exchange, cluster: Cluster, pod: StepPod, plan: Plan) -> JobResult:
    """The result, however far an earlier try had come; afterwards the RayJob is on its way out."""
    if result := exchange.result(asked.digest):
        tell(plan.step, f"An earlier try of this step left the result in {exchange.where}")
        _take_away(cluster, plan)  # whosever it is: its work is done
        return result
    try:
        exchange.put_request(asked, inputs)
        _make_or_adopt(cluster, plan, exchange)
        return Waiting(asked, exchange, cluster, pod, plan).for_result()
    finally:
        _take_away(cluster, plan, owner=pod.uid)


def _take_away(cluster: Cluster, plan: Plan, owner: str = "") -> None:
    """Delete the RayJob, if it is a pod's or whosever; that this fails is told, and fails nothing."""
    try:
        cluster.delete(plan.name, owner=owner)
    except ClusterUnavailable as error:  # it goes with the step's pod, and its cluster before that
        tell(plan.step, f"RayJob {plan.name} could not be deleted. {error}")


def _make_or_adopt(cluster: Cluster, plan: Plan, exchange: Exchange) -> None:
    """See that there is a RayJob of this name that still works and is this pod's."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        job = cluster.get(plan.name)
        if job is None:
            if cluster.create(ray_job(plan)):
                tell(plan.step, f"RayJob {plan.name} for {exchange.where}", rayjob=plan.name)
                return
        elif job["metadata"].get("deletionTimestamp"):
            time.sleep(1)
        elif has_ended(job):  # it left no result: what an earlier try of the step failed with is no reason for this one to
            cluster.delete(plan.name)
        elif cluster.own(job, plan.owner):
            tell(plan.step, f"RayJob {plan.name} of an earlier try of this step goes on", rayjob=plan.name)
            return
    raise ClusterUnavailable("A RayJob of an earlier try does not go away.", where=f"{cluster.namespace}/{plan.name}")


class Waiting:
    """A step that waits for its RayJob, and tells what happens meanwhile.

    Args:
        asked: What the RayJob is to do.
        exchange: Where its result will be.
        cluster: Where it runs.
        pod: The step's.
        plan: What it was made from.
    """

    def __init__(self, asked: JobRequest, exchange: Exchange, cluster: Cluster, pod: StepPod, plan: Plan) -> None:
        self._asked, self._exchange, self._cluster, self._pod, self._plan = asked, exchange, cluster, pod, plan
        self._teller, self._printer = StateTeller(plan.step, cluster), LogPrinter(cluster, plan.name)
        self._job: Fragment | None = {}

    def for_result(self) -> JobResult:
        """The result.

        Raises:
            ClusterUnavailable: The RayJob ended without one, or was taken away.
            SoftpromptError: What its last try said that it ended with.
            ServiceUnavailable: API or storage were away for longer than a step is patient.
        """
        away_since = 0.0
        while True:
            try:
                found = self._look()
            except ServiceUnavailable as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > PATIENCE_SECONDS:
                    raise
                tell(self._plan.step, f"{error.what} Trying again. {error.actual}")
                time.sleep(LOOK_SECONDS)
                continue
            if isinstance(found, JobResult):
                return found
            if found:
                raise found
            away_since = 0.0

    def _look(self) -> JobResult | SoftpromptError | None:
        """Look for some seconds: the result, what the RayJob ended with without one, or nothing yet."""
        self._exchange.say_waiting(f"{self._pod.uid} {time.time_ns()}")
        if result := self._exchange.result(self._asked.digest):
            self._printer.finish()
            return result
        if self._job is None or has_ended(self._job):
            self._printer.finish()
            return self._end_without_result()
        changes = None
        for changes in self._cluster.changes(self._plan.name, LOOK_SECONDS):
            self._teller.see(changes)
            self._printer.go_on()
            if has_ended(changes):
                break
        self._job = changes or self._cluster.get(self._plan.name)
        return None

    def _end_without_result(self) -> SoftpromptError:
        if self._job is None:
            where = f"{self._cluster.namespace}/{self._plan.name}"
            return ClusterUnavailable(
                "A RayJob was deleted while its step waited for it.", where=where, hint="Start the step again."
            )
        failure = self._exchange.failure(self._asked.digest)
        return failure.error.error() if failure and failure.error else failure_of(self._job, self._cluster.namespace)


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Leave by an exception when the pod is told to end, so that what has to be taken away is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
