"""Objectives that pull the answers to groups of rows together, trained beside the loss.

Both add to the loss a sum over rows, each row with its own weight. So gradients add up over micro-batches and workers to those
of all rows at once: nothing here is an approximation made for their sake. What they learn on the way (group rates, an
adversary's weights) is a module's state, kept in checkpoints and never in a prompt.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from softprompt.recipe.gates import Criterion

REMEMBERED_ROWS = 100
"""A rate looks back over about so many rows of its own, however rare they are."""
ADVERSARY_WIDTH = 32
CONDITIONS: dict[Criterion, tuple[str, ...]] = {
    "demographic_parity": ("all",),
    "equal_opportunity": ("deserving",),
    "equalised_odds": ("deserving", "others"),
}
"""Among which rows the share of a label is taken, for each label: all, those whose label it is, those whose label it is not."""


def belongs(criterion: Criterion, answers: Tensor, num_labels: int) -> Tensor:
    """Which rows count for which label's rate.

    Args:
        criterion: Says under which conditions `C`.
        answers: `[B]`, right answers.
        num_labels: Labels `L`.

    Returns:
        `[C, B, L]`, 0 or 1.
    """
    own = nn.functional.one_hot(answers, num_labels).float()
    kinds = {"all": torch.ones_like(own), "deserving": own, "others": 1 - own}
    return torch.stack([kinds[name] for name in CONDITIONS[criterion]])


def cell_sums(criterion: Criterion, values: Tensor, answers: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Sums of each label's values over the rows of each condition and group.

    Args:
        criterion: Says under which conditions `C`.
        values: `[B, L]`: probabilities, decisions, or ones to count rows.
        answers: `[B]`, right answers.
        groups: `[B]`, -1 for a row of no group, which counts nowhere.
        num_groups: Groups `G`.

    Returns:
        `[C, G, L]`.
    """
    member = (groups[:, None] == torch.arange(num_groups, device=groups.device)).to(values.dtype)
    return torch.einsum("bg,cbl,bl->cgl", member, belongs(criterion, answers, values.shape[1]).to(values.dtype), values)


def squared_gap(rates: Tensor, known: Tensor, importance: Tensor) -> Tensor:
    """How far groups lie apart: squared differences, averaged over pairs of groups and conditions, summed over labels.

    Args:
        rates: `[C, G, L]`.
        known: `[C, G, L]` bool; a pair counts where both rates are known.
        importance: `[C, L]`, of a label in the sum.
    """
    pairs = (known[:, :, None] & known[:, None]).float()
    differences = (rates[:, :, None] - rates[:, None]).square() * pairs
    others = pairs.sum(dim=(1, 2)) - known.sum(dim=1)  # ordered pairs of two different groups
    return (importance * differences.sum(dim=(1, 2)) / others.clamp_min(1)).sum() / len(rates)


def largest_gap(rates: Tensor, known: Tensor) -> Tensor:
    """Largest difference between two groups' known rates, over all conditions and labels; 0 where there are none.

    Args:
        rates: `[..., C, G, L]`.
        known: `[C, G, L]` bool.

    Returns:
        `[...]`.
    """
    high = rates.masked_fill(~known, float("-inf")).amax(dim=-2)
    low = rates.masked_fill(~known, float("inf")).amin(dim=-2)
    return (high - low).amax(dim=(-2, -1)).clamp_min(0.0)


class GapPenalty(nn.Module):
    """The squared gap between groups' mean probabilities, by its slope at running rates.

    A batch holds a few rows of a group, and a square of so noisy a difference is mostly noise: its minimum is a prompt that
    answers everybody alike, whatever they write. So the rates are remembered over batches, and a step moves the batch's
    rates against the slope of the gap at the remembered ones, which is the gradient of the gap with a lag of some batches.

    Args:
        criterion: Which rates should be alike.
        num_groups: Groups `G`.
        num_labels: Labels `L`.
        label: The label that matters; None: all.
        weight: Of the gap beside the loss.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, criterion: Criterion, num_groups: int, num_labels: int, label: int | None, weight: float) -> None:
        super().__init__()
        self.criterion, self.label, self.weight = criterion, label, weight
        shape = (len(CONDITIONS[criterion]), num_groups, num_labels)
        self.register_buffer("sums", torch.zeros(shape))
        self.register_buffer("counts", torch.zeros(shape))
        self._factors = self._seen = self._expected = torch.zeros(shape)

    def begin(self, answers: Tensor, groups: Tensor) -> None:
        """Prepare for a batch: answers and groups `[B]` of all its rows, of all workers."""
        ones = self.sums.new_ones(len(answers), self.sums.shape[2])
        self._expected = cell_sums(self.criterion, ones, answers, groups, self.sums.shape[1])
        self._factors = self.weight * self.slope() / self._expected.clamp_min(1)
        self._seen = torch.zeros_like(self.sums)

    def slope(self) -> Tensor:
        """Gradient of the squared gap at the remembered rates, `[C, G, L]`."""
        rates = (self.sums / self.counts.clamp_min(1e-9)).requires_grad_()
        known = self.counts > 0
        if self.label is not None:
            chosen = torch.arange(self.sums.shape[2], device=known.device) == self.label
            known = known & chosen
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(squared_gap(rates, known, self._importance(known)), rates)
        return slope

    def _importance(self, known: Tensor) -> Tensor:
        """`[C, L]`: a rate among a label's own rows is as important as these rows are many; all shares of all rows alike."""
        importance = torch.ones_like(self.sums[:, 0])
        for place, name in enumerate(CONDITIONS[self.criterion]):
            if name == "deserving":
                rows = (self.counts[place] * known[place]).sum(dim=0)
                importance[place] = rows / rows.sum().clamp_min(1e-9)
        return importance

    def forward(self, log_probabilities: Tensor, answers: Tensor, groups: Tensor) -> Tensor:
        """What some of the batch's rows add to the loss: log-probabilities `[B, L]`, right answers and groups `[B]`."""
        sums = cell_sums(self.criterion, log_probabilities.exp(), answers, groups, self.sums.shape[1])
        self._seen += sums.detach()
        return (self._factors * sums).sum()

    def take_exchanged(self) -> list[Tensor]:
        """What has to be summed over a batch: of the rows since `begin`, or since the last call."""
        seen, self._seen = self._seen, torch.zeros_like(self._seen)
        return [seen]

    def end(self, summed: Sequence[Tensor]) -> None:
        """Remember the batch's rates; `summed` is what was exchanged."""
        kept = torch.exp(-self._expected / REMEMBERED_ROWS)
        self.sums.mul_(kept).add_(summed[0])
        self.counts.mul_(kept).add_(self._expected)


class Adversary(nn.Module):
    """A network that tells the group from the answer, and whose success the prompt unlearns.

    Zhang et al. 2022 (FairReprogram, arXiv 2209.10222):
    `min over the prompt, max over the network: loss + weight * mean log d(group | answer)`, with the right answer beside the
    answer for equalised odds, and only rows of the label that matters for equal opportunity (Zhang, Lemoine & Mitchell 2018).
    Both sides take one step a batch, the prompt's through a reversed gradient (Ganin & Lempitsky 2015).

    Args:
        criterion: What the network may see.
        num_groups: Groups `G`.
        num_labels: Labels `L`.
        label: The label that matters; None: all.
        weight: Of the network's loss beside the prompt's.
        seed: Fixes the network's start.
    """

    def __init__(
        self, criterion: Criterion, num_groups: int, num_labels: int, label: int | None, weight: float, seed: int
    ) -> None:
        super().__init__()
        self.criterion, self.num_labels, self.label, self.weight = criterion, num_labels, label, weight
        inputs = self._inputs(torch.zeros(1, num_labels), torch.zeros(1, dtype=torch.long)).shape[1]
        generator = torch.Generator().manual_seed(seed)
        self.into = nn.Parameter(torch.randn(inputs, ADVERSARY_WIDTH, generator=generator) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(ADVERSARY_WIDTH))
        self.out = nn.Parameter(torch.randn(ADVERSARY_WIDTH, num_groups, generator=generator) / ADVERSARY_WIDTH**0.5)
        self.prior = nn.Parameter(torch.zeros(num_groups))
        self._num_rows = 1

    def begin(self, answers: Tensor, groups: Tensor) -> None:
        """Prepare for a batch: answers and groups `[B]` of all its rows, of all workers."""
        self._num_rows = max(1, int(self._chosen(answers, groups).sum()))
        self.zero_grad(set_to_none=False)

    def forward(self, log_probabilities: Tensor, answers: Tensor, groups: Tensor) -> Tensor:
        """What some of the batch's rows add to the loss: log-probabilities `[B, L]`, right answers and groups `[B]`."""
        rows = self._chosen(answers, groups)
        seen = self._inputs(reversed_gradient(log_probabilities[rows].exp(), self.weight), answers[rows])
        return nn.functional.cross_entropy(self.guess(seen), groups[rows], reduction="sum") / self._num_rows

    def guess(self, inputs: Tensor) -> Tensor:
        """Logits of the group, `[B, G]`."""
        return torch.relu(inputs @ self.into + self.bias) @ self.out + self.prior

    def take_exchanged(self) -> list[Tensor]:
        """What has to be summed over a batch: of the rows since `begin`, or since the last call."""
        taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters()]
        self.zero_grad()
        return taken

    def end(self, summed: Sequence[Tensor]) -> None:
        """Take over the whole batch's gradient; `summed` is what was exchanged."""
        for parameter, gradient in zip(self.parameters(), summed, strict=True):
            parameter.grad = gradient

    def _chosen(self, answers: Tensor, groups: Tensor) -> Tensor:
        """Rows that the network is asked about."""
        known = groups >= 0
        deserving = self.criterion == "equal_opportunity" and self.label is not None
        return known & (answers == self.label) if deserving else known

    def _inputs(self, probabilities: Tensor, answers: Tensor) -> Tensor:
        """What the network sees, `[B, inputs]`."""
        own = nn.functional.one_hot(answers, self.num_labels).float()
        if self.criterion == "equal_opportunity":
            probabilities = probabilities * own
        columns = slice(None) if self.label is None else slice(self.label, self.label + 1)
        parts = [probabilities[:, columns]] + ([own[:, columns]] if self.criterion != "demographic_parity" else [])
        return torch.cat(parts, dim=1)


class _Reversed(torch.autograd.Function):
    """The same values; the gradient comes back with the other sign, times a weight."""

    @staticmethod
    def forward(context: Any, values: Tensor, weight: float) -> Tensor:
        context.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.weight * gradients[0], None


def reversed_gradient(values: Tensor, weight: float) -> Tensor:
    """The values as they are, their gradient times `-weight` (Ganin & Lempitsky 2015)."""
    reversed_values: Tensor = _Reversed.apply(values, weight)  # type: ignore[no-untyped-call]
    return reversed_values
