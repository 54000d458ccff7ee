"""Time that a prompt adds to a request of one row, as a serving node does it: the prompt itself is prepared once, before."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from softprompt.data.rows import Row
from softprompt.engine.head import Head
from softprompt.engine.scoring import answer_log_probabilities, generate
from softprompt.engine.strategy import choose_strategy
from softprompt.evaluation.observations import Floats
from softprompt.evaluation.systems.base_system import BaseSystem

REPETITIONS = 30
WARM_UPS = 3
GENERATED_TOKENS = 16
"""Of a generation, with and without the prompt alike: the time is that of as many tokens, whatever they say."""


def added_latency_ms(soft: BaseSystem, rows: Sequence[Row], repetitions: int = REPETITIONS) -> Floats:
    """Milliseconds that the prompt adds to a request with the median row, one number a repetition.

    With and without it in turn, so that what else the machine does meets both alike; which comes first alternates.

    Returns:
        `[repetitions]`; single ones may be negative on a busy machine.
    """
    ids = soft.input_ids(rows)
    row = ids[sorted(range(len(ids)), key=lambda place: len(ids[place]))[len(ids) // 2]]
    ours, bare = _request(soft, row), _request(BaseSystem(soft.base, soft.task), row)
    for _ in range(WARM_UPS):
        ours()
        bare()
    return np.array([_difference_ms(ours, bare, swap=bool(repetition % 2)) for repetition in range(repetitions)])


def _difference_ms(ours: Callable[[], object], bare: Callable[[], object], *, swap: bool) -> float:
    if swap:
        without = _milliseconds(bare)
        return _milliseconds(ours) - without
    return _milliseconds(ours) - _milliseconds(bare)


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


@torch.no_grad()
def _request(system: BaseSystem, row: Sequence[int]) -> Callable[[], object]:
    """One row's answer, the prompt prepared."""
    strategy = choose_strategy(system.base, system.prompt.kind if system.prompt else None)
    head, prefix = Head(system.base), strategy.prefix(system.prompt)
    ids = torch.tensor([row], device=system.base.model.device)
    if system.task.trie is not None:
        return partial(answer_log_probabilities, strategy, head, system.task.trie, prefix, ids)
    return partial(generate, strategy, head, prefix, ids, max_new_tokens=GENERATED_TOKENS, end_token=-1)
