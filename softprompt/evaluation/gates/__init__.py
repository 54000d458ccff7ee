"""Gates: rules over measurements. A failed gate is a result, not an exception.

Passed: the interval lies wholly on the right side of the threshold. Rejected: wholly on the wrong side. Else undecided, with an
estimate of the rows that would decide it. Each kind of gate is a module of its own:

metric.py          a metric on all rows or a slice: floor, ceiling, better than a baseline, not worse than one
slices.py          the same metric in every slice: a floor, or the gap between slices
fairness.py        rates of labels between subgroups
robustness.py      what disturbed input costs
must_pass.py       rows that must be right
prompt_health.py   the prompt's own numbers
cost.py            tokens, bytes, time
leakage.py         test rows that training saw

`outcome.py` and `parts.py` make a result of one measurement and of several; `subgroups.py` finds rows by column.
"""

from collections.abc import Callable, Sequence
from typing import Any

from softprompt.evaluation.gate_report import GateResult, Verdict, explained
from softprompt.evaluation.gates.cost import judge_cost
from softprompt.evaluation.gates.fairness import judge_fairness
from softprompt.evaluation.gates.leakage import judge_leakage
from softprompt.evaluation.gates.metric import judge_metric
from softprompt.evaluation.gates.must_pass import judge_must_pass
from softprompt.evaluation.gates.prompt_health import judge_prompt_health
from softprompt.evaluation.gates.robustness import judge_robustness
from softprompt.evaluation.gates.slices import judge_slices
from softprompt.evaluation.observations import Observations
from softprompt.recipe.gates import GateSpec

_JUDGES: dict[str, Callable[[Any, Observations], GateResult]] = {
    "metric": judge_metric,
    "slices": judge_slices,
    "fairness": judge_fairness,
    "robustness": judge_robustness,
    "must_pass": judge_must_pass,
    "prompt_health": judge_prompt_health,
    "cost": judge_cost,
    "leakage": judge_leakage,
}


def judge(gate: GateSpec, seen: Observations) -> GateResult:
    """Apply one gate to what was seen."""
    return _JUDGES[gate.kind](gate, seen)


def verdict_of(gates: Sequence[GateResult]) -> tuple[Verdict, str]:
    """The verdict of all blocking gates, each at its own level, and the reason in one sentence."""
    blocking = [gate for gate in gates if gate.severity == "block"]
    statuses: tuple[Verdict, ...] = ("rejected", "undecided")
    for status in statuses:
        failed = [gate for gate in blocking if gate.status == status]
        if failed:
            return status, f"{status.capitalize()}: {'; '.join(map(explained, failed))}."
    count = len(blocking)
    return (
        "passed",
        f"Passed: {'the one gate' if count == 1 else f'all {count} gates'} that can block {'holds' if count == 1 else 'hold'}.",
    )
