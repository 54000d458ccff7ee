"""The answers' trie against a brute-force enumeration of all answers in float64."""

from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.engine import scoring
from softprompt.engine.answers import AnswerTrie, UnusableAnswers
from softprompt.engine.batches import Collator, Example
from softprompt.engine.concatenate import Concatenate, decoder_start
from softprompt.engine.head import Head, last_hidden
from softprompt.engine.losses import loss_sum, num_correct
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.scoring import answer_log_probabilities
from softprompt.engine.strategy import choose_strategy
from tests.families import FAMILIES, strategies_for, tiny_base
from tests.stock import Stock, random_prompt

END = 2
SETS = {
    "one token each": [[5], [6], [7]],
    "prefixes of one another": [[5], [5, 6], [5, 6, 7], [8, 5]],
    "a common beginning": [[9, 9, 5], [9, 9, 6, 7], [9, 9, 6, 8]],
    "parting late": [[5, 6, 7, 8, 9], [5, 6, 7, 8, 10]],
    "mixed": [[11], [11, 5], [12, 13], [12, 14, 15], [12, 14, 16], [17, 18, 19]],
}


def enumerate_answers(stock: Stock, input_ids: list[int], answers, indices) -> torch.Tensor:
    """Log-probability of some answers, float64: the stock model reads text, answer and end token as one sequence each, and
    the softmax at each token runs over the tokens by which some answer goes on, found by scanning the list of answers."""
    sequences = [[*answer, END] for answer in answers]
    found = []
    for index in indices:
        sequence, log_probability = sequences[index], 0.0
        logits = stock.answer_logits(input_ids, sequence[:-1])
        for place, token in enumerate(sequence):
            going_on = sorted({other[place] for other in sequences if other[:place] == sequence[:place]})
            log_probability = log_probability + logits[place, token] - torch.logsumexp(logits[place, going_on], 0)
        found.append(log_probability)
    return torch.stack(found)


def loss_of(strategy, head, trie, prefix, rows, answers, right) -> torch.Tensor:
    """Sum over the rows of the training loss of one answer."""
    batch = Collator(trie, decoder_start(strategy.base))([Example(row, [*answers[right], END], right) for row in rows])
    return loss_sum(head, trie, strategy.hidden(prefix, batch), batch)


CASES = [(family, "mixed") for family in FAMILIES]
CASES += [(family, name) for family in ("llama", "mistral-window", "t5", "bart") for name in SETS if name != "mixed"]


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize(("family", "name"), CASES)
def test_loss_gradient_and_scores_equal_the_enumeration(family, kind, name):
    base, rows, answers = tiny_base(family), [[20, 21, 22, 23], [30, 31, 32, 33]], SETS[name]
    trie, head, values = AnswerTrie(answers, END), Head(base), random_prompt(base, kind)
    stock, everyone = Stock(base, values), range(len(answers))
    expected = torch.stack([enumerate_answers(stock, row, answers, everyone) for row in rows])
    torch.testing.assert_close(expected.exp().sum(1), torch.ones(2, dtype=torch.float64))
    (-expected.sum()).backward()
    for strategy in strategies_for(base, kind):
        prompt = SoftPrompt(values)
        losses = [loss_of(strategy, head, trie, strategy.prefix(prompt), rows, answers, right) for right in everyone]
        torch.stack(losses).sum().backward()
        torch.testing.assert_close(torch.stack(losses).double(), -expected.sum(0), rtol=1e-4, atol=1e-5)
        assert (prompt.values.grad - stock.gradient).norm() / stock.gradient.norm() < 1e-4  # float32 against float64
        scores = answer_log_probabilities(strategy, head, trie, strategy.prefix(prompt), torch.tensor(rows))
        torch.testing.assert_close(scores.double(), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(scores.exp().sum(1), torch.ones(2))


def test_scores_differ_between_answers_and_prompts():
    """Else the comparison above would prove nothing."""
    base = tiny_base("llama")
    strategy, trie = choose_strategy(base, "shallow"), AnswerTrie(SETS["mixed"], END)
    rows = torch.tensor([[20, 21, 22, 23]])
    with torch.no_grad():
        mine = answer_log_probabilities(
            strategy, Head(base), trie, strategy.prefix(SoftPrompt(random_prompt(base, "shallow"))), rows
        ).exp()
        bare = answer_log_probabilities(strategy, Head(base), trie, strategy.prefix(None), rows).exp()
    assert mine.std() > 0.01
    assert (mine - bare).abs().max() > 0.01


def thousand_answers() -> list[list[int]]:
    """Of one to five tokens; some are prefixes of others, and most share a beginning with one."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (1500,), generator=generator).tolist()
    drawn = sorted({tuple(torch.randint(3, 30, (length,), generator=generator).tolist()) for length in lengths})
    order = torch.randperm(len(drawn), generator=generator)[:1000].tolist()
    return [list(drawn[place]) for place in order]


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize("family", ["llama", "mistral-window", "bart"])
def test_a_thousand_answers(family, kind):
    base, answers, row = tiny_base(family), thousand_answers(), [20, 21, 22]
    trie, head, values = AnswerTrie(answers, END), Head(base), random_prompt(base, kind)
    some = [*range(0, 1000, 97), answers.index(min(answers, key=len))]
    with torch.no_grad():
        expected = enumerate_answers(Stock(base, values), row, answers, some)
        for strategy in strategies_for(base, kind):
            prefix = strategy.prefix(SoftPrompt(values))
            scores = answer_log_probabilities(strategy, head, trie, prefix, torch.tensor([row]))[0]
            torch.testing.assert_close(scores[some].double(), expected, rtol=1e-4, atol=1e-5)
            assert scores.exp().sum().item() == pytest.approx(1, abs=1e-5)
            losses = torch.stack([loss_of(strategy, head, trie, prefix, [row], answers, right) for right in some])
            torch.testing.assert_close(-losses, scores[some], rtol=1e-4, atol=1e-5)


def test_portions_change_no_score(monkeypatch):
    base, answers = tiny_base("llama"), thousand_answers()
    trie, strategy, rows = AnswerTrie(answers, END), choose_strategy(base, None), torch.tensor([[20, 21], [22, 23]])
    prefix = strategy.prefix(None)
    assert len(trie.paths) > 128
    whole = answer_log_probabilities(strategy, Head(base), trie, prefix, rows)
    for most in (1, 7, 10_000):
        monkeypatch.setattr(scoring, "MAX_EXPANDED_ROWS", most)
        torch.testing.assert_close(answer_log_probabilities(strategy, Head(base), trie, prefix, rows), whole)


def test_every_fork_is_reached_by_its_own_tokens():
    answers = thousand_answers()
    trie, onwards = AnswerTrie(answers, END), defaultdict(set)
    for answer in answers:
        for place, token in enumerate([*answer, END]):
            onwards[tuple(answer[:place])].add(token)
    forks = sorted(prefix for prefix, tokens in onwards.items() if len(tokens) > 1)
    assert [trie.paths[index][:depth] for index, depth in trie.reached] == forks
    allowed = [{int(token) for token in trie.token_ids[row]} for row in trie.allowed]
    assert allowed == [onwards[fork] for fork in forks]


@given(st.sets(st.lists(st.integers(3, 8), min_size=1, max_size=4).map(tuple), min_size=2, max_size=12))
def test_any_trie_gives_probabilities_that_sum_to_one(answers):
    trie = AnswerTrie([list(answer) for answer in sorted(answers)], END)
    logits = torch.randn(len(trie.reached), len(trie.token_ids), generator=torch.Generator().manual_seed(0))
    nodes = torch.arange(len(trie.reached))
    scores = trie.answer_log_probabilities(trie.log_softmax(logits, nodes)[None]).exp()
    assert scores.sum().item() == pytest.approx(1, abs=1e-5)
    assert all(
        decision.offset <= len(answer)
        for answer, steps in zip(sorted(answers), trie.decisions, strict=True)
        for decision in steps
    )


def test_a_token_without_alternative_costs_nothing_and_is_not_computed():
    trie = AnswerTrie(SETS["parting late"], END)
    assert [len(steps) for steps in trie.decisions] == [1, 1]
    assert trie.token_ids.tolist() == [9, 10]


@pytest.mark.parametrize("answers", [[], [[5]], [[5], []], [[5, 6], [5, 6]]])
def test_answers_among_which_nothing_can_be_chosen_are_refused(answers):
    with pytest.raises(UnusableAnswers):
        AnswerTrie(answers, END)


def test_num_correct_counts_rows_whose_every_decision_is_right():
    base, trie = tiny_base("llama"), AnswerTrie(SETS["mixed"], END)
    strategy, head = Concatenate(base), Head(base)
    rows = [[20 + i, 21, 22] for i in range(12)]
    with torch.no_grad():
        scores = answer_log_probabilities(strategy, head, trie, strategy.prefix(None), torch.tensor(rows))
        said = scores.argmax(1).tolist()
        batch = Collator(trie, None)(
            [Example(row, [*SETS["mixed"][answer], END], answer) for row, answer in zip(rows, said, strict=True)]
        )
        correct = num_correct(head, trie, strategy.hidden(strategy.prefix(None), batch), batch)
    # The most likely answer may lose its first decision, so this is a bound, and nearly always met.
    assert correct >= 9


def test_the_head_gives_the_models_own_logits_for_some_tokens():
    for family in FAMILIES:
        base, ids = tiny_base(family), torch.tensor([[5, 6, 7]])
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if base.is_encoder_decoder else {})
        with torch.no_grad():
            expected = base.model(**inputs).logits[0][:, [3, 50, 96]]
            actual = Head(base)(last_hidden(base, ids)[0], torch.tensor([3, 50, 96]))
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
