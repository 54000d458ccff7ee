"""Sampled decoding draws from the right distribution, and a row's draws are its own."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare
from transformers import TemperatureLogitsWarper, TopPLogitsWarper

from softprompt.base_model import load_base_model
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.sampling import Draw, most_likely, next_token, nucleus
from softprompt.engine.task import EncodedTask
from softprompt.errors import NotANumber
from softprompt.recipe.evaluation import SamplingSpec
from tests.stock import random_prompt

LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -3.0]])


@given(
    arrays(np.int64, (3, 9), elements=st.integers(-80, 80), unique=True).map(lambda numbers: (numbers / 10).astype(np.float32)),
    st.floats(0.1, 3),
    st.floats(0.05, 0.999),
)
def test_the_nucleus_is_that_of_transformers(logits, temperature, top_p):
    scores = torch.from_numpy(logits).double()
    warped = TopPLogitsWarper(top_p)(None, TemperatureLogitsWarper(temperature)(None, scores))
    ranked = torch.softmax(scores / temperature, -1).sort(descending=True).values.cumsum(-1)
    if (ranked - top_p).abs().min() < 1e-6:
        return  # a token on the edge itself: rounding decides
    found = nucleus(torch.from_numpy(logits), temperature, top_p)
    expected = torch.softmax(warped, -1)
    torch.testing.assert_close(found / found.sum(-1, keepdim=True), expected, rtol=1e-6, atol=1e-9)


def test_a_nucleus_that_is_wider_than_what_is_ranked_first_is_whole(monkeypatch):
    logits = torch.randn(6, 97, generator=torch.Generator().manual_seed(0))
    temperature = torch.tensor([[1.0], [2.0], [0.3], [5.0], [1.0], [1.0]], dtype=torch.float64)
    top_p = torch.tensor([[0.9], [0.99], [0.5], [1.0], [0.1], [1.0]], dtype=torch.float64)
    expected = nucleus(logits, temperature, top_p)
    for most in (1, 3, 30):
        monkeypatch.setattr("softprompt.engine.sampling.MOST_RANKED", most)
        assert torch.equal(nucleus(logits, temperature, top_p), expected)
        for row in range(6):
            alone = nucleus(logits[row : row + 1], float(temperature[row]), float(top_p[row]))
            assert torch.equal(alone[0], expected[row])
    assert (expected[3] > 0).all()
    assert 0 < (expected[4] > 0).sum() < (expected[0] > 0).sum() < 97


def test_draws_have_the_probabilities_of_the_nucleus():
    spec = SamplingSpec(temperature=0.8, top_p=0.9, seed=1)
    rows = [[number] for number in range(4000)]
    drawn = Counter(Draw(spec, rows)(LOGITS.expand(4000, -1), range(4000)).tolist())
    expected = nucleus(LOGITS, 0.8, 0.9)[0]
    kept = [token for token in range(6) if expected[token] > 0]
    assert len(kept) == 3
    assert set(drawn) == set(kept)
    shares = expected[kept] / expected[kept].sum()
    assert chisquare([drawn[token] for token in kept], (shares * 4000).tolist()).pvalue > 1e-3


def test_temperature_zero_is_greedy():
    assert next_token(SamplingSpec(), [[1]]) is most_likely
    assert most_likely(LOGITS, [0]).tolist() == [0]


def test_a_row_draws_the_same_whatever_stands_beside_it_and_another_seed_draws_otherwise():
    spec = SamplingSpec(temperature=1.0, seed=3)
    rows = [[1, 2], [3], [4, 5, 6]]

    def stream(spec, rows, row, times=40):
        draw, place = Draw(spec, rows), rows.index(row)
        return [int(draw(LOGITS, [place])) for _ in range(times)]

    assert stream(spec, rows, [3]) == stream(spec, [[3]], [3]) == stream(spec, rows[::-1], [3])
    assert stream(spec, rows, [3]) != stream(spec, rows, [1, 2])
    assert stream(spec, rows, [3]) != stream(SamplingSpec(temperature=1.0, seed=4), rows, [3])


@pytest.fixture(scope="module")
def base(llama_directory):
    return load_base_model(llama_directory)


def predictor(base, values, **options):
    return Predictor(base, EncodedTask.create(base.text, "{text}:", ()), SoftPrompt(values), max_new_tokens=12, **options)


def test_texts_of_a_seed_do_not_depend_on_the_batch(base):
    values, spec = random_prompt(base, "deep"), SamplingSpec(temperature=1.5, top_p=0.95, seed=5)
    texts = [{"text": "word " * (number % 5) + str(number)} for number in range(12)]
    together = predictor(base, values, sampling=spec).predict(texts)
    alone = [predictor(base, values, sampling=spec, batch_size=1).predict([text])[0] for text in texts]
    assert together == alone
    assert together == predictor(base, values, sampling=spec, batch_size=5).predict(texts)
    assert together != predictor(base, values).predict(texts)
    assert together != predictor(base, values, sampling=spec.model_copy(update={"seed": 6})).predict(texts)


@pytest.mark.parametrize("answers", [(), ("red", "blue")])
def test_nan_is_an_error_and_not_an_answer(base, answers):
    from softprompt.engine.encoding import answers_for

    values = random_prompt(base, "shallow")
    values[0, 0] = torch.nan
    task = EncodedTask.create(base.text, "{text}:", answers_for(tuple(answers), {}))
    asked = Predictor(base, task, SoftPrompt(values))
    with pytest.raises(NotANumber, match="NaN") as caught:
        asked.predict([{"text": "a"}])
    assert "llama in float32" in str(caught.value)
    if not answers:
        with pytest.raises(NotANumber):
            asked.target_nats([[5, 6]], [[7, 2]])


def test_an_answer_may_be_empty(base):
    """The end token comes first: the text is empty, and that is an answer."""
    from softprompt.engine.head import Head
    from softprompt.engine.scoring import generate
    from softprompt.engine.strategy import choose_strategy

    strategy, ids = choose_strategy(base, None), torch.tensor([[5, 6, 7]])
    first = generate(strategy, Head(base), strategy.prefix(None), ids, max_new_tokens=1, end_token=-1)[0][0]
    assert generate(strategy, Head(base), strategy.prefix(None), ids, max_new_tokens=5, end_token=first) == [[]]
