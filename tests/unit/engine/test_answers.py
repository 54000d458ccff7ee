"""The answers' trie against a brute-force enumeration of all answers in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softprompt.base_model import FrozenBase
from softprompt.engine.answers import AnswerTrie, UnusableAnswers
from softprompt.engine.batches import Collator, Example
from softprompt.engine.concatenate import Concatenate, decoder_start
from softprompt.engine.head import Head, last_hidden
from softprompt.engine.losses import loss_sum, num_correct
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.scoring import answer_log_probabilities
from softprompt.engine.strategy import choose_strategy
from tests.families import FAMILIES, V, tiny_base

END = 2
SETS = {
    "one token each": [[5], [6], [7]],
    "prefixes of one another": [[5], [5, 6], [5, 6, 7], [8, 5]],
    "a common beginning": [[9, 9, 5], [9, 9, 6, 7], [9, 9, 6, 8]],
    "parting late": [[5, 6, 7, 8, 9], [5, 6, 7, 8, 10]],
    "mixed": [[11], [12, 13], [12, 14, 15], [12, 14, 16], [17, 18, 19]],
}


def brute_force(next_logits, answers) -> list[float]:
    """Probability of each answer: at each token, softmax over the tokens by which some answer goes on, float64.

    `next_logits(tokens)` gives the model's logits after the input and `tokens`.
    """
    sequences = [[*answer, END] for answer in answers]
    probabilities = []
    for sequence in sequences:
        log_probability = 0.0
        for place, token in enumerate(sequence):
            going_on = {other[place] for other in sequences if other[:place] == sequence[:place] and len(other) > place}
            logits = next_logits(sequence[:place]).double()
            log_probability += float(logits[token] - torch.logsumexp(logits[sorted(going_on)], 0))
        probabilities.append(math.exp(log_probability))
    return probabilities


def reference(base: FrozenBase, prompt: torch.Tensor, input_ids: list[int]):
    """Next-token logits from the stock model's own forward over prompt and text joined, in float64."""
    model = base.model.double()

    def next_logits(tokens):
        if base.is_encoder_decoder:
            embeds = torch.cat([prompt.double(), base.embedding(torch.tensor(input_ids))])[None]
            decoder = torch.tensor([[decoder_start(base), *tokens]])
            return model(inputs_embeds=embeds, decoder_input_ids=decoder).logits[0, -1]
        embeds = torch.cat([prompt.double(), base.embedding(torch.tensor(input_ids + tokens))])[None]
        return model(inputs_embeds=embeds).logits[0, -1]

    return next_logits


def prompt_of(base: FrozenBase) -> torch.Tensor:
    return torch.randn(5, base.hidden_size, generator=torch.Generator().manual_seed(1)) * 0.5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("answers", SETS.values(), ids=SETS)
def test_scores_and_loss_equal_the_enumeration(family, answers):
    base = tiny_base(family)
    trie, prompt, inputs = AnswerTrie(answers, END), prompt_of(base), [[20, 21, 22, 23], [30, 31, 32, 33]]
    with torch.no_grad():
        expected = torch.tensor([brute_force(reference(tiny_base(family), prompt, row), answers) for row in inputs])
        strategy, head = choose_strategy(base, "shallow"), Head(base)
        prefix = strategy.prefix(SoftPrompt(prompt))
        scores = answer_log_probabilities(strategy, head, trie, prefix, torch.tensor(inputs)).exp()
        torch.testing.assert_close(scores, expected, rtol=2e-4, atol=1e-6)
        torch.testing.assert_close(scores.sum(1), torch.ones(2))
        for right in range(len(answers)):
            examples = [Example(row, [*answers[right], END], right) for row in inputs]
            batch = Collator(trie, decoder_start(base))(examples)
            loss = loss_sum(head, trie, strategy.hidden(prefix, batch), batch)
            torch.testing.assert_close(loss, -expected[:, right].log().sum().float(), rtol=2e-4, atol=1e-5)


def test_scores_differ_between_answers_and_prompts():
    """Else the comparison above would prove nothing."""
    base = tiny_base("llama")
    strategy, trie = choose_strategy(base, "shallow"), AnswerTrie(SETS["mixed"], END)
    rows = torch.tensor([[20, 21, 22, 23]])
    with torch.no_grad():
        mine = answer_log_probabilities(strategy, Head(base), trie, strategy.prefix(SoftPrompt(prompt_of(base))), rows).exp()
        bare = answer_log_probabilities(strategy, Head(base), trie, strategy.prefix(None), rows).exp()
    assert mine.std() > 0.01
    assert (mine - bare).abs().max() > 0.01


def test_a_thousand_answers():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (1200,), generator=generator).tolist()
    answers = sorted({tuple(torch.randint(3, V, (length,), generator=generator).tolist()) for length in lengths})[:1000]
    base, prompt, row = tiny_base("llama"), None, [20, 21, 22]
    trie = AnswerTrie([list(answer) for answer in answers], END)
    assert trie.num_answers == 1000
    strategy = choose_strategy(base, None)
    with torch.no_grad():
        scores = answer_log_probabilities(strategy, Head(base), trie, strategy.prefix(prompt), torch.tensor([row])).exp()[0]
        few = [0, 1, 499, 998, 999]
        model = tiny_base("llama").model.double()
        logits = {}

        def next_logits(tokens):
            key = tuple(tokens)
            if key not in logits:
                logits[key] = model(input_ids=torch.tensor([[*row, *tokens]])).logits[0, -1]
            return logits[key]

        expected = list(brute_force_some(next_logits, answers, few))
    torch.testing.assert_close(scores[few].double(), torch.tensor(expected, dtype=torch.float64), rtol=5e-4, atol=1e-9)
    assert scores.sum().item() == pytest.approx(1, abs=1e-4)


def brute_force_some(next_logits, answers, indices):
    sequences = [[*answer, END] for answer in answers]
    for index in indices:
        sequence, log_probability = sequences[index], 0.0
        for place, token in enumerate(sequence):
            going_on = sorted({other[place] for other in sequences if other[:place] == sequence[:place] and len(other) > place})
            logits = next_logits(sequence[:place]).double()
            log_probability += float(logits[token] - torch.logsumexp(logits[going_on], 0))
        yield math.exp(log_probability)


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
