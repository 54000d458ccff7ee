"""The step `tune_prompt`: a dataset in, a prompt file and a training log out."""

from pathlib import Path
from typing import Any

from softprompt.artifact import Answer, PromptFile, TemplateExample
from softprompt.errors import SoftpromptError
from softprompt.numerics import FORMATS
from softprompt.progress import MetricSink, tell
from softprompt.recipe.training import Candidate, TrainingSpec
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.diagnosis import moved
from softprompt.tuning.outcome import best_look, warnings_of
from softprompt.tuning.parameterisation import num_movable, num_trained
from softprompt.tuning.population import PopulationState, Run
from softprompt.tuning.ray_train import train_on_ray
from softprompt.tuning.ray_worker import STEP
from softprompt.tuning.report import write_training_report
from softprompt.tuning.training_log import CandidateResult, TrainingLog
from softprompt.tuning.training_memory import basis_numbers, share_of_full_fine_tuning


def tune_prompt(
    resolved: ResolvedRecipe,
    dataset: Path,
    prompt: Path,
    training_log: Path,
    training_report: Path,
    *,
    sink: MetricSink,
    run_id: str,
    storage: str,
) -> TrainingLog:
    """Tune the prompt that a recipe asks for.

    Args:
        resolved: The recipe.
        dataset: Dataset artifact.
        prompt: Directory to write the prompt file to.
        training_log: File to write the log to.
        training_report: File to write the page to.
        sink: Where metrics go while it runs.
        run_id: Names the Ray run.
        storage: For checkpoints: a folder that every worker sees, or `s3://BUCKET/PREFIX`.

    Raises:
        SoftpromptError: Training failed, or a bit of the base changed (a fault of ours).
    """
    state, facts = train_on_ray(resolved, dataset, sink, run_id=run_id, storage=storage)
    log = write_results(resolved, state, facts, prompt, training_log)
    write_training_report(training_report, resolved, log)
    return log


def write_results(
    resolved: ResolvedRecipe, state: PopulationState, facts: dict[str, Any], prompt: Path, training_log: Path
) -> TrainingLog:
    """Write a finished training's prompt file and log.

    Args:
        resolved: The recipe.
        state: The population's final state.
        facts: What the workers reported of the job.
        prompt: Directory to write the prompt file to.
        training_log: File to write the log to.

    Raises:
        SoftpromptError: A bit of the base changed (a fault of ours).
    """
    if facts["base_digest_before"] != facts["base_digest_after"]:
        raise SoftpromptError(
            "Training changed the frozen base model.", expected=facts["base_digest_before"], actual=facts["base_digest_after"]
        )
    file = build_prompt(resolved, state, facts)
    log = _log(resolved, state, facts, file)
    file.write(prompt, base_uri=resolved.base.uri, encoder_decoder=facts["is_encoder_decoder"])
    training_log.write_bytes(log.to_bytes())
    for warning in log.warnings:
        tell(STEP, f"Warning: {warning}", warning=warning)
    size = len(file.tensor)
    tell(
        STEP,
        f"best step {log.best_step}; {size:,} bytes, {log.trainable_parameters:,} numbers",
        digest=file.digest,
        num_bytes=size,
    )
    return log


def build_prompt(resolved: ResolvedRecipe, state: PopulationState, facts: dict[str, Any]) -> PromptFile:
    """The prompt file of the best look of the best candidate."""
    recipe = resolved.recipe
    return PromptFile.build(
        state.winner.loop.best_values.numpy(),
        task=recipe.task.type,
        template=recipe.task.template,
        template_examples=tuple(
            TemplateExample(values=e["values"], token_ids=tuple(e["token_ids"])) for e in facts["template_examples"]
        ),
        answers=tuple(Answer(**answer) for answer in facts["answers"]),
        max_new_tokens=recipe.task.max_new_tokens,
        base_fingerprint=resolved.base.fingerprint,
    )


def _log(resolved: ResolvedRecipe, state: PopulationState, facts: dict[str, Any], file: PromptFile) -> TrainingLog:
    assert state.outcome is not None
    training = resolved.recipe.training_of(Candidate())
    assert training.optimiser is not None, "Recipe.training_of() fills it in"
    seconds = sum(run.loop.measurements[-1].seconds for run in state.runs)
    return TrainingLog(
        prompt=file.digest,
        kind=file.manifest.kind,
        strategy=facts["strategy"],
        loss=facts["loss"],
        optimiser=training.optimiser,
        input_noise=facts["input_noise"],
        num_workers=facts["num_workers"],
        num_training_rows=facts["num_training_rows"],
        num_validation_rows=facts["num_validation_rows"],
        trainable_parameters=num_movable(state.winner.loop.parameters),
        total_parameters=facts["total_parameters"],
        added_memory_share=share_of_full_fine_tuning(
            num_trained(state.winner.loop.parameters),
            facts["total_parameters"],
            FORMATS[resolved.recipe.base_model.dtype].compute_bytes,
            num_basis_numbers=basis_numbers(file.values.shape, training.optimiser),
        ),
        base_digest_before=facts["base_digest_before"],
        base_digest_after=facts["base_digest_after"],
        embedding_rms=facts["embedding_rms"],
        numerics=resolved.recipe.base_model.dtype,
        seconds=round(seconds, 3),
        tokens_per_second=round(_num_tokens(state, training, facts) / max(seconds, 1e-9), 1),
        winner=state.winner.number,
        best_step=state.winner.loop.best_step,
        moved=moved(state.winner.loop.parameters["start"], state.winner.loop.best_values),
        candidates=tuple(_result(resolved, facts, run) for run in state.runs),
        measurements=tuple(state.measurements),
        seeds=state.outcome.seeds,
        fairness=state.outcome.fairness,
        warnings=state.outcome.warnings,
    )


def _num_tokens(state: PopulationState, training: TrainingSpec, facts: dict[str, Any]) -> float:
    return float(training.batch_size * state.steps_done * facts["mean_row_tokens"])


def _result(resolved: ResolvedRecipe, facts: dict[str, Any], run: Run) -> CandidateResult:
    training, prompt = resolved.recipe.training_of(run.candidate), resolved.recipe.prompt_of(run.candidate)
    best = best_look(run)
    assert training.learning_rate is not None  # training_of() has filled it in
    return CandidateResult(
        candidate=run.number,
        seed=training.seed,
        num_tokens=resolved.recipe.num_tokens(len(facts["answers"]), run.candidate),
        learning_rate=training.learning_rate,
        init=prompt.init.method,
        steps=run.loop.step,
        dropped_at=run.dropped_at,
        repeats=run.repeats,
        best_step=run.loop.best_step,
        validation_loss=best.validation_loss,
        validation_accuracy=best.validation_accuracy,
        seconds=run.loop.measurements[-1].seconds,
        warnings=warnings_of(run),
    )
