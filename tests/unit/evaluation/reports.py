"""Gate reports, made up."""

from collections.abc import Sequence

from softprompt.evaluation.gate_report import GateReport, GateResult, Measured, RowOutcome
from softprompt.evaluation.gates import verdict_of


def gate(rule: str, status: str, estimate: float = 0.9) -> GateResult:
    """A gate that blocks."""
    return GateResult(
        name=rule.replace(" ", "_"),
        kind="metric",
        metric="accuracy",
        rule=rule,
        severity="block",
        confidence=0.95,
        estimate=estimate,
        low=estimate - 0.05,
        high=estimate + 0.05,
        threshold=0.8,
        status=status,
    )


def report(
    outputs: Sequence[str],
    targets: Sequence[str],
    *,
    inputs: Sequence[str] = (),
    gates: Sequence[GateResult] = (),
    task: str = "classification",
    prompt: str = "a",
) -> GateReport:
    """What a soft prompt said to some rows."""
    gates = tuple(gates or [gate("accuracy at least 0.8", "passed")])
    verdict, reason = verdict_of(gates)
    share = sum(output == target for output, target in zip(outputs, targets, strict=True)) / max(1, len(targets))
    metric = "accuracy" if task == "classification" else "exact_match"
    rows = [
        RowOutcome(
            id=f"row-{number}",
            target=target,
            outputs={"soft_prompt": output},
            confidence=0.0,
            input=inputs[number] if inputs else f"{number:016x}",
        )
        for number, (output, target) in enumerate(zip(outputs, targets, strict=True))
    ]
    return GateReport(
        prompt=prompt * 64,
        dataset="d" * 64,
        base_uri="embedded://base",
        base_fingerprint="b" * 64,
        numerics="float32",
        task=task,
        evaluated="2026-11-22T00:00:00Z",
        verdict=verdict,
        reason=reason,
        num_test_rows=len(rows),
        gates=gates,
        measured=(Measured(system="soft_prompt", metric=metric, estimate=share, low=0.0, high=1.0, confidence=0.95),),
        labels=tuple(sorted(set(targets))) if task == "classification" else (),
        confusion=(),
        by_label=(),
        rows=tuple(rows),
    )
