"""The training loop under Ray Train: each worker holds the frozen base, only the prompt's gradient is exchanged.

The worker's function takes plain paths and JSON, so the same entry serves a cluster, a Ray on this machine, and Ray Train's local
mode, which runs one worker in this process. In a Ray who dies is replaced, and everybody goes on from the last complete
checkpoint: workers and nodes are Ray Train's business, its controller, which nobody else restarts, is ours.
"""

import os
from pathlib import Path
from typing import Any

import torch

from softprompt.errors import ServiceUnavailable, SoftpromptError, error_of
from softprompt.progress import MetricSink, tell
from softprompt.ray_session import num_offered, ray_is_there, silence_ray, start_ray
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.checkpoint_store import CheckpointStore
from softprompt.tuning.population import PopulationState
from softprompt.tuning.ray_worker import STEP, train_worker

MAX_FAILURES = 8
"""Deaths of workers or nodes, and as many of the controller, that one training outlives."""
OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's smallest store; nothing but paths and metrics goes through it."""


def train_on_ray(
    resolved: ResolvedRecipe, dataset: Path, sink: MetricSink, *, run_id: str, storage: str
) -> tuple[PopulationState, dict[str, Any]]:
    """Train a recipe's candidates with Ray Train.

    Args:
        resolved: The recipe.
        dataset: Dataset artifact, readable by every worker.
        sink: Where metrics go while it runs; travels to the first worker.
        run_id: In the name of the run, so that only the same run is ever resumed.
        storage: For checkpoints: a folder that every worker sees, or `s3://BUCKET/PREFIX`.

    Returns:
        The final state and the facts that `train_worker` reports.

    Raises:
        SoftpromptError: What a worker raised.
        ServiceUnavailable: Ray did not bring the training to its end.
    """
    num_workers = resolved.recipe.training.num_workers
    in_process = num_workers == 1 and not ray_is_there()
    if in_process:
        silence_ray()
        tell(STEP, "one worker, in this process")
    else:
        start_ray(object_store_bytes=OBJECT_STORE_BYTES)
        tell(STEP, f"Ray is up; starting {_counted(num_workers)}")
    run = f"softprompt-{run_id}"
    store = CheckpointStore(storage, run)
    config = {"resolved": resolved.to_bytes(), "dataset": str(dataset), "sink": sink, "storage": storage, "run": run}
    config["threads"] = int(os.environ.get("OMP_NUM_THREADS") or 0)
    threads = torch.get_num_threads()
    try:
        outcome = _fit(_trainer(config, 0 if in_process else num_workers, store, run))
    finally:
        torch.set_num_threads(threads)  # a worker in this process has set its own
    if error := outcome.get("error"):
        raise error_of(*error)
    found = store.load(outcome["checkpoint"])
    if found is None:
        raise ServiceUnavailable("The training's last checkpoint cannot be read.", where=f"{store.where}/{outcome['checkpoint']}")
    return found


def _trainer(config: dict[str, Any], num_workers: int | tuple[int, int], store: CheckpointStore, run: str) -> Any:
    """Ray Train's own; 0 workers are its local mode."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    least = num_workers if isinstance(num_workers, int) else num_workers[0]
    return TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # it returns something: `Result.return_value`
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=num_workers,  # type: ignore[arg-type]  # a pair is elastic
            use_gpu=0 < least <= num_offered("GPU"),  # local mode takes the device that it sees
        ),
        run_config=RunConfig(
            name=run,
            storage_path=store.root,
            storage_filesystem=store.filesystem,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _fit(trainer: Any) -> dict[str, Any]:
    """What the first worker returned, however often the controller died or gave up.

    The same trainer is started again, not a new one: a cluster's resources are reserved in its name, and would otherwise stay
    reserved for three minutes for the one that died.
    """
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    for failures in range(MAX_FAILURES + 1):
        try:
            return dict(trainer.fit().return_value)
        except (RayError, TrainingFailedError) as error:
            if failures == MAX_FAILURES or not _may_be_tried_again(error):
                raise _unfinished(error) from error
            tell(STEP, "Ray Train's controller was lost; starting another, which goes on from the last checkpoint")
            _give_room_back()
    raise AssertionError


def _may_be_tried_again(error: Exception) -> bool:
    """Whether a process died that Ray Train does not replace: its controller, or a worker before all workers stood."""
    from ray.exceptions import RayActorError
    from ray.train import ControllerError

    return isinstance(error.controller_failure if isinstance(error, ControllerError) else error, RayActorError)


def _give_room_back() -> None:
    """Remove what a lost controller had reserved for its workers, or the next one waits for that room for ever.

    Ray keeps a placement group until the job ends, and Ray Train's own cleaner works only where a dashboard runs.
    """
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    for name, group in placement_group_table().items():
        if name.endswith(job) and group["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


def _unfinished(error: Exception) -> SoftpromptError:
    """The error of ours that a worker died of, else one that says what Ray said last."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, SoftpromptError):
            return cause
    return ServiceUnavailable("Ray did not finish the training.", actual=str(error).strip().splitlines()[-1])


def _counted(num_workers: int | tuple[int, int]) -> str:
    if isinstance(num_workers, int):
        return f"{num_workers} worker{'s' if num_workers > 1 else ''}"
    return f"{num_workers[0]} to {num_workers[1]} workers"
