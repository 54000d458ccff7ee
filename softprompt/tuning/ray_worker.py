"""What each worker of a training does: load, take up the last checkpoint, train, report; the first one also keeps checkpoints."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from softprompt.base_model import parameter_digest
from softprompt.errors import ServiceUnavailable, SoftpromptError
from softprompt.progress import MetricSink, tell
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.checkpoint import save_checkpoint
from softprompt.tuning.checkpoint_store import CheckpointStore, number_of
from softprompt.tuning.job import Job
from softprompt.tuning.live import Progress
from softprompt.tuning.outcome import judge
from softprompt.tuning.population import PopulationState, Run, run_population
from softprompt.tuning.workers import Workers

STEP = "tune_prompt"


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What every worker runs.

    Args:
        config: `resolved` (JSON bytes), `dataset` (path), `sink`, `storage`, `run`, `threads` (0: share the processors).

    Returns:
        The first worker's last `checkpoint`, or the `error` that trying again would only repeat.

    Raises:
        ServiceUnavailable: Another try may end better: the storage did not answer, or another worker is gone.
    """
    import ray.train.torch

    shared = max(1, (os.cpu_count() or 1) // ray.train.get_context().get_local_world_size())
    torch.set_num_threads(config["threads"] or shared)
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where NCCL exchanges objects
    job, refusal = _job(config, str(device))
    workers = Workers.current(job.recipe.training.num_shards if job else 0)
    _check_nobody_is_gone(workers, ray.train.get_context().get_world_size())
    # One that cannot load must not leave the others waiting for its gradient.
    if refusal := workers.first(refusal):
        return {"error": refusal}
    assert job is not None
    try:
        return {"checkpoint": _train(job, config, workers)}
    except ServiceUnavailable:
        raise  # another try may find the storage in better health
    except SoftpromptError as error:
        return {"error": _plain(error)}


def _check_nobody_is_gone(workers: Workers, expected: int) -> None:
    """Refuse to go on alone: Ray Train takes the process group down when a worker dies, and those that are left must end, too.

    One that took itself for the only worker would train on, and its checkpoints would be resumed from.
    """
    if workers.count != expected:
        raise ServiceUnavailable(
            "A worker of the training is gone.", where="Ray Train", expected=f"{expected} workers", actual=str(workers.count)
        )


def _job(config: dict[str, Any], device: str) -> tuple[Job | None, list[Any] | None]:
    resolved = ResolvedRecipe.from_bytes(config["resolved"], source="the Ray driver")
    try:
        return Job.load(resolved, Path(config["dataset"]), device), None
    except SoftpromptError as error:
        return None, _plain(error)


def _plain(error: SoftpromptError) -> list[Any]:
    return [type(error).__name__, error.what, error.facts]


def _train(job: Job, config: dict[str, Any], workers: Workers) -> str:
    """Train from the last checkpoint to the end; the name of the checkpoint that holds the end."""
    store = CheckpointStore(config["storage"], config["run"])
    name, state, facts = _resume(store, workers) or ("", PopulationState(), {})
    facts.setdefault("base_digest_before", parameter_digest(job.base.model))
    reporter = Reporter(job, config["sink"], facts, store, is_first=workers.rank == 0, number=number_of(name) if name else 0)
    run_population(job, state, workers, reporter)
    state.outcome = state.outcome or judge(job, state)
    facts |= {"base_digest_after": parameter_digest(job.base.model)} | facts_of(job, workers)
    return reporter.save(state)


def _resume(store: CheckpointStore, workers: Workers) -> tuple[str, PopulationState, dict[str, Any]] | None:
    """The newest complete checkpoint: the first worker looks for it, and all take the one that it found."""
    name = None
    if workers.rank == 0:
        name = next((name for name in store.names() if store.load(name)), "")
    name = workers.first(name)
    if not name:
        return None
    found = store.load(name)
    if found is None:
        raise ServiceUnavailable("A checkpoint went away while it was read.", where=f"{store.where}/{name}")
    return name, *found


class Reporter:
    """Tells a person, the metric sink and Ray how far the training is; only the first worker speaks.

    Args:
        job: What is trained.
        sink: Where metrics go.
        facts: Kept with each checkpoint.
        store: Keeps checkpoints.
        is_first: Whether this is the first worker.
        number: Of the last checkpoint; 0: there is none.
    """

    def __init__(
        self, job: Job, sink: MetricSink, facts: dict[str, Any], store: CheckpointStore, *, is_first: bool, number: int
    ) -> None:
        self._job, self._sink, self._facts, self._store = job, sink, facts, store
        self._is_first, self._number = is_first, number

    def __call__(self, state: PopulationState, run: Run) -> None:
        """After a look at validation: report it, and keep a checkpoint."""
        if self._is_first:
            look = run.loop.measurements[-1]
            progress = Progress.of(self._job.recipe, state, look)
            self._sink.log(_points(run, len(state.runs), progress))
            metrics = look.model_dump(exclude={"candidate", "step", "seconds"}, exclude_none=True)
            tell(STEP, progress.sentence(look), done=state.steps_done, total=progress.total, **metrics, **progress.facts())
        self.save(state)

    def save(self, state: PopulationState) -> str:
        """Keep a checkpoint; its name, empty on the other workers."""
        self._number += 1
        if not self._is_first:
            return ""
        with tempfile.TemporaryDirectory(prefix="softprompt-checkpoint-") as folder:
            save_checkpoint(Path(folder), state, self._facts)
            return self._store.put(Path(folder), self._number)


def facts_of(job: Job, workers: Workers) -> dict[str, Any]:
    """What the driver, which loads no base, needs to know of the job."""
    return {
        "strategy": job.strategy.name,
        "loss": job.recipe.loss,
        "input_noise": job.input_noise,
        "num_workers": workers.count,
        "num_training_rows": len(job.train),
        "num_validation_rows": len(job.validation),
        "total_parameters": job.base.num_parameters,
        "embedding_rms": job.base.embedding_rms,
        "mean_row_tokens": job.train.mean_length,
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
