"""The probability of every answer in training, gradients attached, where the loss alone needs the right answer's only.

Exact for every trie. Where all decisions are made at the first token this is the batch that the loss reads, and costs nothing;
otherwise each row is read once for each of the trie's `paths`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Batch, Collator, Example, pad
from softprompt.engine.head import Head


def batch_of_all_decisions(collator: Collator, examples: Sequence[Example]) -> Batch:
    """Rows with every decision under the trie scored, row after row, in the order of its nodes.

    Args:
        collator: Of the job; has a trie.
        examples: `B` rows.

    Returns:
        A batch of `B * max(1, len(trie.paths))` sequences; its `targets` say nothing.
    """
    trie, causal, device = collator.trie, collator.decoder_start is None, collator.device
    assert trie is not None
    paths = [list(path) for path in trie.paths] or [[]]
    sequences = [example.input_ids + path if causal else example.input_ids for example in examples for path in paths]
    input_ids, input_mask = pad(sequences, device)
    decoder_ids = None
    if collator.decoder_start is not None:
        decoder_ids, _ = pad([[collator.decoder_start, *path] for _ in examples for path in paths], device)
    places = [
        (row * len(paths) + path, depth + (len(example.input_ids) - 1 if causal else 0), node)
        for row, example in enumerate(examples)
        for node, (path, depth) in enumerate(trie.reached)
    ]
    rows, positions, nodes = torch.tensor(places, dtype=torch.long, device=device).unbind(1)
    return Batch(input_ids, input_mask, decoder_ids, rows, positions, torch.zeros_like(nodes), nodes, len(sequences))


def answer_distribution(head: Head, trie: AnswerTrie, hidden: Tensor) -> Tensor:
    """Log-probability of every answer, `[B, answers]`; exponentials sum to 1 in each row.

    Args:
        head: The base's output head.
        trie: The answers.
        hidden: `[B * nodes, H]`, hidden states of a `batch_of_all_decisions`.
    """
    num_nodes = len(trie.reached)
    nodes = torch.arange(num_nodes).repeat(len(hidden) // num_nodes)
    decisions = trie.log_softmax(head(hidden, trie.token_ids), nodes)
    return trie.answer_log_probabilities(decisions.reshape(-1, num_nodes, decisions.shape[1]))
