"""Ray for this process: the cluster that is named, else one of its own on this machine."""

import logging
import os
from typing import Any

RAY_SETTINGS = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else every printed line comes twice
    "RAY_DEDUP_LOGS": "0",  # else progress lines of like shape are held back
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is waited for at the start and at the end of every training
}
NO_DASHBOARD = "http://127.0.0.1:1"
"""An address where nothing listens."""


def ray_is_there() -> bool:
    """Whether a Ray is named or up. To start one for a single worker takes longer than a small training (docs/benchmarks.md)."""
    import ray

    return bool(os.environ.get("RAY_ADDRESS")) or ray.is_initialized()


def silence_ray() -> None:
    """Let Ray say errors only, as `start_ray` does, where none is started; its local mode asks people to report problems."""
    import ray  # sets the level itself when it is imported  # noqa: F401

    logging.getLogger("ray").setLevel(logging.ERROR)


def num_offered(resource: str) -> int:
    """How many whole `CPU` or `GPU` the Ray which is up offers; 0 where none is up."""
    import ray

    resources: Any = ray.cluster_resources() if ray.is_initialized() else {}  # type: ignore[no-untyped-call]
    return int(resources.get(resource, 0))


def start_ray(*, object_store_bytes: int) -> None:
    """Connect to the cluster that `RAY_ADDRESS` names, else start a local Ray for this process; does nothing where one is up.

    Args:
        object_store_bytes: Shared memory of a local Ray.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address, logging_level=logging.ERROR)
        return
    # Ray Train's cleaner of placement groups asks the dashboard whether the controller lives. There is none here: refused at
    # once, it goes on; with no address it would ask for one twenty times, and the end of a training would wait 12 s for that.
    os.environ.setdefault("RAY_API_SERVER_ADDRESS", NO_DASHBOARD)
    # Without the word `local` Ray would join whatever cluster somebody left running on this machine.
    ray.init("local", include_dashboard=False, object_store_memory=object_store_bytes, logging_level=logging.ERROR)
