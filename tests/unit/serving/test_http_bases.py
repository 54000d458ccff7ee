"""Over real HTTP, bases and prompts of other kinds say what evaluation says: half precision, 8 bits, deep prompts, T5."""

import contextlib

import httpx
import openai
import pytest
import torch

from softprompt.base_model import load_base_model
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.numerics import NUMERICS
from softprompt.release.store import open_store
from tests.serving_node import TEMPLATE, StatedChannel, alone, make_prompt, name, node_of, server_of
from tests.stock import random_prompt

TEXTS = ("ruby", "sky and sea", "grass 7", "x")


@contextlib.contextmanager
def served(base, files, s3, folder, numerics="float32", **options):
    """(client, URL) of a node that serves these by name, warm."""
    channel = StatedChannel(folder, open_store(f"s3://softprompt/{folder.name}", s3.access), base)
    channel.state({key: name(file, pinned=True) for key, file in files.items()}, numerics=(numerics,))
    with (
        node_of(channel, numerics=numerics, **options) as node,
        server_of(node) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=60) as client,
    ):
        yield client, url


def prompts_of(base, *kinds):
    """Two free prompts and one of labels, of these kinds in turn and of lengths of their own."""
    tasks = {"one": "generation", "two": "generation", "labels": "classification"}
    return {
        key: make_prompt(
            base, 0, task=task, template=TEMPLATE, values=random_prompt(base, kinds[n % len(kinds)], 4 + n, n).numpy()
        )
        for n, (key, task) in enumerate(tasks.items())
    }


def assert_answers(client, url, base, files, *, together=True):
    """Streamed, whole, in one batch or alone: what the prompt says when it is evaluated."""
    expected = {key: [alone(base, file, {"text": text}) for text in TEXTS] for key, file in files.items()}
    assert all(a != b for a, b in zip(expected["one"], expected["two"], strict=True)), "each prompt says something of its own"
    for key, file in files.items():
        asked = [list(TEXTS)] if together else [[text] for text in TEXTS]
        raws = [client.completions.with_raw_response.create(model=key, prompt=prompt) for prompt in asked]
        assert {raw.headers["x-softprompt-digest"] for raw in raws} == {f"sha256:{file.digest}"}
        assert [choice.text for raw in raws for choice in raw.parse().choices] == expected[key]
        stream = client.completions.create(model=key, prompt=TEXTS[0], stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == expected[key][0]
    reply = httpx.post(f"{url}/v1/classify", json={"model": "labels", "input": TEXTS[0]})
    task = EncodedTask.of_manifest(base.text, files["labels"].manifest)
    direct = Predictor(base, task, SoftPrompt(torch.from_numpy(files["labels"].values))).predict([{"text": TEXTS[0]}])[0]
    assert list(reply.json()["probabilities"].values()) == pytest.approx(direct.probabilities, abs=1e-5)


@pytest.mark.parametrize("numerics", [name for name in NUMERICS if name != "float32"])
def test_a_base_in_another_number_format(numerics, llama_directory, s3_server, tmp_path):
    base = load_base_model(llama_directory, dtype=numerics)
    files = prompts_of(base, "shallow", "deep")
    with served(base, files, s3_server, tmp_path, numerics) as (client, url):
        assert_answers(client, url, base, files, together=False)  # near ties: rounding of half precision moves with the batch


def test_deep_prompts_beside_shallow_ones_and_the_bare_base(llama_directory, s3_server, tmp_path):
    base = load_base_model(llama_directory)
    files = prompts_of(base, "deep")
    shallow = make_prompt(base, 3, task="generation", template=TEMPLATE)
    with served(base, files | {"shallow": shallow}, s3_server, tmp_path, base_name="base:tiny") as (client, url):
        assert_answers(client, url, base, files | {"shallow": shallow})
        bare = client.completions.create(model="base:tiny", prompt="Where is", max_tokens=6).choices[0].text
    ids = base.text.tokenizer("Where is", return_tensors="pt")["input_ids"]
    stock = base.model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert bare == base.text.tokenizer.decode(stock, skip_special_tokens=True)


@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_an_encoder_decoder_base(kind, t5_directory, s3_server, tmp_path):
    base = load_base_model(t5_directory)
    draw = torch.Generator().manual_seed(2)
    for parameter in base.model.parameters():
        if parameter.ndim == 2:  # wide weights: a random model whose answers a prompt can change
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.5
    files = prompts_of(base, kind)
    with served(base, files, s3_server, tmp_path) as (client, url):
        assert_answers(client, url, base, files)
