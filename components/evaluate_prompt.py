"""Step `evaluate_prompt`: gates over rows that training never saw. It always succeeds and says one verdict."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from components import IMAGE, TASK_SETTINGS


@dsl.component(base_image=IMAGE, install_kfp_package=False, task_config_passthroughs=TASK_SETTINGS)
def evaluate_prompt(
    resolved_recipe: str,
    dataset: Input[Dataset],
    prompt: Input[Model],
    training_log: Input[Artifact],
    prompt_digest: str,
    task_config: dsl.TaskConfig,
    gate_report: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
    confusion_matrix: Output[ClassificationMetrics],
    summary: Output[Markdown],
    verdict: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
    backend: str = "",
) -> None:
    """Compare the prompt with the bare base and a hand-written instruction, and judge it.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        dataset: Artifact of `validate_dataset`.
        prompt: Prompt file of `tune_prompt`.
        training_log: Log of `tune_prompt`.
        prompt_digest: Of the prompt: KFP's cache looks at parameters, and at no artifact's content.
        task_config: What is set on the task, for the Ray pods.
        gate_report: Every number behind the verdict, JSON.
        report: The same as a page.
        metrics: Estimates by system, for the UI.
        confusion_matrix: True labels in rows, and for two labels the ROC curve; empty for a generation.
        summary: Verdict, gates and comparisons in a few lines.
        verdict: `passed`, `rejected` or `undecided`.
        backend: `local` or `rayjob`, if `evaluation.engine` is `ray`; empty: the deployment's.
    """
    from pathlib import Path

    from softprompt.artifact import PromptFile
    from softprompt.evaluation.gate_report import GateReport
    from softprompt.evaluation.report.markdown import summary as summarise
    from softprompt.evaluation.report.roc import roc_curve
    from softprompt.placement import run_step
    from softprompt.progress import step_errors
    from softprompt.resolve import ResolvedRecipe
    from softprompt.settings import Settings
    from softprompt.step_request import StepRequest

    with step_errors("evaluate_prompt"):
        settings = Settings.from_environment()
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        request = StepRequest(step="evaluate_prompt", resolved=resolved, tracking_uri=settings.tracking_uri)
        PromptFile.read(Path(prompt.path), expected_digest=prompt_digest)
        inputs = {"dataset": Path(dataset.path), "prompt": Path(prompt.path), "training_log": Path(training_log.path)}
        outputs = {"gate_report": Path(gate_report.path), "report": Path(report.path)}
        run_step(request, inputs, outputs, settings, backend, place=gate_report.uri, task_config=task_config)
        result = GateReport.from_bytes(outputs["gate_report"].read_bytes(), source="gate_report")
        for found in result.measured:
            metrics.log_metric(f"{found.system} {found.metric}", found.estimate)
        if result.labels:
            confusion_matrix.log_confusion_matrix(list(result.labels), [list(row) for row in result.confusion])
        if curve := roc_curve(result):
            confusion_matrix.log_roc_curve(*curve)
        Path(summary.path).write_text(summarise(resolved.recipe.name, result))
        Path(verdict).write_text(result.verdict)
