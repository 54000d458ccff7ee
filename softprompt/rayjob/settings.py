"""What a deployment says about its RayJobs, read from the step's environment. See the table in `softprompt.settings`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from softprompt.errors import InvalidRequest

PREFIX = "SOFTPROMPT_RAYJOB_"
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


@dataclass(frozen=True, kw_only=True)
class RayJobSettings:
    """One field for each `SOFTPROMPT_RAYJOB_<NAME>`."""

    image: str = ""
    """Of the Ray pods; empty: the step pod's own, so that both run the same code."""
    service_account: str = "softprompt-trainer"
    secret: str = "softprompt-pipeline"  # noqa: S105  # a Secret's name
    """With the keys of object storage, MLflow and the hub; need not exist where the service account is enough."""
    queue: str = ""
    """A Kueue LocalQueue; with one, the RayJob is made suspended, and Kueue starts it."""
    priority_class: str = ""
    cpu: str = "1"
    """Processors that a worker pod asks for, a quantity; used where the task does not say."""
    memory: str = "4Gi"
    """Of a worker pod, asked for and limit; used where the task does not say."""
    head_cpu: str = "500m"
    head_memory: str = "4Gi"
    num_cpus: int = 0
    """Threads that a worker computes with; 0: the whole processors that its pod asks for."""
    min_workers: int = 1
    """Worker pods of `validate_dataset` and `evaluate_prompt`; of `tune_prompt` the recipe says it."""
    max_workers: int = 1
    """More than `min_workers`: the cluster grows with its work."""
    deadline_seconds: int = 86_400
    """For all of a RayJob, retries included; those of KubeRay start it anew."""
    start_seconds: int = 3_600
    """Until the Ray cluster stands; waiting in a queue does not count."""
    retries: int = 3
    """New Ray clusters after the first, when one was lost with its head or its driver."""
    ttl_seconds: int = 60
    """How long a finished RayJob's cluster stays where no step takes it away."""
    orphan_seconds: int = 900
    """How long the work goes on while no step waits for it."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "RayJobSettings":
        """Read the environment (the process's own by default).

        Raises:
            InvalidRequest: A value cannot be.
        """
        env = os.environ if environment is None else environment
        given: dict[str, Any] = {}
        for field in fields(cls):
            if value := env.get(PREFIX + field.name.upper()):
                given[field.name] = _number(field.name, value) if field.type in (int, "int") else value
        found = cls(**given)
        for name in ("cpu", "memory", "head_cpu", "head_memory"):
            amount(getattr(found, name), where=PREFIX + name.upper())
        if found.max_workers < found.min_workers:
            raise InvalidRequest(
                "There can be no Ray cluster of this size.",
                where=f"{PREFIX}MAX_WORKERS",
                expected=f"at least {PREFIX}MIN_WORKERS, {found.min_workers}",
                actual=str(found.max_workers),
            )
        return found


def amount(quantity: str, *, where: str) -> float:
    """A Kubernetes quantity as a number: processors or bytes. InvalidRequest: it is none."""
    units = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    units |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
    found = _QUANTITY.fullmatch(quantity)
    if not found:
        raise InvalidRequest("This is no quantity.", where=where, expected="such as 500m, 2 or 4Gi", actual=quantity)
    return float(found[1]) * units[found[2] or ""]


def _number(name: str, value: str) -> int:
    least = 1 if name.endswith(("workers", "deadline_seconds", "start_seconds", "orphan_seconds")) else 0
    if not value.isdecimal() or len(value) > 9 or int(value) < least:
        expected = f"a whole number of at least {least}"
        raise InvalidRequest("This is no number.", where=PREFIX + name.upper(), expected=expected, actual=value)
    return int(value)
