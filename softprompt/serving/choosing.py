"""Logits of many rows to one more token for each, in as few operations as there are questions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.engine.sampling import draw, nucleus
from softprompt.serving.jobs import NewToken
from softprompt.serving.rows import Row


def next_tokens(logits: Tensor, rows: Sequence[Row]) -> list[NewToken | None]:
    """Choose each row's next token by its own rule.

    Args:
        logits: `[B, V]`, of the base behind the prompt.
        rows: In the same order.

    Returns:
        A token for each row; None where the base gives NaN or nothing but infinities.
    """
    logits = logits.float()
    best, greedy = logits.max(dim=-1)
    # The greatest logit is known already, so one pass over the vocabulary is enough.
    norms = best + (logits - best[:, None]).exp_().sum(dim=-1).log_()
    is_number = norms.isfinite().tolist()
    chosen = greedy
    drawing = [index for index, row in enumerate(rows) if row.stream and is_number[index]]
    if drawing:
        chosen[drawing] = _draw(logits[drawing], [rows[index] for index in drawing])
    logprobs = (logits.gather(1, chosen[:, None])[:, 0] - norms).tolist()
    alternatives = _most_likely(logits, norms, [row.job.num_logprobs for row in rows])
    return [
        NewToken(token, logprob, others) if good and not math.isnan(logprob) else None
        for token, logprob, others, good in zip(chosen.tolist(), logprobs, alternatives, is_number, strict=True)
    ]


def _draw(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    samplings = [row.job.sampling for row in rows]
    column = {"dtype": torch.float64, "device": logits.device}
    temperature = torch.tensor([[sampling.temperature] for sampling in samplings], **column)  # type: ignore[arg-type]
    top_p = torch.tensor([[sampling.top_p] for sampling in samplings], **column)  # type: ignore[arg-type]
    return draw(nucleus(logits, temperature, top_p), [row.stream for row in rows if row.stream])


def _most_likely(logits: Tensor, norms: Tensor, wanted: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
    asking = [index for index, number in enumerate(wanted) if number]
    found: list[tuple[tuple[int, float], ...]] = [()] * len(wanted)
    if asking:
        top = logits[asking].topk(min(max(wanted), logits.shape[1]), dim=-1)
        values = (top.values - norms[asking][:, None]).tolist()
        for index, ids, logprobs in zip(asking, top.indices.tolist(), values, strict=True):
            found[index] = tuple(zip(ids, logprobs, strict=True))[: wanted[index]]
    return found
