"""The training as one page: the result, what is doubtful about it, the curves, every candidate, and what it took."""

from collections.abc import Callable
from pathlib import Path

from softprompt.pages.page import number, percent, write_page
from softprompt.pages.plots import RunLine, RunRole, TradeOffMark, curves_plot, runs_plot, trade_off_plot
from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.training_log import CandidateResult, Measurement, SeedSpread, TradeOff, TrainingLog

Value = Callable[[Measurement], float | None]


def write_training_report(path: Path, resolved: ResolvedRecipe, log: TrainingLog) -> None:
    """Write the page.

    Args:
        path: File to write.
        resolved: The recipe.
        log: How it was trained.
    """
    write_page(
        path,
        "training",
        name=resolved.recipe.name,
        base_uri=resolved.base.uri,
        log=log,
        winner=winner_of(log),
        has_accuracy=winner_of(log).validation_accuracy is not None,
        facts=_facts(log),
        plots=_plots(log),
        names={found.candidate: name_of(found) for found in log.candidates},
        roles={found.candidate: role_of(found, log) for found in log.candidates},
        seeds=_seeds(log),
        trade_off_plot=_trade_off_plot(log.fairness) if log.fairness else "",
        trade_off_rule=_trade_off_rule(log.fairness) if log.fairness else "",
        resources=_resources(log),
    )


def winner_of(log: TrainingLog) -> CandidateResult:
    """The candidate that became the prompt."""
    return next(found for found in log.candidates if found.candidate == log.winner)


def name_of(found: CandidateResult) -> str:
    """A candidate's number, counted from 1; a repetition is called after its seed."""
    return str(found.candidate + 1) if found.repeats is None else f"{found.repeats + 1}, seed {found.seed}"


def role_of(found: CandidateResult, log: TrainingLog) -> RunRole:
    """How a candidate ended."""
    if found.candidate == log.winner:
        return "winner"
    return "finished" if found.dropped_at is None else "dropped"


def _facts(log: TrainingLog) -> list[tuple[str, str]]:
    best = winner_of(log)
    accuracy = [] if best.validation_accuracy is None else [(number(best.validation_accuracy), "best validation accuracy")]
    return [
        *accuracy,
        (number(best.validation_loss), f"validation loss there, {_unit(log)}"),
        (f"{log.best_step:,}", f"the step that was kept, of {best.steps:,}"),
        (
            percent(log.trainable_parameters / log.total_parameters),
            f"of the model's size: {log.trainable_parameters:,} numbers trained",
        ),
        (percent(log.added_memory_share), "of full fine-tuning's gradient and optimiser memory, a candidate"),
        (f"{log.seconds:,.0f} s", f"of training, {log.tokens_per_second:,.0f} tokens a second"),
    ]


def _unit(log: TrainingLog) -> str:
    return "nats a row" if log.loss == "answers" else "nats a token"


def _plots(log: TrainingLog) -> list[object]:
    """Losses side by side, then the accuracy where there is one."""
    if len(log.candidates) == 1:
        return _curves_of_one(log)
    losses = {f"training loss, {_unit(log)}": _lines(log, lambda look: look.training_loss)}
    losses[f"validation loss, {_unit(log)}"] = _lines(log, lambda look: look.validation_loss)
    accuracies = _lines(log, lambda look: look.validation_accuracy)
    panels = [losses, {"validation accuracy": accuracies}] if accuracies else [losses]
    return [runs_plot(panel, "step", log.best_step) for panel in panels]


def _curves_of_one(log: TrainingLog) -> list[object]:
    losses = {
        "training": [(look.step, look.training_loss) for look in log.measurements],
        "validation": [(look.step, look.validation_loss) for look in log.measurements],
    }
    plots: list[object] = [curves_plot(losses, "step", f"loss, {_unit(log)}", log.best_step)]
    accuracies = _lines(log, lambda look: look.validation_accuracy)
    if accuracies:
        plots.append(curves_plot({"validation": accuracies[0].points}, "step", "validation accuracy", log.best_step))
    return plots


def _lines(log: TrainingLog, value: Value) -> list[RunLine]:
    """One line a candidate that has such values."""
    lines = []
    for found in log.candidates:
        looks = [(look.step, value(look)) for look in log.measurements if look.candidate == found.candidate]
        points = [(float(step), measured) for step, measured in looks if measured is not None]
        if points:
            lines.append(RunLine(name_of(found), points, role_of(found, log)))
    return lines


def _seeds(log: TrainingLog) -> str:
    """The spread over seeds and what their vote adds, in words; empty where one seed was trained."""
    if log.seeds is None:
        return ""
    spread = log.seeds
    values = ", ".join(number(value) for value in spread.values)
    said = f"{len(spread.values)} seeds of the chosen setting reach a validation {spread.metric} of {values}: "
    said += f"{number(spread.mean)} on average, standard deviation {number(spread.standard_deviation)}."
    return said + _vote(spread, winner_of(log))


def _vote(spread: SeedSpread, kept: CandidateResult) -> str:
    if spread.vote is None or kept.validation_accuracy is None:
        return ""
    added = 100 * (spread.vote - kept.validation_accuracy)
    what = f"{added:+.1f} points" if round(added, 1) else "nothing"
    return (
        f" A vote of them all would be right on {number(spread.vote)} of the validation rows: it would add {what} to the best"
        " one, at as many times the cost of serving."
    )


def _trade_off_plot(found: TradeOff) -> object:
    marks = [
        TradeOffMark(f"weight {point.weight:g}", point.gap, point.accuracy, point.candidate == found.kept)
        for point in found.points
    ]
    return trade_off_plot(marks, f"largest gap between groups, {found.criterion.replace('_', ' ')}", "validation accuracy")


def _trade_off_rule(found: TradeOff) -> str:
    """By which rule a run was kept, and what it costs beside the one without the objective."""
    said = "One weight was asked for; training.fairness.weights draws the curve."
    if found.max_accuracy_loss is not None:
        said = f"Kept: the smallest gap among those within {found.max_accuracy_loss:g} points of the best accuracy."
    kept = next(point for point in found.points if point.candidate == found.kept)
    plain = next((point for point in found.points if point.weight == 0), None)
    if plain is None or plain is kept:
        return said
    gap, accuracy = (100 * (one[0] - other[0]) for one, other in ((kept.gap, plain.gap), (kept.accuracy, plain.accuracy)))
    return f"{said} Beside weight 0 the gap changes by {gap:+.1f} points and the accuracy by {accuracy:+.1f}."


def _resources(log: TrainingLog) -> list[tuple[str, str]]:
    unchanged = log.base_digest_before == log.base_digest_after
    return [
        ("rows", f"{log.num_training_rows:,} to train on, {log.num_validation_rows:,} to choose by"),
        ("loss", f"{log.loss}, {_unit(log)}"),
        ("optimiser", log.optimiser),
        *([("noise on the input", f"{percent(log.input_noise)} of the tokens")] if log.input_noise else []),
        ("RMS of the base's embeddings", f"{log.embedding_rms:.4g}"),
        ("forward strategy", log.strategy.replace("_", " ")),
        ("workers", str(log.num_workers)),
        ("number format of the base", log.numerics),
        ("the frozen base", "not one bit changed" if unchanged else "CHANGED"),
        ("prompt", f"sha256:{log.prompt}"),
    ]
