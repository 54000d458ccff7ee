"""What the prompt costs each request: places of the context, bytes, or time.

Tokens and bytes are facts. Time is a sample, of which more test rows make no more: its median has the exact interval of order
statistics (the sign test inverted; Conover 1999, 3.2), which needs no assumption about how times are distributed.
"""

import numpy as np

from softprompt.evaluation.gate_report import GateResult
from softprompt.evaluation.gates.outcome import at_most, by_fact, not_measured, outcome
from softprompt.evaluation.intervals import Interval
from softprompt.evaluation.observations import Floats, Observations, PromptFacts
from softprompt.recipe.gates import CostGate


def judge_cost(gate: CostGate, seen: Observations) -> GateResult:
    """Apply the gate."""
    if gate.latency_ms_at_most is not None:
        return _latency(gate, gate.latency_ms_at_most, seen.facts)
    if gate.tokens_at_most is not None:
        limit, what = gate.tokens_at_most, "tokens of context"
    else:
        assert gate.bytes_at_most is not None
        limit, what = gate.bytes_at_most, "bytes of the prompt file"
    rule = f"{what} at most {limit:,}"
    if seen.facts is None:
        return not_measured(gate, rule=rule, threshold=limit, note="the prompt's cost was not measured")
    value = seen.facts.num_tokens if gate.tokens_at_most is not None else seen.facts.num_bytes
    return by_fact(gate, rule=rule, value=value, threshold=limit, holds=at_most)


def _latency(gate: CostGate, limit: float, facts: PromptFacts | None) -> GateResult:
    rule = f"milliseconds that the prompt adds to a request, median, at most {limit:g}"
    if facts is None or not facts.latency_ms.size:
        return not_measured(gate, rule=rule, threshold=limit, note="latency was not measured")
    interval, repetitions = median_interval(facts.latency_ms, gate.confidence), f"{facts.latency_ms.size} repetitions"
    if interval is None:
        note = f"{repetitions} are too few for an interval at {gate.confidence:g}"
        return not_measured(gate, rule=rule, threshold=limit, note=note)
    status = at_most(interval, limit)
    return outcome(gate, rule=rule, interval=interval, threshold=limit, status=status, note=repetitions)


def median_interval(values: Floats, confidence: float) -> Interval | None:
    """The median with its exact interval; None where there are too few values for one.

    Args:
        values: `[n]`; about 6 are needed for a level of 0.95.
        confidence: Level of the two-sided interval.
    """
    from scipy.stats import quantile_test

    median = float(np.median(values))
    # Of the median, where it is told no other quantile.
    bounds = quantile_test(values).confidence_interval(confidence)
    if not np.isfinite([bounds.low, bounds.high]).all():
        return None
    return Interval(median, float(bounds.low), float(bounds.high))
