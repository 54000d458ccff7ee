"""Probabilities of a closed set of answers, generation of an open one, and the likelihood of a given text.

Text is read once; the answers go on from its state. Rows of one call have equal length, or are padded on the right where the
strategy reads them so without a difference (`Strategy.pads`); callers put rows of like length together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softprompt.base_model import FrozenBase
from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Batch
from softprompt.engine.head import Head
from softprompt.engine.sampling import NextToken, most_likely
from softprompt.engine.strategy import Prefix, State, Strategy
from softprompt.errors import NotANumber

MAX_EXPANDED_ROWS = 128
"""Rows times answer paths computed at once; bounds memory (each has a cache of its own), changes no number beyond rounding."""
KEPT_WHILE_RUNNING = 0.75
"""Rows that have ended are computed along until no more than this share runs: dropping them copies the others' cache."""
MAX_SCORED_POSITIONS = 1024
"""Positions whose logits over the whole vocabulary are computed at once; bounds memory."""


@torch.no_grad()
def answer_log_probabilities(
    strategy: Strategy, head: Head, trie: AnswerTrie, prefix: Prefix, input_ids: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Log-probability of every answer, for every row.

    Args:
        strategy: Runs the base.
        head: Its output head.
        trie: The answers.
        prefix: The prompt as the strategy prepared it.
        input_ids: `[B, T]`.
        lengths: `[B]`, tokens of each row, whose rest is padding; None: rows are of equal length.

    Returns:
        `[B, answers]` float32; exponentials sum to 1 in each row.

    Raises:
        NotANumber: The base gives NaN.
    """
    most = max(1, MAX_EXPANDED_ROWS // max(1, len(trie.paths)))
    places = torch.arange(len(input_ids), device=input_ids.device).split(most)
    parts = [_score(strategy, head, trie, prefix, input_ids[rows], None if lengths is None else lengths[rows]) for rows in places]
    return numbers(torch.cat(parts), strategy)


def _score(strategy: Strategy, head: Head, trie: AnswerTrie, prefix: Prefix, input_ids: Tensor, lengths: Tensor | None) -> Tensor:
    """`answer_log_probabilities` of as many rows as are computed at once."""
    first, state = strategy.start(prefix, input_ids, lengths)
    deciding = first.new_empty(len(input_ids), len(trie.reached), first.shape[-1])  # [B, nodes, H]
    index, depth = torch.tensor(trie.reached, device=first.device).unbind(1)
    deciding[:, depth == 0] = first[:, None]
    most = max(1, MAX_EXPANDED_ROWS // len(input_ids))
    for start in range(0, len(trie.paths), most):
        hidden = _follow(state, trie.paths[start : start + most], input_ids)
        here = (depth > 0) & (index >= start) & (index < start + most)
        deciding[:, here] = hidden[:, index[here] - start, depth[here] - 1]
    logits = head(deciding.flatten(0, 1), trie.token_ids)
    nodes = torch.arange(len(trie.reached)).repeat(len(input_ids))
    return trie.answer_log_probabilities(trie.log_softmax(logits, nodes).reshape(*deciding.shape[:2], -1))


def _follow(state: State, paths: Sequence[tuple[int, ...]], input_ids: Tensor) -> Tensor:
    """Hidden states `[B, paths, tokens, H]` along some paths; padding stands behind a path, where no decision looks."""
    width = max(map(len, paths))
    padded = torch.tensor([[*path, *[0] * (width - len(path))] for path in paths], device=input_ids.device)
    hidden = state.repeat(len(paths)).extend(padded.repeat(len(input_ids), 1))
    return hidden.reshape(len(input_ids), len(paths), width, -1)


@torch.no_grad()
def generate(
    strategy: Strategy,
    head: Head,
    prefix: Prefix,
    input_ids: Tensor,
    lengths: Tensor | None = None,
    *,
    max_new_tokens: int,
    end_token: int,
    choose: NextToken = most_likely,
) -> list[list[int]]:
    """The next token, over and over, until the end token.

    Args:
        strategy: Runs the base.
        head: Its output head.
        prefix: The prompt as the strategy prepared it.
        input_ids: `[B, T]`.
        lengths: `[B]`, tokens of each row, whose rest is padding; None: rows are of equal length.
        max_new_tokens: Longest answer.
        end_token: Ends a row.
        choose: Which token comes next.

    Returns:
        Token ids of each row's answer, without the end token; empty where that came first.

    Raises:
        NotANumber: The base gives NaN.
    """
    hidden, state = strategy.start(prefix, input_ids, lengths)
    answers: list[list[int]] = [[] for _ in input_ids]
    rows = torch.arange(len(input_ids), device=input_ids.device)  # [b], those that `state` still has
    running = torch.ones_like(rows, dtype=torch.bool)
    for step in range(max_new_tokens):
        token = choose(numbers(head(hidden), strategy), rows.tolist())
        running &= token != end_token
        if not running.any():
            break
        for row, new, alive in zip(rows.tolist(), token.tolist(), running.tolist(), strict=True):
            if alive:
                answers[row].append(new)
        if step + 1 == max_new_tokens:
            break
        if int(running.sum()) <= len(running) * KEPT_WHILE_RUNNING:
            (alive_rows,) = running.nonzero(as_tuple=True)
            state, rows, token, running = state.keep(alive_rows), rows[alive_rows], token[alive_rows], running[alive_rows]
        hidden = state.extend(token[:, None])[:, -1]
    return answers


@torch.no_grad()
def answer_nats(strategy: Strategy, head: Head, prefix: Prefix, batch: Batch) -> Tensor:
    """Negative log-likelihood of each row's right answer, its end token included, each token behind the right ones before it.

    Args:
        strategy: Runs the base.
        head: Its output head.
        prefix: The prompt as the strategy prepared it.
        batch: Rows with their answers, every answer token scored.

    Returns:
        `[B]` float64, nats.

    Raises:
        NotANumber: The base gives NaN.
    """
    hidden = strategy.hidden(prefix, batch)
    pieces = zip(hidden.split(MAX_SCORED_POSITIONS), batch.targets.split(MAX_SCORED_POSITIONS), strict=True)
    nats = torch.cat([nn.functional.cross_entropy(head(part).float(), targets, reduction="none") for part, targets in pieces])
    total = torch.zeros(batch.num_rows, dtype=torch.float64, device=nats.device)
    return total.index_add_(0, batch.rows, numbers(nats, strategy).double())


def numbers(values: Tensor, strategy: Strategy) -> Tensor:
    """The same values. NotANumber: one of them is NaN, and an answer made of it would look like any other."""
    if bool(values.isnan().any()):
        raise not_a_number(strategy.base)
    return values


def not_a_number(base: FrozenBase) -> NotANumber:
    """The error for NaN where probabilities should be."""
    dtype = str(base.model.dtype).removeprefix("torch.")
    return NotANumber(
        "The base model gives NaN where probabilities should be.",
        where=f"{base.model.config.model_type} in {dtype}",
        hint="Set base_model.dtype: float32; if it is, the weights are broken, or the prompt's numbers are far too large.",
    )
