"""Step `evaluate_prompt`: gates over rows that training never saw. It always succeeds and says one verdict."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_prompt(
    resolved_recipe: str,
    dataset: Input[Dataset],
    prompt: Input[Model],
    training_log: Input[Artifact],
    gate_report: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
    confusion_matrix: Output[ClassificationMetrics],
    summary: Output[Markdown],
    verdict: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
) -> None:
    """Compare the prompt with the bare base and a hand-written instruction, and judge it.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        dataset: Artifact of `validate_dataset`.
        prompt: Prompt file of `tune_prompt`.
        training_log: Log of `tune_prompt`.
        gate_report: Every number behind the verdict, JSON.
        report: The same as a page.
        metrics: Estimates by system, for the UI.
        confusion_matrix: True labels in rows, and for two labels the ROC curve; empty for a generation.
        summary: Verdict, gates and comparisons in a few lines.
        verdict: `passed`, `rejected` or `undecided`.
    """
    from functools import partial
    from pathlib import Path

    from softprompt.artifact import PromptFile
    from softprompt.evaluation.evaluate import evaluate_prompt as evaluate
    from softprompt.evaluation.report.markdown import summary as summarise
    from softprompt.evaluation.report.roc import roc_curve
    from softprompt.progress import step_errors
    from softprompt.registry_evaluation import wear_of
    from softprompt.resolve import ResolvedRecipe
    from softprompt.settings import Settings

    with step_errors("evaluate_prompt"):
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        result = evaluate(
            resolved,
            dataset=Path(dataset.path),
            prompt=Path(prompt.path),
            training_log=Path(training_log.path),
            gate_report=Path(gate_report.path),
            report=Path(report.path),
            wear=partial(
                wear_of,
                Settings.from_environment().tracking_uri,
                resolved.recipe.name,
                PromptFile.read(Path(prompt.path)).digest,
            ),
        )
        for found in result.measured:
            metrics.log_metric(f"{found.system} {found.metric}", found.estimate)
        if result.labels:
            confusion_matrix.log_confusion_matrix(list(result.labels), [list(row) for row in result.confusion])
        if curve := roc_curve(result):
            confusion_matrix.log_roc_curve(*curve)
        Path(summary.path).write_text(summarise(resolved.recipe.name, result))
        Path(verdict).write_text(result.verdict)
