"""The vLLM engine on vLLM itself, beside our own engine: `make test-vllm`, in an environment that has vLLM.

That environment has neither Ray nor MLflow, so nothing of `tests/conftest.py` is used here (`--noconftest`).
"""

import os

import httpx
import pytest
import torch

vllm = pytest.importorskip("vllm", reason="vLLM is not installed here; `make test-vllm` runs this in an environment of its own")

from softprompt.base_model import load_base_model  # noqa: E402
from softprompt.engine.concatenate import Concatenate  # noqa: E402
from softprompt.engine.predictor import Predictor  # noqa: E402
from softprompt.engine.prompts import SoftPrompt  # noqa: E402
from softprompt.errors import UnsupportedBaseModel  # noqa: E402
from softprompt.serving.bank import PromptBank, WarmPrompt  # noqa: E402
from softprompt.serving.jobs import Sampling  # noqa: E402
from softprompt.serving.scheduler import BatchEngine  # noqa: E402
from softprompt.serving.vllm_backend import VllmEngine  # noqa: E402
from softprompt.serving.vllm_calls import start_vllm  # noqa: E402
from tests.builders import save_llama  # noqa: E402
from tests.reliability.memory_store import MemoryStore  # noqa: E402
from tests.serving_jobs import write  # noqa: E402
from tests.serving_node import StatedChannel, alone, name, node_of, server_of  # noqa: E402

SIZES = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
"""Heads of 32: the smallest that vLLM's kernels for processors know."""
TEXTS = ([5, 6, 7], [9], [11, 12, 13, 14, 15, 16, 17], [21, 22], [31, 32, 33, 34, 35])


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_llama(tmp_path_factory.mktemp("bases") / "llama", max_position_embeddings=128, **SIZES)


@pytest.fixture(scope="module")
def base(directory):
    return load_base_model(directory)


@pytest.fixture(scope="module")
def engine(base, directory):
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    options = {"dtype": "float32", "max_model_len": 128, "max_num_seqs": 16, "enforce_eager": True}
    llm = start_vllm(directory, **options)
    with VllmEngine(base, llm) as started:
        yield started


@pytest.fixture(scope="module")
def own(base):
    with BatchEngine(base) as started:
        yield started


def shallow(base, seed, num_tokens):
    """A prompt as vLLM's engine and as ours keep it."""
    values = torch.randn(num_tokens, base.hidden_size, generator=torch.Generator().manual_seed(seed)) * 0.5
    predictors = (Predictor(base, None, SoftPrompt(values), strategy=strategy) for strategy in (Concatenate(base), None))
    return [WarmPrompt(str(seed) * 64, None, predictor, 0) for predictor in predictors]


def test_texts_of_mixed_prompts_are_those_of_our_own_engine(base, engine, own):
    kinds = [shallow(base, 1, 5), shallow(base, 2, 12), shallow(base, 3, 20), (None, None)]
    asked = [(theirs, ours, text) for text in TEXTS for theirs, ours in kinds]
    found = [write(engine, theirs, text, 24, num_logprobs=2) for theirs, _, text in asked]
    wanted = [write(own, ours, text, 24, num_logprobs=2) for _, ours, text in asked]
    for one, other in zip(found, wanted, strict=True):
        assert (one.wait(), one.ids) == (other.wait(), other.ids)
        assert [token.logprob for token in one.tokens] == pytest.approx([token.logprob for token in other.tokens], abs=1e-3)
    assert len({tuple(one.ids) for one in found}) > len(TEXTS) * 3, "prompts make a difference"


def test_a_node_answers_and_ranks_by_it(base, engine, tmp_path):
    channel = StatedChannel(tmp_path, MemoryStore(), base)
    reply, label = channel.prompt(1), channel.prompt(2, task="classification")
    channel.state({"reply": name(reply), "label": name(label)})
    with node_of(channel, engine=engine, bank=PromptBank(base, strategy=Concatenate(base))) as node, server_of(node) as url:
        said = httpx.post(f"{url}/v1/completions", json={"model": "reply", "prompt": "ruby"}, timeout=60)
        ranked = httpx.post(f"{url}/v1/classify", json={"model": "label", "input": "ruby"}, timeout=60)
    assert said.json()["choices"][0]["text"] == alone(base, reply, {"text": "ruby"})
    assert ranked.json()["label"] == alone(base, label, {"text": "ruby"}).strip()
    assert sum(ranked.json()["probabilities"].values()) == pytest.approx(1)


def test_a_drawn_text_is_the_same_for_the_same_seed(base, engine):
    prompt, sampling = shallow(base, 1, 5)[0], Sampling(temperature=1.0, top_p=0.9, seed=4)
    one, again = (write(engine, prompt, TEXTS[0], 24, sampling=sampling) for _ in range(2))
    one.wait(), again.wait()
    greedy = write(engine, prompt, TEXTS[0], 24)
    greedy.wait()
    assert one.ids == again.ids != greedy.ids


def test_a_cancelled_text_ends_and_the_engine_goes_on(base, engine):
    ear = write(engine, None, TEXTS[0], 100, on_token=lambda count: count == 3 and ear.ticket.cancel())
    assert ear.wait() == "cancelled"
    assert len(ear.ids) == 3
    assert write(engine, None, TEXTS[1], 4).wait() in ("stop", "length")
    assert engine.is_alive
    assert engine.numbers.num_rows == 0


def test_what_does_not_fit_and_a_deep_prompt_are_refused(base, engine):
    with pytest.raises(UnsupportedBaseModel, match="longer than the base model's context"):
        write(engine, None, [5] * 200, 3).wait()
    deep = Predictor(base, None, SoftPrompt(torch.zeros(2, 2, 3, 2, 32)))
    with pytest.raises(UnsupportedBaseModel, match="cannot run a deep prompt"):
        write(engine, WarmPrompt("d" * 64, None, deep, 0), [5], 3).wait()
