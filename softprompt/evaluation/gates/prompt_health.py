"""The numbers of the prompt itself: finite, not grown out of all proportion, and moved from where they started.

All three are facts. The result's number is the first that does not hold, else the largest norm.
"""

import numpy as np

from softprompt.evaluation.gate_report import GatePart, GateResult
from softprompt.evaluation.gates.outcome import at_least, at_most, by_fact, not_measured
from softprompt.evaluation.observations import Observations
from softprompt.recipe.gates import PromptHealthGate


def judge_prompt_health(gate: PromptHealthGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    facts = seen.facts
    norm_rule = f"largest norm of a prompt vector at most {gate.norm_at_most:g} times the largest of a real token"
    moved_rule = f"distance to the initialiser at least {gate.moved_at_least:g} of its norm"
    if facts is None or not facts.norms.size:
        return not_measured(gate, rule=norm_rule, threshold=gate.norm_at_most, note="the prompt's numbers were not measured")
    finite = facts.finite and bool(np.isfinite(facts.norms).all())
    if not finite:
        return by_fact(gate, rule="every number of the prompt is finite", value=0.0, threshold=1.0, holds=at_least)
    norm, moved = float(facts.norms.max()), facts.moved
    parts = (_part("largest norm", norm), *(() if moved is None else (_part("moved", moved),)))
    if norm > gate.norm_at_most:
        return by_fact(gate, rule=norm_rule, value=norm, threshold=gate.norm_at_most, holds=at_most, parts=parts)
    if moved is None and gate.moved_at_least > 0:
        note = "the training did not say how far the prompt moved"
        return not_measured(gate, rule=moved_rule, threshold=gate.moved_at_least, note=note, parts=parts)
    if moved is not None and moved < gate.moved_at_least:
        return by_fact(gate, rule=moved_rule, value=moved, threshold=gate.moved_at_least, holds=at_least, parts=parts)
    rule = f"every number of the prompt is finite; {moved_rule}; {norm_rule}"
    return by_fact(gate, rule=rule, value=norm, threshold=gate.norm_at_most, holds=at_most, parts=parts)


def _part(name: str, value: float) -> GatePart:
    return GatePart(name=name, estimate=value, low=value, high=value, num_rows=0)
