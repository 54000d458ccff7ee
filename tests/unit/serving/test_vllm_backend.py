"""The vLLM engine against a stand-in of vLLM's interface: a test of what we ask and how we read the reply, not of vLLM."""

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import httpx
import pytest
import torch

from softprompt.base_model import load_base_model
from softprompt.engine.concatenate import Concatenate
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRequest, ServiceUnavailable, UnsupportedBaseModel
from softprompt.release.store import open_store
from softprompt.serve import ServeOptions, running_node, started_engine
from softprompt.serving.bank import PromptBank, WarmPrompt
from softprompt.serving.jobs import RankJob, Sampling
from softprompt.serving.limits import Limits
from softprompt.serving.scheduler import BatchEngine
from softprompt.serving.vllm_backend import VllmEngine
from softprompt.serving.vllm_calls import start_vllm
from softprompt.settings import Settings
from tests.serving_jobs import write
from tests.serving_node import StatedChannel, alone, name, node_of, server_of
from tests.stock import random_prompt
from tests.unit.serving.test_bank import Shelf, prompts


class StandIn:
    """What `AsyncLLM` does with `prompt_embeds`, by transformers' own forward: greedy, whole sequences, one token an output."""

    def __init__(self, model):
        self.model, self.asked, self.aborted, self.errored, self.is_down = model, [], 0, False, False

    def shutdown(self):
        self.is_down = True

    async def generate(self, prompt, sampling, request_id):
        self.asked.append((prompt, sampling, request_id))
        vectors, ended = prompt["prompt_embeds"][None], False
        assert vectors.ndim == 3
        try:
            for step in range(1, sampling.max_tokens + 1):
                await asyncio.sleep(0)
                with torch.no_grad():
                    logprobs = self.model(inputs_embeds=vectors).logits[0, -1].log_softmax(-1)
                token = int(logprobs.argmax())
                named = {int(other) for other in logprobs.topk(sampling.logprobs).indices} | {token}
                stops = token in sampling.stop_token_ids
                ended = stops or step == sampling.max_tokens
                yield SimpleNamespace(
                    outputs=[
                        SimpleNamespace(
                            token_ids=[token],
                            logprobs=[{other: SimpleNamespace(logprob=float(logprobs[other])) for other in named}],
                            finish_reason="stop" if stops else "length" if ended else None,
                        )
                    ],
                    finished=ended,
                )
                if ended:
                    return
                vectors = torch.cat([vectors, self.model.get_input_embeddings()(torch.tensor([[token]]))], dim=1)
        finally:
            self.aborted += not ended


@pytest.fixture(scope="module")
def base(llama_directory):
    return load_base_model(llama_directory)


@pytest.fixture
def vllm(monkeypatch):
    """A module that can be imported as vLLM."""
    module, sampling = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.SamplingParams = SimpleNamespace
    sampling.RequestOutputKind = SimpleNamespace(DELTA="delta")
    module.AsyncEngineArgs = SimpleNamespace
    module.AsyncLLMEngine = SimpleNamespace(from_engine_args=lambda arguments: arguments)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", sampling)


@pytest.fixture
def llm(base):
    return StandIn(base.model)


@pytest.fixture
def engine(base, llm, vllm):
    with VllmEngine(base, llm) as engine:
        yield engine


def shallow(base):
    """The same prompt as vLLM's engine and as ours need it."""
    values, task = random_prompt(base, "shallow"), EncodedTask.create(base.text, "{text}:", ())
    made = (Predictor(base, task, SoftPrompt(values), strategy=strategy) for strategy in (Concatenate(base), None))
    return [WarmPrompt("a" * 64, None, predictor, 0) for predictor in made]


def test_texts_are_those_of_our_own_engine(base, engine, llm):
    theirs, ours = shallow(base)
    ears = [write(engine, prompt, [5, 6, 7], 12, num_logprobs=2) for prompt in (theirs, None)]
    with BatchEngine(base) as own:
        expected = [write(own, prompt, [5, 6, 7], 12, num_logprobs=2) for prompt in (ours, None)]
        for ear, other in zip(ears, expected, strict=True):
            assert ear.wait() == other.wait()
            assert ear.ids == other.ids
            for token, own_token in zip(ear.tokens, other.tokens, strict=True):
                assert token.logprob == pytest.approx(own_token.logprob, abs=1e-4)
                assert [other for other, _ in token.most_likely] == [other for other, _ in own_token.most_likely]
    assert ears[0].ids != ears[1].ids
    assert not llm.aborted


def test_what_vllm_is_asked(base, engine, llm):
    prompt = shallow(base)[0]
    write(engine, prompt, [5, 6], 3, sampling=Sampling(temperature=0.5, top_p=0.9, seed=4)).wait()
    ((request, asked, request_id),) = llm.asked
    assert torch.equal(request["prompt_embeds"][:5], prompt.predictor.prefix.vectors)
    assert torch.equal(request["prompt_embeds"][5:], base.embedding(torch.tensor([5, 6])))
    assert (asked.temperature, asked.top_p, asked.seed, asked.max_tokens) == (0.5, 0.9, 4, 3)
    assert asked.stop_token_ids == [base.text.end_token]
    assert len(request_id) == 32


def test_a_deep_prompt_is_refused_by_name(base, engine):
    values = random_prompt(base, "deep")
    for strategy in (None, Concatenate(base)):
        task = EncodedTask.create(base.text, "{text}:", ())
        deep = WarmPrompt("d" * 64, None, Predictor(base, task, SoftPrompt(values), strategy=strategy), 0)
        with pytest.raises(UnsupportedBaseModel, match="cannot run a deep prompt"):
            write(engine, deep, [5], 3).wait()
        with pytest.raises(UnsupportedBaseModel, match="cannot run a deep prompt"):
            engine.rank(RankJob(prompt=deep, token_ids=(5,))).result(60)


def test_a_cancelled_text_is_aborted(base, engine, llm):
    ear = write(engine, None, [5, 6], 40, on_token=lambda count: count == 3 and ear.ticket.cancel())
    assert ear.wait() == "cancelled"
    assert len(ear.ids) == 3
    assert llm.aborted == 1


def test_it_says_how_it_is(base, llm, vllm):
    engine = VllmEngine(base, llm)
    assert not engine.is_alive
    with engine:
        assert engine.is_alive
        held = []
        ears = [write(engine, None, [5, 6], 9, on_token=lambda _: held.append(engine.numbers.num_rows)) for _ in range(2)]
        ears.append(write(engine, None, [5] * 80, 3))
        ears[0].wait(), ears[1].wait(), ears[2].ended.wait(60)
        assert max(held) == 2
        numbers = engine.numbers
        assert (numbers.num_rows, numbers.num_tokens, numbers.num_failed) == (0, len(ears[0].ids) + len(ears[1].ids), 1)
        llm.errored = True
        assert not engine.is_alive, "vLLM has said that it is broken"
        llm.errored = False
    assert not engine.is_alive
    assert llm.is_down
    for late in (lambda: write(engine, None, [5], 3), lambda: engine.rank(RankJob(prompt=shallow(base)[0], token_ids=(5,)))):
        with pytest.raises(ServiceUnavailable, match="has stopped"):
            late()


def test_a_node_runs_on_it(engine, base, s3_server, tmp_path):
    channel = StatedChannel(tmp_path, open_store(f"s3://softprompt/{tmp_path.name}", s3_server.access), base)
    prompt = channel.prompt(1)
    channel.state({"colours": name(prompt)})
    bank = PromptBank(base, strategy=Concatenate(base))
    with node_of(channel, engine=engine, bank=bank) as node, server_of(node) as url:
        said = httpx.post(f"{url}/v1/completions", json={"model": "colours", "prompt": "ruby"})
        assert httpx.get(f"{url}/livez").status_code == 200
        assert "softprompt_engine_rows 0.0" in httpx.get(f"{url}/metrics").text
    assert said.json()["choices"][0]["text"] == alone(base, prompt, {"text": "ruby"})


def test_what_fails_is_said(engine, llm, monkeypatch):
    with pytest.raises(UnsupportedBaseModel, match="longer than the base model's context"):
        write(engine, None, [5] * 80, 3).wait()

    async def fall(*_):
        raise RuntimeError("EngineDeadError")
        yield

    monkeypatch.setattr(llm, "generate", fall)
    with pytest.raises(ServiceUnavailable, match="vLLM failed"):
        write(engine, None, [5], 3).wait()


def test_ranks_are_made_by_the_base_here(base, engine):
    (prompt,) = prompts(base, 1)
    here = PromptBank(base, strategy=Concatenate(base)).get(prompt.digest, Shelf([prompt]))
    own = PromptBank(base).get(prompt.digest, Shelf([prompt]))
    found = engine.rank(RankJob(prompt=here, token_ids=(5, 6))).result(60)
    assert found == pytest.approx(own.predictor.predict_ids([[5, 6]])[0].probabilities, abs=1e-5)


def test_an_engine_is_started_for_vectors_and_without_a_cache_of_prefixes(vllm, tmp_path):
    arguments = start_vllm(tmp_path, dtype="bfloat16")
    assert (arguments.model, arguments.enable_prompt_embeds, arguments.enable_prefix_caching) == (str(tmp_path), True, False)
    assert arguments.dtype == "bfloat16"


def test_without_vllm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InvalidRequest, match="softprompt\\[serve-vllm\\]"):
        start_vllm(tmp_path)


def test_a_node_is_started_on_it_by_name(base, llama_directory, llm, monkeypatch):
    asked = {}
    monkeypatch.setattr("softprompt.serving.vllm_calls.start_vllm", lambda directory, **options: asked.update(options) or llm)
    engine = started_engine(
        ServeOptions(channel="", base_uri="", engine="vllm", limits=Limits(max_rows=7)), llama_directory, base
    )
    with engine:
        assert isinstance(engine, VllmEngine)
    assert asked == {"dtype": "float32", "max_num_seqs": 7}


def test_8_bits_are_refused_by_name_before_a_base_is_loaded():
    options = ServeOptions(channel="", base_uri="s3://nowhere/base", engine="vllm", dtype="int8")
    with (
        pytest.raises(InvalidRequest, match="vLLM quantises in ways of its own"),
        running_node(Settings.from_environment(), options),
    ):
        pass
