"""Probabilities of a closed set of answers, and greedy generation of an open one.

Rows of one call have equal length, so no padding stands between a text and its answer and every model family is exact; callers
group rows by length. Text is read once; the answers go on from its state.
"""

import torch
from torch import Tensor

from softprompt.engine.answers import AnswerTrie
from softprompt.engine.head import Head
from softprompt.engine.strategy import Prefix, Strategy

MAX_EXPANDED_ROWS = 1024
"""Rows times answer paths computed at once; bounds memory, changes no number beyond rounding."""


@torch.no_grad()
def answer_log_probabilities(strategy: Strategy, head: Head, trie: AnswerTrie, prefix: Prefix, input_ids: Tensor) -> Tensor:
    """Log-probability of every answer, for every row.

    Args:
        strategy: Runs the base.
        head: Its output head.
        trie: The answers.
        prefix: The prompt as the strategy prepared it.
        input_ids: `[B, T]`, rows of equal length.

    Returns:
        `[B, answers]` float32; exponentials sum to 1 in each row.
    """
    most = max(1, MAX_EXPANDED_ROWS // max(1, len(trie.paths)))
    parts = [_score(strategy, head, trie, prefix, rows) for rows in input_ids.split(most)]
    return torch.cat(parts)


def _score(strategy: Strategy, head: Head, trie: AnswerTrie, prefix: Prefix, input_ids: Tensor) -> Tensor:
    first, state = strategy.start(prefix, input_ids)
    num_rows, num_paths = len(input_ids), len(trie.paths)
    reached = first[:, None, None]  # [B, 1, 1, H]: the root
    if num_paths:
        width = max(map(len, trie.paths))
        # Padding stands behind a path's tokens, where no decision looks.
        paths = torch.tensor([[*path, *[0] * (width - len(path))] for path in trie.paths], device=input_ids.device)
        hidden = state.repeat(num_paths).extend(paths.repeat(num_rows, 1))
        after = hidden.reshape(num_rows, num_paths, width, -1)
        reached = torch.cat([first[:, None, None].expand(-1, num_paths, -1, -1), after], dim=2)
    path_index, depth = torch.tensor(trie.reached, device=input_ids.device).unbind(1)
    deciding = reached[:, path_index, depth]  # [B, nodes, H]
    logits = head(deciding.flatten(0, 1), trie.token_ids)
    nodes = torch.arange(len(trie.reached)).repeat(num_rows)
    node_log_probabilities = trie.log_softmax(logits, nodes).reshape(num_rows, len(trie.reached), -1)
    return trie.answer_log_probabilities(node_log_probabilities)


@torch.no_grad()
def generate_greedily(
    strategy: Strategy, head: Head, prefix: Prefix, input_ids: Tensor, *, max_new_tokens: int, end_token: int
) -> list[list[int]]:
    """The most likely next token, over and over, until the end token.

    Args:
        strategy: Runs the base.
        head: Its output head.
        prefix: The prompt as the strategy prepared it.
        input_ids: `[B, T]`, rows of equal length.
        max_new_tokens: Longest answer.
        end_token: Ends a row.

    Returns:
        Token ids of each row's answer, without the end token.
    """
    hidden, state = strategy.start(prefix, input_ids)
    answers: list[list[int]] = [[] for _ in input_ids]
    running = torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
    for step in range(max_new_tokens):
        token = head(hidden).argmax(dim=-1)
        running &= token != end_token
        if not running.any():
            break
        for answer, new, alive in zip(answers, token.tolist(), running.tolist(), strict=True):
            if alive:
                answer.append(new)
        if step + 1 < max_new_tokens:
            hidden = state.extend(token[:, None])[:, -1]
    return answers
