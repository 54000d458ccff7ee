"""OpenAI's interface by OpenAI's own client, over real HTTP: what comes back is what the prompt says when it is asked alone."""

import asyncio
import json
import math

import httpx
import openai
import pytest
import torch

from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.release.store import open_store
from softprompt.serving.limits import Limits
from tests.serving_node import LABELS, StatedChannel, alone, make_prompt, name, node_of, server_of, with_chat_template

BASE_NAME = "base:tiny"


@pytest.fixture(scope="module")
def base(llama_directory):
    from softprompt.base_model import load_base_model

    return with_chat_template(load_base_model(llama_directory))


@pytest.fixture(scope="module")
def prompts(base):
    return {
        "labels": make_prompt(base, 1, task="classification", template="Thing: {text}\nColour:"),
        "free": make_prompt(base, 2, task="generation", template="Thing: {text}\nColour:"),
        "talk": make_prompt(base, 3, task="generation", template="{messages}"),
        "fields": make_prompt(base, 4, task="generation", template="A: {one} B: {two}\n"),
        "old": make_prompt(base, 5, task="generation", template="Thing: {text}\nColour:"),
    }


@pytest.fixture(scope="module")
def node(base, prompts, s3_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("http")
    channel = StatedChannel(folder, open_store(f"s3://softprompt/{folder.name}", s3_server.access), base)
    names = {key: name(prompts[key]) for key in ("labels", "talk", "fields")}
    channel.state(names | {"free": name(prompts["free"], pinnable=[prompts["old"]])})
    limits = Limits(max_body_bytes=20_000, max_rows=8, max_new_tokens=40)
    with node_of(channel, base_name=BASE_NAME, limits=limits) as found:
        yield found


@pytest.fixture(scope="module")
def url(node):
    with server_of(node) as found:
        yield found


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def test_models_are_the_names_of_the_channel_and_the_base_that_was_named(client):
    assert [model.id for model in client.models.list()] == ["fields", "free", "labels", "talk", BASE_NAME]
    assert client.models.retrieve("free").owned_by == "softprompt"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_a_completion_is_what_the_evaluated_prompt_says(client, base, prompts):
    found = client.completions.with_raw_response.create(model="free", prompt="ruby")
    completion = found.parse()
    assert completion.choices[0].text == alone(base, prompts["free"], {"text": "ruby"})
    assert completion.choices[0].text, "an empty answer shows nothing"
    assert completion.choices[0].finish_reason == "length"
    assert found.headers["x-softprompt-digest"] == f"sha256:{prompts['free'].digest}"
    assert found.headers["x-softprompt-generation"] == "2"
    assert found.headers["x-request-id"]
    assert completion.usage.completion_tokens == 8
    expected = len(base.text.tokenizer("Thing: ruby\nColour:")["input_ids"])
    assert completion.usage.prompt_tokens == expected
    assert completion.usage.total_tokens == expected + 8


def test_a_pinned_digest_is_answered_by_that_prompt(client, base, prompts):
    for key in ("free", "old"):
        said = client.completions.create(model=f"free@sha256:{prompts[key].digest}", prompt="ruby").choices[0].text
        assert said == alone(base, prompts[key], {"text": "ruby"})
    for model in (f"free@sha256:{prompts['talk'].digest}", f"labels@sha256:{prompts['old'].digest}", "free@sha256:" + "0" * 64):
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=model, prompt="ruby")


def test_a_stream_is_the_same_text_in_pieces(client, base, prompts):
    stream = client.completions.create(
        model="free", prompt="ruby", max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text == alone(base, prompts["free"], {"text": "ruby"}, 20)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].text]) > 5, "it comes in pieces"
    assert chunks[-1].usage.completion_tokens == 20
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"


def test_the_async_client_streams_many_at_once(url, base, prompts):
    async def main():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:

            async def one(text):
                stream = await client.chat.completions.create(
                    model="free", messages=[{"role": "user", "content": text}], stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one(f"thing {number}") for number in range(12)))

    found = asyncio.run(main())
    assert found == [alone(base, prompts["free"], {"text": f"thing {number}"}) for number in range(12)]


def test_a_stop_string_across_tokens_ends_the_answer(client, base, prompts):
    whole = alone(base, prompts["free"], {"text": "ruby"}, 20)
    stop = whole[4:7]
    completion = client.completions.create(model="free", prompt="ruby", max_tokens=20, stop=stop)
    assert completion.choices[0].text == whole[: whole.index(stop)].rstrip()
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.completion_tokens < 20
    streamed = client.completions.create(model="free", prompt="ruby", max_tokens=20, stop=[stop, "never"], stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == completion.choices[0].text


def test_seeds_repeat_and_choices_differ(client):
    ask = {"model": "free", "prompt": "ruby", "temperature": 1.5, "n": 4, "max_tokens": 12}
    one, same, other = (client.completions.create(**ask, seed=seed) for seed in (7, 7, 8))
    assert [choice.index for choice in one.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in one.choices] == [choice.text for choice in same.choices]
    assert [choice.text for choice in one.choices] != [choice.text for choice in other.choices]
    assert len({choice.text for choice in one.choices}) > 1
    unseeded = {client.completions.create(**(ask | {"n": 1})).choices[0].text for _ in range(5)}
    assert len(unseeded) > 1, "without a seed each answer is drawn anew"


def test_n_answers_for_each_of_several_texts(client, base, prompts):
    completion = client.completions.create(model="free", prompt=["ruby", "sky"], n=2)
    assert [choice.text for choice in completion.choices] == [
        alone(base, prompts["free"], {"text": text}) for text in ("ruby", "ruby", "sky", "sky")
    ]
    single = client.completions.create(model="free", prompt="ruby")
    assert completion.usage.completion_tokens == 4 * single.usage.completion_tokens


def test_logprobs_are_the_models_own(client, base, prompts):
    completion = client.completions.create(model="free", prompt="ruby", max_tokens=3, logprobs=2)
    found = completion.choices[0].logprobs
    ids = base.text.tokenizer("Thing: ruby\nColour:")["input_ids"]
    embedded = torch.cat([torch.from_numpy(prompts["free"].values), base.embedding(torch.tensor(ids))])[None]
    logits = base.model(inputs_embeds=embedded).logits[0, -1].log_softmax(-1)
    top = logits.topk(2)
    assert found.token_logprobs[0] == pytest.approx(float(top.values[0]), abs=1e-4)
    assert sorted(found.top_logprobs[0].values()) == pytest.approx(sorted(top.values.tolist()), abs=1e-4)
    assert found.tokens[0] == base.text.tokenizer.decode([int(top.indices[0])])
    chat = client.chat.completions.create(
        model="free", messages=[{"role": "user", "content": "ruby"}], max_tokens=3, logprobs=True, top_logprobs=2
    )
    content = chat.choices[0].logprobs.content
    assert [token.token for token in content] == found.tokens
    assert [token.logprob for token in content] == pytest.approx(found.token_logprobs)
    assert len(content[0].top_logprobs) == 2


def test_a_prompt_of_labels_answers_with_its_label(client, base, prompts):
    label = alone(base, prompts["labels"], {"text": "ruby"})
    assert label in LABELS
    completion = client.completions.create(model="labels", prompt="ruby", logprobs=5)
    assert completion.choices[0].text == label
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].logprobs.tokens == [label]
    assert set(completion.choices[0].logprobs.top_logprobs[0]) == set(LABELS)
    chat = client.chat.completions.create(model="labels", messages=[{"role": "user", "content": "ruby"}])
    assert chat.choices[0].message.content == label
    stream = client.chat.completions.create(model="labels", messages=[{"role": "user", "content": "ruby"}], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == label


def test_labels_are_drawn_by_their_probabilities_at_a_temperature(client, url):
    asked = {"model": "labels", "input": "ruby"}
    probabilities = httpx.post(f"{url}/v1/classify", json=asked).json()["probabilities"]
    drawn = [
        choice.text
        for seed in range(20)
        for choice in client.completions.create(model="labels", prompt="ruby", temperature=2, n=8, seed=seed).choices
    ]
    roots = {label: probability**0.5 for label, probability in probabilities.items()}
    for label, root in roots.items():
        share = root / sum(roots.values())
        assert drawn.count(label) / 160 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 160) + 0.01)


def test_classify_gives_probabilities(url, base, prompts):
    reply = httpx.post(f"{url}/v1/classify", json={"model": "labels", "input": "ruby"})
    task = EncodedTask.of_manifest(base.text, prompts["labels"].manifest)
    direct = Predictor(base, task, SoftPrompt(torch.from_numpy(prompts["labels"].values))).predict([{"text": "ruby"}])[0]
    assert reply.json()["label"] == direct.output
    assert list(reply.json()["probabilities"].values()) == pytest.approx(direct.probabilities, abs=1e-5)
    assert reply.headers["x-softprompt-digest"] == f"sha256:{prompts['labels'].digest}"


def test_a_conversation_is_rendered_as_training_rendered_it(client, base, prompts):
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "I"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": [{"type": "text", "text": "i"}, {"type": "text", "text": "t"}]},
    ]
    flat = "<s>[system] S\n[user] I\n[assistant] A\n[user] it\n[assistant]"
    said = client.chat.completions.create(model="talk", messages=messages, max_tokens=4)
    assert said.choices[0].message.content == alone(base, prompts["talk"], {"messages": flat}, 4)
    assert said.usage.prompt_tokens == len(base.text.tokenizer(flat)["input_ids"])


def test_the_values_of_several_fields(url, base, prompts):
    body = {"model": "fields", "prompt": {"one": "x", "two": "y"}}
    reply = httpx.post(f"{url}/v1/completions", json=body).json()
    assert reply["choices"][0]["text"] == alone(base, prompts["fields"], {"one": "x", "two": "y"})


def test_the_bare_base_answers_by_its_own_name_only(client, base, prompts):
    raw = client.completions.with_raw_response.create(model=BASE_NAME, prompt="Where is", max_tokens=6)
    ids = base.text.tokenizer("Where is", return_tensors="pt")["input_ids"]
    stock = base.model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert raw.parse().choices[0].text == base.text.tokenizer.decode(stock, skip_special_tokens=True)
    assert "x-softprompt-digest" not in raw.headers
    for model in ("base", "tiny", "base:", "BASE:TINY", f"{BASE_NAME}@sha256:{'0' * 64}"):
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model=model, prompt="Where is")


COMPLETION = {"model": "free", "prompt": "ruby"}
CHAT = {"model": "free", "messages": [{"role": "user", "content": "ruby"}]}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("completions", COMPLETION | {"suffix": "x"}, "suffix"),
        ("completions", COMPLETION | {"echo": True}, "echo"),
        ("completions", COMPLETION | {"best_of": 2}, "best_of"),
        ("completions", COMPLETION | {"presence_penalty": 0.5}, "presence_penalty"),
        ("completions", COMPLETION | {"logit_bias": {"5": 1}}, "logit_bias"),
        ("completions", COMPLETION | {"prompt_embeds": [1.0]}, "prompt_embeds"),
        ("completions", COMPLETION | {"temperature": -1}, "temperature"),
        ("completions", COMPLETION | {"temperature": "1"}, "temperature"),
        ("completions", COMPLETION | {"top_p": 0}, "top_p"),
        ("completions", COMPLETION | {"n": 17}, "n"),
        ("completions", COMPLETION | {"n": 9}, "n"),
        ("completions", COMPLETION | {"logprobs": 6}, "logprobs"),
        ("completions", COMPLETION | {"stop": ["a"] * 5}, "stop"),
        ("completions", COMPLETION | {"stop": ""}, "stop"),
        ("completions", COMPLETION | {"max_tokens": 0}, "max_tokens"),
        ("completions", COMPLETION | {"max_tokens": 41}, "max_tokens"),
        ("completions", COMPLETION | {"stream_options": {"include_usage": True}}, "stream_options"),
        ("completions", {"model": "free"}, "prompt"),
        ("completions", {"model": "free", "prompt": ""}, "prompt"),
        ("completions", {"model": "free", "prompt": [1, 2]}, "prompt"),
        ("completions", {"model": "free", "prompt": {"other": "x"}}, "prompt"),
        ("completions", {"model": "free", "prompt": "long " * 200}, "prompt"),
        ("completions", {"model": "talk", "prompt": "ruby"}, "prompt"),
        ("completions", {"model": "labels", "prompt": "ruby", "stop": "r"}, "stop"),
        ("chat/completions", CHAT | {"tools": []}, "tools"),
        ("chat/completions", CHAT | {"response_format": {"type": "json_object"}}, "response_format"),
        ("chat/completions", CHAT | {"top_logprobs": 2}, "top_logprobs"),
        ("chat/completions", CHAT | {"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens"),
        ("chat/completions", {"model": "free", "messages": []}, "messages"),
        ("chat/completions", {"model": "free", "messages": [{"role": "system", "content": "x"}] + CHAT["messages"]}, "messages"),
        ("chat/completions", {"model": "free", "messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ("chat/completions", {"model": "fields", "messages": CHAT["messages"]}, "messages"),
        ("chat/completions", {"model": "talk", "messages": [{"role": "robot", "content": "x"}]}, "messages"),
        ("chat/completions", {"model": "talk", "messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        (
            "chat/completions",
            {"model": "talk", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages",
        ),
        ("classify", {"model": "free", "input": "x"}, "model"),
        ("classify", {"model": "labels", "input": {"other": "x"}}, "input"),
        ("classify", {"model": "labels", "input": "long " * 200}, "input"),
        ("classify", {"model": "labels", "input": ""}, "input"),
    ],
)
def test_what_cannot_be_done_is_a_400_that_names_the_parameter(url, path, body, param):
    reply = httpx.post(f"{url}/v1/{path}", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param in error["message"] or error["code"] in ("context_length_exceeded", "unsupported_value", "invalid_value")
    assert "Traceback" not in reply.text
    assert "ruby" not in error["message"], "what was sent is not said again"


def test_parameters_at_the_values_that_change_nothing_are_taken(client):
    client.completions.create(
        model="free", prompt="ruby", presence_penalty=0, frequency_penalty=0.0, logit_bias={}, echo=False, best_of=1, suffix=None
    )
    client.chat.completions.create(**CHAT, response_format={"type": "text"}, store=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b'{"model": NaN}', b"[" * 5000, b'{"model":"free","prompt":"\\ud800"}', b"\xff\xfe"],
)
def test_a_body_that_is_no_request_is_a_400(url, content):
    reply = httpx.post(f"{url}/v1/completions", content=content, headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_too_large_is_refused_unread(url):
    for content in (b"x" * 20_001, (b"x" * 1000 for _ in range(100))):
        reply = httpx.post(f"{url}/v1/completions", content=content)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


def test_unknown_paths_and_methods_have_the_same_form(url):
    assert httpx.get(f"{url}/v2").json()["error"]["code"] == "not_found"
    assert httpx.get(f"{url}/v1/completions").json()["error"]["code"] == "method_not_allowed"


def test_the_description_speaks_of_the_errors_that_there_are(url):
    found = httpx.get(f"{url}/openapi.json").json()
    assert {"/v1/models", "/v1/completions", "/v1/chat/completions", "/v1/classify", "/livez", "/readyz", "/metrics"} <= set(
        found["paths"]
    )
    assert "422" not in json.dumps(found["paths"])
    assert found["components"]["schemas"]["CompletionRequest"]["additionalProperties"] is False


def test_request_ids_of_clients_are_kept_if_they_are_harmless(url):
    assert httpx.get(f"{url}/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert httpx.get(f"{url}/livez", headers={"x-request-id": 'a" b'}).headers["x-request-id"] != 'a" b'
