"""Labels under their trie: the likelihood of an answer among a closed set of answers.

At each token of an answer the softmax runs over those tokens only with which some answer goes on there, end token included.
A token without an alternative costs nothing, so the loss is all decision and no spelling; the scores are probabilities over
the answers without length bias; and the head is computed for the trie's tokens instead of the whole vocabulary.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


class UnusableAnswers(ValueError):
    """A set of answers among which nothing can be chosen."""


@dataclass(frozen=True)
class Decision:
    """One place on an answer's way where it parts from another.

    Attributes:
        offset: How many answer tokens stand before it.
        node: Row of `AnswerTrie.allowed`.
        target: Column of `AnswerTrie.allowed`: the answer's own next token.
    """

    offset: int
    node: int
    target: int


@dataclass
class _Node:
    children: "dict[int, _Node]" = field(default_factory=dict)


class AnswerTrie:
    """A trie over tokenised answers, flattened to tensors.

    Args:
        answers: Token ids of each answer, without end token.
        end_token: Follows every answer.

    Attributes:
        token_ids: `[U]`, the tokens among which some decision is made.
        allowed: `[nodes, U]`, which of them each deciding node chooses from.
        decisions: For each answer, the decisions on its way, in order.
        paths: The tokens fed after the input text so that every deciding node but the root is reached.
        reached: For each deciding node, (index into `paths`, how many of its tokens lead there); the root is (0, 0).

    Raises:
        UnusableAnswers: Fewer than two answers, an empty one, or two of the same tokens.
    """

    def __init__(self, answers: Sequence[Sequence[int]], end_token: int) -> None:
        if len(answers) < 2 or not all(answers):
            raise UnusableAnswers("a choice needs two answers or more, each of at least one token")
        if len({tuple(answer) for answer in answers}) < len(answers):
            raise UnusableAnswers("two answers have the same tokens")
        sequences = [(*answer, end_token) for answer in answers]
        root = _Node()
        for sequence in sequences:
            _insert(root, sequence)
        deciding = _deciding_nodes(root)
        tokens = sorted({token for _, node in deciding for token in node.children})
        columns = {token: column for column, token in enumerate(tokens)}
        rows = {path: row for row, (path, _) in enumerate(deciding)}

        self.end_token = end_token
        self.token_ids = torch.tensor(tokens, dtype=torch.long)
        self.allowed = torch.zeros(len(deciding), len(tokens), dtype=torch.bool)
        choices = [(row, columns[token]) for row, (_, node) in enumerate(deciding) for token in node.children]
        self.allowed[tuple(torch.tensor(choices).T)] = True
        self.decisions = [_decisions(sequence, rows, columns) for sequence in sequences]
        self._steps = torch.tensor(
            [(answer, step.node, step.target) for answer, steps in enumerate(self.decisions) for step in steps]
        ).T
        self.paths = _longest([path for path, _ in deciding if path])
        self.reached = [_place(path, self.paths) for path, _ in deciding]

    @property
    def num_answers(self) -> int:
        """How many answers there are."""
        return len(self.decisions)

    def log_softmax(self, logits: Tensor, nodes: Tensor) -> Tensor:
        """Log-probabilities of the trie's tokens where decisions are made.

        Args:
            logits: `[M, U]`, over `token_ids`.
            nodes: `[M]`, the deciding node of each row.

        Returns:
            `[M, U]` float32; `-inf` where a node does not choose from a token.
        """
        masked = logits.float().masked_fill(~self.allowed[nodes.cpu()].to(logits.device), float("-inf"))
        return torch.log_softmax(masked, dim=-1)

    def answer_log_probabilities(self, node_log_probabilities: Tensor) -> Tensor:
        """Sum the decisions on each answer's way.

        Args:
            node_log_probabilities: `[B, nodes, U]`.

        Returns:
            `[B, answers]`; its exponentials sum to 1.
        """
        answers, nodes, targets = self._steps.to(node_log_probabilities.device)
        scores = node_log_probabilities.new_zeros(len(node_log_probabilities), self.num_answers)
        return scores.index_add(1, answers, node_log_probabilities[:, nodes, targets])


def _insert(root: _Node, sequence: Sequence[int]) -> None:
    node = root
    for token in sequence:
        node = node.children.setdefault(token, _Node())


def _deciding_nodes(root: _Node) -> list[tuple[tuple[int, ...], _Node]]:
    """(path, node) of every node with more than one child, in order of path."""
    found: list[tuple[tuple[int, ...], _Node]] = []
    stack: list[tuple[tuple[int, ...], _Node]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if len(node.children) > 1:
            found.append((path, node))
        stack += [((*path, token), child) for token, child in node.children.items()]
    return sorted(found, key=lambda entry: entry[0])


def _decisions(sequence: tuple[int, ...], rows: dict[tuple[int, ...], int], columns: dict[int, int]) -> tuple[Decision, ...]:
    offsets = [offset for offset in range(len(sequence)) if sequence[:offset] in rows]
    return tuple(Decision(offset, rows[sequence[:offset]], columns[sequence[offset]]) for offset in offsets)


def _longest(paths: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The paths that are no prefix of another; sorted paths have their extensions right behind them."""
    paths = sorted(paths)
    return [path for path, following in zip(paths, [*paths[1:], ()], strict=False) if following[: len(path)] != path]


def _place(path: tuple[int, ...], paths: list[tuple[int, ...]]) -> tuple[int, int]:
    """The first of the sorted paths that begins with this one, and where it ends there; (0, 0) for the root."""
    return (bisect_left(paths, path) if path else 0, len(path))
