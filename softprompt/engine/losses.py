"""The two training losses, as sums over a batch so that workers and micro-batches can be added before dividing.

`likelihood`: negative log-likelihood of every answer token, in nats, as in every language model.
`answers`: negative log-likelihood of the right answer among the answers, see `softprompt.engine.answers`.
"""

import torch
from torch import Tensor, nn

from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Batch
from softprompt.engine.head import Head


def loss_sum(head: Head, trie: AnswerTrie | None, hidden: Tensor, batch: Batch) -> Tensor:
    """Sum of the loss over a batch, float32 scalar.

    Args:
        head: The base's output head.
        trie: For the answers loss; None for the plain likelihood.
        hidden: `[M, H]`, hidden states of the batch's scored positions.
        batch: Says what should have come there.
    """
    if trie is None or batch.nodes is None:
        return nn.functional.cross_entropy(head(hidden).float(), batch.targets, reduction="sum")
    log_probabilities = trie.log_softmax(head(hidden, trie.token_ids), batch.nodes)
    return nn.functional.nll_loss(log_probabilities, batch.targets, reduction="sum")


def num_correct(head: Head, trie: AnswerTrie, hidden: Tensor, batch: Batch) -> Tensor:
    """How many rows take every decision towards their right answer, each decision greedily; integer scalar."""
    assert batch.nodes is not None
    wrong = trie.log_softmax(head(hidden, trie.token_ids), batch.nodes).argmax(dim=1) != batch.targets
    rows_with_errors: Tensor = torch.zeros(batch.num_rows, device=hidden.device).index_add_(0, batch.rows, wrong.float()) > 0
    return (~rows_with_errors).sum()
