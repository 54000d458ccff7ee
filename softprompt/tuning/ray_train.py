"""The training loop under Ray Train: each worker holds the frozen base, only the prompt's gradient is exchanged.

One worker goes the same way as many. The worker's function takes plain paths and JSON, so the same entry serves a local Ray and
a cluster's. A checkpoint is reported at every look at validation; a worker that dies resumes from the last complete one.
"""

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softprompt.errors import ServiceUnavailable, SoftpromptError, error_of
from softprompt.progress import MetricSink, tell
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.live import Progress
from softprompt.tuning.population import PopulationState, Run

if TYPE_CHECKING:
    from softprompt.tuning.job import Job

STEP = "tune_prompt"
MAX_FAILURES = 3
OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's smallest store; nothing but paths and metrics goes through it."""
RAY_SETTINGS = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else every printed line comes twice
    "RAY_DEDUP_LOGS": "0",  # else progress lines of like shape are held back
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s is waited for at the start and at the end of every training
}


def train_on_ray(
    resolved: ResolvedRecipe, dataset: Path, sink: MetricSink, *, run_id: str, storage: str
) -> tuple[PopulationState, dict[str, Any]]:
    """Train a recipe's candidates with Ray Train.

    Args:
        resolved: The recipe.
        dataset: Dataset artifact, readable by every worker.
        sink: Where metrics go while it runs; travels to the first worker.
        run_id: In the name of the Ray run, so that only the same run is ever resumed.
        storage: Folder or URI for checkpoints.

    Returns:
        The final state and the facts that `worker` reports.

    Raises:
        SoftpromptError: What a worker raised.
        ServiceUnavailable: Ray did not bring the training to its end.
    """
    from ray.exceptions import RayError
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    start_ray()
    workers = resolved.recipe.training.num_workers
    tell(STEP, f"Ray is up; starting {workers} worker{'s' if workers > 1 else ''}")
    trainer = TorchTrainer(
        worker,
        train_loop_config={"resolved": resolved.to_bytes(), "dataset": str(dataset), "sink": sink},
        scaling_config=ScalingConfig(num_workers=workers),
        run_config=RunConfig(
            name=f"softprompt-{run_id}",
            storage_path=storage,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        return _final_state(trainer.fit())
    except (RayError, TrainingFailedError) as error:
        raise ServiceUnavailable("Ray did not finish the training.", actual=str(error).strip().splitlines()[-1]) from error


def start_ray() -> None:
    """Connect to the cluster that `RAY_ADDRESS` names, else start a local Ray for this process."""
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address, logging_level=logging.ERROR)
        return
    # Without the word `local` Ray would join whatever cluster somebody left running on this machine.
    ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, logging_level=logging.ERROR)


def worker(config: dict[str, Any]) -> None:
    """What every worker runs.

    Args:
        config: `resolved` (JSON bytes), `dataset` (path), `sink`.
    """
    import ray.train
    import torch

    from softprompt.base_model import parameter_digest
    from softprompt.tuning.job import Job
    from softprompt.tuning.outcome import judge
    from softprompt.tuning.population import run_population
    from softprompt.tuning.workers import Workers

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ray.train.get_context().get_local_world_size()))
    workers = Workers.current()
    try:
        resolved = ResolvedRecipe.from_bytes(config["resolved"], source="the Ray driver")
        job = Job.load(resolved, Path(config["dataset"]))
        state, facts = _resume() or (PopulationState(), {"base_digest_before": parameter_digest(job.base.model)})
        reporter = Reporter(job, config["sink"], facts, is_first=workers.rank == 0)
        run_population(job, state, workers, reporter)
        state.outcome = state.outcome or judge(job, state)
        facts |= {"base_digest_after": parameter_digest(job.base.model)} | facts_of(job)
        reporter.save(state)
    except SoftpromptError as error:
        # Trying again would only fail again; the driver raises it where a person sees it.
        _save(PopulationState(), {"error": [type(error).__name__, error.what, error.facts]}, is_first=workers.rank == 0)


class Reporter:
    """Tells a person, the metric sink and Ray how far the training is; only the first worker speaks.

    Args:
        job: What is trained.
        sink: Where metrics go.
        facts: Kept with each checkpoint.
        is_first: Whether this is the first worker.
    """

    def __init__(self, job: "Job", sink: MetricSink, facts: dict[str, Any], *, is_first: bool) -> None:
        self._job, self._sink, self._facts, self._is_first = job, sink, facts, is_first

    def __call__(self, state: PopulationState, run: Run) -> None:
        """After a look at validation: report it, and keep a checkpoint."""
        if self._is_first:
            look = run.loop.measurements[-1]
            progress = Progress.of(self._job.recipe, state, look)
            self._sink.log(_points(run, len(state.runs), progress))
            metrics = look.model_dump(exclude={"candidate", "step", "seconds"}, exclude_none=True)
            tell(STEP, progress.sentence(look), done=state.steps_done, total=progress.total, **metrics, **progress.facts())
        self.save(state)

    def save(self, state: PopulationState) -> None:
        """Keep a checkpoint."""
        _save(state, self._facts, is_first=self._is_first)


def facts_of(job: "Job") -> dict[str, Any]:
    """What the driver, which loads no base, needs to know of the job."""
    return {
        "strategy": job.strategy.name,
        "loss": job.recipe.loss,
        "num_training_rows": len(job.train),
        "num_validation_rows": len(job.validation),
        "total_parameters": job.base.num_parameters,
        "embedding_rms": job.base.embedding_rms,
        "mean_row_tokens": sum(example.num_tokens for example in job.train) / len(job.train),
        "template_examples": [example.model_dump(mode="json") for example in job.task.encoder.examples()],
        "answers": [answer.model_dump(mode="json") for answer in job.task.answers],
        "is_encoder_decoder": job.base.is_encoder_decoder,
    }


def _points(run: Run, num_runs: int, progress: Progress) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics): the training loss of every step since the last look, and the look itself."""
    look = run.loop.measurements[-1]
    start = f"candidate_{run.number + 1}/" if num_runs > 1 else ""
    first = look.step - len(run.loop.losses) + 1
    losses = [(first + place, {f"{start}training_loss": loss}) for place, loss in enumerate(run.loop.losses)]
    exclude = {"candidate", "step", "seconds", "training_loss"}
    metrics = {f"{start}{name}": value for name, value in look.model_dump(exclude=exclude, exclude_none=True).items()}
    return [*losses, (look.step, metrics | {"candidates_alive": float(progress.alive)})]


def _save(state: PopulationState, facts: dict[str, Any], *, is_first: bool) -> None:
    """Report a checkpoint to Ray; every worker has to call this, the first one brings the files."""
    import ray.train

    from softprompt.tuning.checkpoint import save_checkpoint

    with tempfile.TemporaryDirectory(prefix="softprompt-checkpoint-") as folder:
        if is_first:
            save_checkpoint(Path(folder), state, facts)
        ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(folder) if is_first else None)


def _resume() -> tuple[PopulationState, dict[str, Any]] | None:
    """The last complete checkpoint of this run, if a worker died before."""
    import ray.train

    from softprompt.tuning.checkpoint import load_checkpoint

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return load_checkpoint(Path(folder))


def _final_state(result: Any) -> tuple[PopulationState, dict[str, Any]]:
    """The state in the last checkpoint of a finished training; a worker's own error is raised again."""
    from softprompt.tuning.checkpoint import load_checkpoint

    loaded = None
    if result.checkpoint is not None:
        with result.checkpoint.as_directory() as folder:
            loaded = load_checkpoint(Path(folder))
    if loaded is None:
        raise ServiceUnavailable("The training left no complete checkpoint.", where=str(result.path))
    state, facts = loaded
    if error := facts.get("error"):
        raise error_of(*error)
    return state, facts
