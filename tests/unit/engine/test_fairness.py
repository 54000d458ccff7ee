"""Gaps are fairlearn's, their gradients those of finite differences; an adversary's gradient comes back reversed."""

import itertools

import numpy as np
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference, equal_opportunity_difference, equalized_odds_difference
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Collator, Example
from softprompt.engine.concatenate import decoder_start
from softprompt.engine.distributions import answer_distribution, batch_of_all_decisions
from softprompt.engine.fairness import CONDITIONS, Adversary, GapPenalty, cell_sums, largest_gap, reversed_gradient, squared_gap
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.scoring import answer_log_probabilities
from tests.families import strategies_for, tiny_base
from tests.stock import random_prompt

CRITERIA = tuple(CONDITIONS)
FAIRLEARN = {
    "demographic_parity": demographic_parity_difference,
    "equal_opportunity": equal_opportunity_difference,
    "equalised_odds": equalized_odds_difference,
}
LABELS, GROUPS = 3, 3
WORLD = [(group, answer) for group in range(GROUPS) for answer in range(LABELS)] * 2
"""Rows in which every group has every label."""


def rows(seed: int, extra: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities `[B, L]` in double precision, right answers and groups, with some rows of no group."""
    generator = torch.Generator().manual_seed(seed)
    found = [*WORLD, *torch.randint(-1, 3, (extra, 2), generator=generator).tolist()]
    groups, answers = torch.tensor([(group, max(answer, 0)) for group, answer in found]).unbind(1)
    logits = torch.randn(len(found), LABELS, generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits + groups[:, None] * torch.tensor([0.5, 0.0, -0.5]), dim=1), answers, groups


def brute_force(criterion: str, probabilities: torch.Tensor, answers: torch.Tensor, groups: torch.Tensor, label: int | None):
    """The squared gap, by plain loops over its definition."""
    total, conditions = 0.0, CONDITIONS[criterion]
    for condition, one in itertools.product(conditions, range(LABELS) if label is None else [label]):
        among = {"all": answers >= 0, "deserving": answers == one, "others": answers != one}[condition]
        rates = [probabilities[among & (groups == group), one].mean() for group in range(GROUPS)]
        pairs = list(itertools.combinations(rates, 2))
        inside = answers[groups >= 0]
        share = (inside == one).double().mean() if label is None else 1.0
        importance = share if condition == "deserving" else 1.0
        total = total + importance * sum((a - b) ** 2 for a, b in pairs) / len(pairs) / len(conditions)
    return total


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(CRITERIA), st.integers(0, 10_000))
def test_the_largest_gap_is_fairlearns(criterion, seed):
    log_probabilities, answers, groups = rows(seed)
    said = torch.nn.functional.one_hot(log_probabilities.argmax(dim=1), LABELS).float()
    sums = cell_sums(criterion, said, answers, groups, GROUPS)
    counts = cell_sums(criterion, torch.ones_like(said), answers, groups, GROUPS)
    inside = (groups >= 0).numpy()
    y, z, predicted = answers.numpy()[inside], groups.numpy()[inside], log_probabilities.argmax(dim=1).numpy()[inside]
    expected = max(FAIRLEARN[criterion](y == label, predicted == label, sensitive_features=z) for label in range(LABELS))
    assert float(largest_gap(sums / counts, counts > 0)) == pytest.approx(expected, abs=1e-6)


def test_cells_without_rows_count_nowhere():
    rates, known = torch.tensor([[[0.1], [0.9], [0.4]]]), torch.tensor([[[True], [False], [True]]])
    assert float(largest_gap(rates, known)) == pytest.approx(0.3)
    assert float(squared_gap(rates, known, torch.ones(1, 1))) == pytest.approx(0.09)
    nothing = torch.zeros_like(known)
    assert float(largest_gap(rates, nothing)) == float(squared_gap(rates, nothing, torch.ones(1, 1))) == 0.0


@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_penaltys_gradient_at_the_batchs_own_rates_is_that_of_the_squared_gap(criterion, label):
    """Remembered rates equal to the batch's: no lag, so finite differences of the definition have to agree."""
    log_probabilities, answers, groups = rows(7)
    penalty = GapPenalty(criterion, GROUPS, LABELS, label, weight=2.0).double()
    penalty.begin(answers, groups)
    assert penalty(log_probabilities, answers, groups) == 0.0, "nothing is remembered yet"
    penalty.end(penalty.take_exchanged())
    penalty.begin(answers, groups)
    moved = log_probabilities.clone().requires_grad_()
    penalty(moved, answers, groups).backward()
    step = 1e-5
    for row, column in itertools.product(range(0, len(answers), 3), range(LABELS)):
        values = []
        for sign in (1, -1):
            there = log_probabilities.clone()
            there[row, column] += sign * step
            values.append(2.0 * brute_force(criterion, there.exp(), answers, groups, label))
        assert float(moved.grad[row, column]) == pytest.approx(float(values[0] - values[1]) / (2 * step), abs=1e-6)


@pytest.mark.parametrize("method", [GapPenalty, Adversary])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_parts_of_a_batch_add_up_to_the_batch(criterion, method):
    log_probabilities, answers, groups = (part.float() if part.is_floating_point() else part for part in rows(3))
    found = []
    for size in (len(answers), 7, 1):
        objective = method(criterion, GROUPS, LABELS, None, 1.5, *((0,) if method is Adversary else ()))
        objective.begin(answers, groups)
        objective.end([torch.ones_like(part) for part in objective.take_exchanged()])  # something to remember
        objective.begin(answers, groups)
        moved = log_probabilities.clone().requires_grad_()
        for start in range(0, len(answers), size):
            part = slice(start, start + size)
            objective(moved[part], answers[part], groups[part]).backward()
        found.append([moved.grad, *objective.take_exchanged()])
    for other in found[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[0], other, strict=True))


def test_remembered_rates_forget():
    log_probabilities, answers, groups = rows(1)
    penalty = GapPenalty("demographic_parity", GROUPS, LABELS, None, 1.0).double()
    for _ in range(400):
        penalty.begin(answers, groups)
        penalty(log_probabilities, answers, groups)
        penalty.end(penalty.take_exchanged())
    inside = log_probabilities.exp()[groups == 1].mean(dim=0)
    assert torch.allclose((penalty.sums / penalty.counts)[0, 1], inside)
    seen = float((groups == 1).sum())
    assert float(penalty.counts[0, 1, 0]) == pytest.approx(seen / (1 - np.exp(-seen / 100)), rel=1e-4)


@pytest.mark.parametrize("label", [None, 1])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_prompt_gets_the_adversarys_gradient_reversed_and_the_adversary_its_own(criterion, label):
    log_probabilities, answers, groups = rows(5)
    adversary = Adversary(criterion, GROUPS, LABELS, label, weight=0.7, seed=1).double()
    moved = log_probabilities.clone().requires_grad_()
    adversary.begin(answers, groups)
    adversary(moved, answers, groups).backward()

    def plain() -> float:
        """The cross-entropy of the group, by numpy, from what the criterion lets the network see."""
        own, p = np.eye(LABELS)[answers.numpy()], log_probabilities.exp().numpy()
        p = p * own if criterion == "equal_opportunity" else p
        columns = [0, 1, 2] if label is None else [label]
        seen = p[:, columns] if criterion == "demographic_parity" else np.hstack([p[:, columns], own[:, columns]])
        into, bias, out, prior = (part.detach().numpy() for part in adversary.parameters())
        logits = np.maximum(seen @ into + bias, 0) @ out + prior
        chosen = groups.numpy() >= 0
        if criterion == "equal_opportunity" and label is not None:
            chosen &= answers.numpy() == label
        logits, wanted = logits[chosen], groups.numpy()[chosen]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(wanted)), wanted]))

    step = 1e-5
    for tensor, gradient, factor in [
        (log_probabilities, moved.grad, -0.7),
        *((part.data, part.grad, 1.0) for part in adversary.parameters()),
    ]:
        flat = tensor.view(-1)
        for place in range(0, len(flat), max(1, len(flat) // 12)):
            before = float(flat[place])
            flat[place] = before + step
            high = plain()
            flat[place] = before - step
            low = plain()
            flat[place] = before
            assert float(gradient.reshape(-1)[place]) == pytest.approx(factor * (high - low) / (2 * step), abs=1e-6)


def test_a_reversed_gradient_leaves_the_values():
    values = torch.tensor([1.0, -2.0], requires_grad=True)
    through = reversed_gradient(values, 3.0)
    assert torch.equal(through, values)
    (through * torch.tensor([1.0, 10.0])).sum().backward()
    assert values.grad.tolist() == [-3.0, -30.0]


ANSWERS = {"parting at once": [[10], [11, 12], [13]], "parting later": [[10, 11, 12], [10, 11, 13], [10, 14], [15], [15, 16]]}


@pytest.mark.parametrize("answers", list(ANSWERS))
@pytest.mark.parametrize(
    ("family", "kind"), [("llama", "shallow"), ("mistral-window", "deep"), ("t5", "shallow"), ("bart", "deep")]
)
def test_the_distribution_in_training_is_that_of_ranking_and_its_loss_is_the_loss(family, kind, answers):
    base, trie = tiny_base(family), AnswerTrie(ANSWERS[answers], 2)
    examples = [Example([20, 21, 22 + n], [*ANSWERS[answers][n % 3], 2], n % 3) for n in range(4)]
    head, prompt = Head(base), SoftPrompt(random_prompt(base, kind))
    collator = Collator(trie, decoder_start(base))
    for strategy in strategies_for(base, kind):
        prefix = strategy.prefix(prompt)
        found = answer_distribution(head, trie, strategy.hidden(prefix, batch_of_all_decisions(collator, examples)))
        ids = torch.tensor([example.input_ids for example in examples])
        with torch.no_grad():
            expected = answer_log_probabilities(strategy, head, trie, strategy.prefix(prompt), ids)
        assert torch.allclose(found, expected, atol=1e-4)
        loss = torch.nn.functional.nll_loss(found, torch.tensor([example.answer for example in examples]), reduction="sum")
        batch = collator(examples)
        plain = loss_sum(head, trie, strategy.hidden(prefix, batch), batch)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
        gradients = [torch.autograd.grad(one, prompt.values, retain_graph=True)[0] for one in (loss, plain)]
        assert (gradients[0] - gradients[1]).norm() / gradients[1].norm() < 1e-3
