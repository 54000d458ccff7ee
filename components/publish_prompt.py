"""Step `publish_prompt`: do what the channel's policy allows, sign and publish, or propose."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Model, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def publish_prompt(
    resolved_recipe: str,
    registration: str,
    dataset: Input[Dataset],
    prompt: Input[Model],
    training_log: Input[Artifact],
    gate_report: Input[Artifact],
    outcome: Output[Markdown],
    publication: dsl.OutputPath(str),  # type: ignore[valid-type]  # KFP's own way to name an output
) -> None:
    """Put the prompt and its evidence into the store, and into the channel where its policy lets a pipeline sign.

    Args:
        resolved_recipe: JSON of `resolve_recipe`.
        registration: JSON of `register_prompt`.
        dataset: What the prompt was made from; its profile and the digests of its inputs are evidence for later runs.
        prompt: The prompt file.
        training_log: Evidence of `tune_prompt`.
        gate_report: Evidence of `evaluate_prompt`.
        outcome: What was done, and what is next.
        publication: The same, JSON.
    """
    from pathlib import Path

    from softprompt.evaluation.gate_report import GateReport
    from softprompt.progress import step_errors, tell
    from softprompt.registry import Registration
    from softprompt.resolve import ResolvedRecipe
    from softprompt.run_channel import GATE_REPORT_FILE, RECIPE_FILE, dataset_evidence, publish_run
    from softprompt.settings import Settings
    from softprompt.step_pages import publication_page

    with step_errors("publish_prompt"):
        resolved = ResolvedRecipe.from_bytes(resolved_recipe.encode(), source="resolved_recipe")
        registered = Registration.from_bytes(registration.encode(), source="registration")
        report = GateReport.from_bytes(Path(gate_report.path).read_bytes(), source="gate_report")
        files = {GATE_REPORT_FILE: gate_report.path, "training_log.json": training_log.path}
        evidence = {name: Path(path).read_bytes() for name, path in files.items()}
        evidence[RECIPE_FILE] = resolved.recipe.to_bytes()
        evidence |= dataset_evidence(Path(dataset.path))
        done = publish_run(
            resolved,
            Path(prompt.path),
            evidence,
            Settings.from_environment(),
            verdict=report.verdict,
            evaluated=report.evaluated,
            model_version=registered.version,
        )
        Path(publication).write_bytes(done.to_bytes())
        Path(outcome.path).write_text(publication_page(resolved.recipe.name, registered.version, done))
        tell("publish_prompt", done.sentence)
