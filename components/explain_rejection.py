"""Step `explain_rejection`: the other branch of publishing. It says which gates failed, where a person looks for the prompt."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Markdown, Output

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def explain_rejection(gate_report: Input[Artifact], reasons: Output[Markdown]) -> None:
    """Write why nothing was published.

    Args:
        gate_report: Of `evaluate_prompt`.
        reasons: The gates and what they measured.
    """
    from pathlib import Path

    from softprompt.evaluation.gate_report import GateReport, rejection_text
    from softprompt.progress import step_errors

    with step_errors("explain_rejection"):
        report = GateReport.from_bytes(Path(gate_report.path).read_bytes(), source="gate_report")
        Path(reasons.path).write_text(rejection_text(report))
