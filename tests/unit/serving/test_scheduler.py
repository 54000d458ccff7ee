"""What the engine promises whoever asks: order, bounds, fairness, seeds, and that a fault stays where it arose."""

import threading
import time
from collections import Counter

import pytest
import torch

from softprompt.artifact import Answer
from softprompt.base_model import load_base_model
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRequest, NotANumber, ServiceUnavailable, UnsupportedBaseModel
from softprompt.recipe.evaluation import SamplingSpec
from softprompt.serving.bank import WarmPrompt
from softprompt.serving.jobs import Failed, RankJob, Sampling
from softprompt.serving.scheduler import BatchEngine
from tests.families import tiny_base
from tests.serving_jobs import NEVER, warm, write
from tests.stock import random_prompt

WORDS = ("red", "blue", "a longer green")


@pytest.fixture(scope="module")
def base():
    return tiny_base("llama", context_tokens=160)


@pytest.fixture(scope="module")
def prompt(base):
    return warm(base, random_prompt(base, "deep", 5))


@pytest.fixture
def engine(base):
    with BatchEngine(base, end_token=NEVER, max_rows=4) as engine:
        yield engine


def test_a_text_ends_at_the_end_token_which_is_not_part_of_it(base, prompt, engine):
    whole = write(engine, prompt, [5, 6, 7], 20)
    whole.wait()
    end = whole.ids[6]
    first = whole.ids.index(end)
    with BatchEngine(base, end_token=end) as other:
        stopped = write(other, prompt, [5, 6, 7], 20)
        assert stopped.wait() == "stop"
    assert stopped.ids == whole.ids[:first]


def test_a_text_may_be_as_long_as_the_context_leaves(base, prompt, engine):
    ear = write(engine, prompt, [5] * 140, 64)
    assert ear.wait() == "length"
    assert len(ear.ids) == 160 - 5 - 140


@pytest.mark.parametrize(
    ("ids", "tokens", "error", "words"),
    [
        ([5] * 155, 4, UnsupportedBaseModel, "longer than the base model's context"),
        ([], 4, InvalidRequest, "cannot read this input"),
        ([5, 97], 4, InvalidRequest, "from 0 to 96"),
        ([-1], 4, InvalidRequest, "cannot read"),
        ([5], 0, InvalidRequest, "cannot read"),
    ],
)
def test_what_cannot_be_written_fails_alone(prompt, engine, ids, tokens, error, words):
    good = write(engine, prompt, [5, 6], 12)
    bad = write(engine, prompt, ids, tokens)
    with pytest.raises(error, match=words):
        bad.wait()
    assert good.wait() == "length"


def test_a_prompt_that_gives_nan_fails_alone_and_spoils_no_later_row(base, prompt, engine):
    """A mask multiplies by zero, and zero times NaN is NaN: what a broken row leaves in a slot must be wiped.

    The texts are long enough to come to the places where it stood.
    """
    expected = write(engine, prompt, [5, 6, 7], 40)
    expected.wait()
    values = random_prompt(base, "deep", 30)
    values[1, :, 20:] = torch.nan
    for _ in range(3):
        good = [write(engine, prompt, [5, 6, 7], 40) for _ in range(2)]
        bad = write(engine, warm(base, values, "n"), [5] * 9, 12)
        with pytest.raises(NotANumber, match="llama in float32"):
            bad.wait()
        later = [write(engine, prompt, [5, 6, 7], 40) for _ in range(4)]
        for ear in (*good, *later):
            assert ear.wait() == "length"
            assert ear.ids == expected.ids
    assert engine.numbers.num_failed == 3


def test_a_cancelled_text_leaves_wherever_it_is(base, prompt):
    with BatchEngine(base, end_token=NEVER, max_rows=1) as engine:
        running, waiting = write(engine, prompt, [5, 6], 150), write(engine, prompt, [5, 6], 150)
        after = write(engine, prompt, [5, 6], 3)
        waiting.ticket.cancel()
        running.ticket.cancel()
        assert (running.wait(), waiting.wait(), after.wait()) == ("cancelled", "cancelled", "length")
        assert not waiting.ids
        running.ticket.cancel()
        assert engine.numbers.num_rows == 0


def test_rows_are_admitted_in_order_and_never_more_than_may(base, prompt):
    order, most = [], []
    with BatchEngine(base, end_token=NEVER, max_rows=2) as engine:

        def hear(number):
            def on_token(count):
                most.append(engine.numbers.num_rows)
                if count == 1:
                    order.append(number)

            return on_token

        ears = [write(engine, prompt, [5, 6 + number], 3 + number % 3, on_token=hear(number)) for number in range(9)]
        for ear in ears:
            ear.wait()
    assert order == sorted(order)
    assert max(most) <= 2


@pytest.mark.parametrize("bounded_places", [3 * 40, 3 * 50, 7 * 21])
def test_keys_and_values_stay_within_their_bytes_and_texts_are_the_same(base, prompt, bounded_places):
    bound = 2 * 2 * 2 * 8 * 4 * bounded_places  # layers, keys and values, heads, head size, bytes
    texts = [[5 + n] * (4 + 5 * (n % 5)) for n in range(12)]
    with BatchEngine(base, end_token=NEVER) as engine:
        expected = [write(engine, prompt, ids, 15) for ids in texts]
        for ear in expected:
            ear.wait()
    sizes = []
    with BatchEngine(base, end_token=NEVER, max_cache_bytes=bound) as engine:
        ears = [write(engine, prompt, ids, 15, on_token=lambda _: sizes.append(engine.numbers.cache_bytes)) for ids in texts]
        with pytest.raises(UnsupportedBaseModel, match="needs more memory than the engine may use"):
            write(engine, prompt, [5] * 100, 100).wait()
        for ear, other in zip(ears, expected, strict=True):
            assert ear.wait() == "length"
            assert ear.ids == other.ids
        assert write(engine, prompt, [5] * 60, 40).wait() == "length"
        late = []
        again = write(
            engine, prompt, texts[4], 15, on_token=lambda n: n == 9 and late.append(write(engine, prompt, texts[0], 15))
        )
        assert again.wait() == late[0].wait() == "length"
        assert (again.ids, late[0].ids) == (expected[4].ids, expected[0].ids), "room is made while a longer row is under way"
    assert 0 < max(sizes) <= bound


def test_a_listener_that_fails_loses_its_own_text_only(prompt, engine):
    def fall(_):
        raise RuntimeError("the client went away")

    bad, good = write(engine, prompt, [5, 6], 150, on_token=fall), write(engine, prompt, [5, 7], 20)
    assert good.wait() == "length"
    assert bad.wait() == "cancelled"
    assert len(bad.ids) == 1


@pytest.mark.parametrize("where", ["join", "step"])
def test_a_fault_of_ours_fails_what_it_touched_and_the_engine_goes_on(prompt, engine, monkeypatch, where):
    write(engine, prompt, [5, 6], 2).wait()
    faults = iter([True])

    real = getattr(engine._batch, where)

    def fail(*args):
        if next(faults, False):
            raise RuntimeError("out of memory")
        return real(*args)

    monkeypatch.setattr(engine._batch, where, fail)
    bad = write(engine, prompt, [5, 6], 12)
    assert bad.ended.wait(60)
    assert isinstance(bad.last, Failed)
    assert write(engine, prompt, [5, 6], 12).wait() == "length"
    assert engine.is_alive


def test_one_text_at_fault_does_not_take_along_those_that_were_read_with_it(prompt, engine, monkeypatch):
    real = engine._batch.join

    def fail(rows):
        if any(96 in row.job.token_ids for row in rows):
            raise RuntimeError("this text")
        return real(rows)

    monkeypatch.setattr(engine._batch, "join", fail)
    held = write(engine, prompt, [5, 6], 30)  # so that the others wait together
    ears = [write(engine, prompt, [5, last], 4) for last in (7, 96, 8)]
    assert ears[0].wait() == ears[2].wait() == held.wait() == "length"
    with pytest.raises(RuntimeError, match="this text"):
        ears[1].wait()


def test_a_stopped_engine_says_so(base, prompt):
    with BatchEngine(base, end_token=NEVER, max_rows=1) as engine:
        running = write(engine, prompt, [5, 6], 150, on_token=lambda _: time.sleep(0.01))
        waiting = write(engine, prompt, [5, 6], 150)
    for ear in (running, waiting):
        with pytest.raises(ServiceUnavailable, match="has stopped"):
            ear.wait()
    for late in (lambda: write(engine, prompt, [5], 3), lambda: engine.rank(RankJob(prompt=prompt, token_ids=(5,)))):
        with pytest.raises(ServiceUnavailable, match="has stopped"):
            late()
    assert not engine.is_alive


def test_logprobs_name_the_most_likely_tokens(base, prompt, engine):
    plain, ear = write(engine, prompt, [5, 6], 8), write(engine, prompt, [5, 6], 8, num_logprobs=3)
    plain.wait()
    ear.wait()
    assert plain.ids == ear.ids
    for token in ear.tokens:
        assert len(token.most_likely) == 3
        assert token.most_likely[0] == (token.token_id, pytest.approx(token.logprob))
        assert [logprob for _, logprob in token.most_likely] == sorted((lp for _, lp in token.most_likely), reverse=True)
    assert not plain.tokens[0].most_likely


def test_a_seed_gives_the_same_text_whoever_shares_the_batch(prompt, engine):
    sampling = Sampling(temperature=1.3, top_p=0.9, seed=7)
    alone = write(engine, prompt, [5, 6, 7], 20, sampling=sampling)
    alone.wait()
    crowd = [
        write(engine, prompt, [9, 10], 30, sampling=Sampling(temperature=0.7, seed=1)),
        write(engine, None, [5, 6, 7], 30),
        write(engine, prompt, [5, 6, 7], 20, sampling=sampling),
        write(engine, prompt, [5, 6, 7], 20, sampling=Sampling(temperature=1.3, top_p=0.9, seed=8)),
    ]
    for ear in crowd:
        ear.wait()
    assert crowd[2].ids == alone.ids
    assert crowd[3].ids != alone.ids
    assert crowd[0].ids[:20] != alone.ids


def test_draws_are_those_of_evaluation(llama_directory):
    """A text that evaluation judged is the text that serving writes, seed for seed."""
    base = load_base_model(llama_directory)
    task = EncodedTask.create(base.text, "{text}:", ())
    values, sampling = random_prompt(base, "shallow"), SamplingSpec(temperature=1.2, top_p=0.9, seed=3)
    judged = Predictor(base, task, SoftPrompt(values), max_new_tokens=12, sampling=sampling).predict([{"text": "ruby"}])[0]
    with BatchEngine(base) as engine:
        ear = write(
            engine,
            WarmPrompt("a" * 64, None, Predictor(base, task, SoftPrompt(values)), 0),
            task.encoder.input_ids({"text": "ruby"}),
            12,
            sampling=Sampling(temperature=1.2, top_p=0.9, seed=3),
        )
        ear.wait()
    assert task.encoder.tokenizer.decode(ear.ids, skip_special_tokens=True).strip() == judged.output


def test_draws_follow_the_probabilities(base, prompt):
    with BatchEngine(base, end_token=NEVER) as engine:
        first = write(engine, prompt, [5, 6], 1, num_logprobs=97)
        first.wait()
        ears = [write(engine, prompt, [5, 6], 1, sampling=Sampling(temperature=1.0, seed=n)) for n in range(600)]
        for ear in ears:
            ear.wait()
    drawn = Counter(ear.ids[0] for ear in ears)
    expected = {token: torch.tensor(logprob).exp().item() for token, logprob in first.tokens[0].most_likely}
    for token, share in list(expected.items())[:4]:
        assert drawn[token] / 600 == pytest.approx(share, abs=4 * (share * (1 - share) / 600) ** 0.5 + 1e-3)


@pytest.fixture(scope="module")
def ranked(llama_directory):
    """A base with a tokenizer, and two prompts with answers."""
    base = load_base_model(llama_directory)
    answers = tuple(Answer(label=word, text=f" {word}") for word in WORDS)
    task = EncodedTask.create(base.text, "{text}:", answers)
    made = [
        Predictor(base, task, SoftPrompt(random_prompt(base, kind, 4, seed))) for seed, kind in enumerate(("shallow", "deep"))
    ]
    return base, [WarmPrompt(name * 64, None, predictor, 0) for name, predictor in zip("ab", made, strict=True)]


def test_ranks_are_those_of_evaluation_and_share_the_thread_with_texts(ranked):
    base, prompts = ranked
    inputs = [f"thing {number}" * (number % 3 + 1) for number in range(40)]
    with BatchEngine(base, end_token=NEVER) as engine:
        ids = [prompts[0].predictor.task.encoder.input_ids({"text": text}) for text in inputs]
        writing = [write(engine, prompts[n % 2], ids[n][:9], 40) for n in range(6)]
        futures = [engine.rank(RankJob(prompt=prompts[n % 2], token_ids=tuple(row))) for n, row in enumerate(ids)]
        found = [future.result(60) for future in futures]
        assert {ear.wait() for ear in writing} == {"length"}
        numbers = engine.numbers
    for n, text in enumerate(inputs):
        assert found[n] == pytest.approx(prompts[n % 2].predictor.predict([{"text": text}])[0].probabilities, abs=1e-5)
    assert [numbers.prompts[prompt.digest].num_ranked for prompt in prompts] == [20, 20]
    assert numbers.num_ranks_waiting == 0


def test_neither_texts_nor_ranks_starve(ranked):
    """While both wait, each side keeps getting turns: texts move on before the ranks are done, and ranks before the texts.

    Turns are counted by the clock, so a text's turn in which the machine did something else is owed to the ranks: there are more
    of them than such a pause makes good for.
    """
    base, prompts = ranked
    seen, long_text, num_ranks = [], threading.Event(), 2000
    with BatchEngine(base, end_token=NEVER) as engine:
        futures = []

        def on_token(count):
            seen.append(sum(future.done() for future in futures))
            if count == 5:
                long_text.set()

        ear = write(engine, prompts[0], [5, 6], 40, on_token=on_token)
        assert long_text.wait(60)
        futures += [engine.rank(RankJob(prompt=prompts[n % 2], token_ids=tuple(range(5, 25)))) for n in range(num_ranks)]
        for future in futures:
            future.result(60)
        ear.wait()
    assert any(0 < done < num_ranks for done in seen), seen


def test_a_rank_that_cannot_be_made_fails_alone(ranked, monkeypatch):
    base, (prompt, other) = ranked
    free = warm(base, random_prompt(base, "deep", 4), "f")
    object.__setattr__(free.predictor, "task", EncodedTask.create(base.text, "{text}", ()))
    with BatchEngine(base) as engine:
        good = engine.rank(RankJob(prompt=prompt, token_ids=(5, 6)))
        bad = [
            engine.rank(RankJob(prompt=prompt, token_ids=(5,) * 80)),
            engine.rank(RankJob(prompt=prompt, token_ids=(5, 4000))),
            engine.rank(RankJob(prompt=free, token_ids=(5, 6))),
        ]
        assert sum(good.result(60)) == pytest.approx(1)
        for future in bad:
            with pytest.raises(InvalidRequest):
                future.result(60)
        cancelled = engine.rank(RankJob(prompt=other, token_ids=(5, 6)))
        cancelled.cancel()
        assert sum(engine.rank(RankJob(prompt=other, token_ids=(5, 6))).result(60)) == pytest.approx(1)
        assert engine.numbers.num_failed == 3


def test_one_rank_at_fault_does_not_take_along_the_others(ranked, monkeypatch):
    base, (prompt, _) = ranked
    real = prompt.predictor.predict_ids

    def fail(rows):
        if any(7 in row for row in rows):
            raise RuntimeError("this row")
        return real(rows)

    monkeypatch.setattr(prompt.predictor, "predict_ids", fail)
    with BatchEngine(base) as engine:
        futures = [engine.rank(RankJob(prompt=prompt, token_ids=(5, last))) for last in (6, 7, 8)]
        assert sum(futures[0].result(60)) == pytest.approx(1)
        assert sum(futures[2].result(60)) == pytest.approx(1)
        with pytest.raises(RuntimeError, match="this row"):
            futures[1].result(60)


def test_numbers_add_up(base, prompt, engine):
    ears = [write(engine, which, [5, 6], 5 + n) for n, which in enumerate([prompt, None, prompt])]
    for ear in ears:
        ear.wait()
    engine.close()
    numbers = engine.numbers
    assert numbers.num_tokens == 5 + 6 + 7
    assert (numbers.num_rows, numbers.num_waiting) == (0, 0)
    mine, bare = numbers.prompts[prompt.digest], numbers.prompts[""]
    assert (mine.num_texts, mine.num_tokens, bare.num_texts, bare.num_tokens) == (2, 12, 1, 6)
    assert 0 < mine.first_token_seconds < 60
    assert 0 < numbers.busy_seconds < 60


def test_numbers_of_many_prompts_are_bounded(monkeypatch):
    from softprompt.serving import numbers

    monkeypatch.setattr(numbers, "MAX_PROMPTS", 3)
    ledger = numbers.PromptLedger()
    for digest in "abacd":
        ledger.add(digest, num_texts=1)
    assert sorted(ledger.copy()) == ["a", "c", "d"]
    assert ledger.copy()["a"].num_texts == 2
