"""A published prompt file is a stock PEFT checkpoint: `PeftModel.from_pretrained` gives our logits at every position."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.engine.head import Head
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import choose_strategy

TOLERANCE = 1e-4
TEXTS = ["Thing: ruby number 1\nColour:", "Thing: sea\nColour: blue", "a"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def ids_of(base, text):
    return torch.tensor([AutoTokenizer.from_pretrained(base)(text).input_ids])


def ours(base_directory, prompt_directory, ids):
    """Logits `[T, V]`: the first token read behind the prompt, the others as they would be in an answer."""
    base = load_base_model(base_directory)
    soft = SoftPrompt(torch.from_numpy(PromptFile.read(prompt_directory).values)) if prompt_directory else None
    strategy = choose_strategy(base, soft.kind if soft else None)
    with torch.no_grad():
        first, rows = strategy.start(strategy.prefix(soft), ids[:, :1])
        hidden = torch.cat([first[:, None], rows.extend(ids[:, 1:])], dim=1) if ids.shape[1] > 1 else first[:, None]
        return Head(base)(hidden[0])


def pefts(base_directory, prompt_directory, ids):
    """The same from the hub's model and PEFT's own reader; what it says of the prompt's positions is left out."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_directory), str(prompt_directory)).eval()
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -ids.shape[1] :]


def assert_same(base, prompt):
    for text in TEXTS:
        ids = ids_of(base, text)
        mine, theirs = ours(base, prompt, ids), pefts(base, prompt, ids)
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() < TOLERANCE
        assert (mine - ours(base, None, ids)).abs().max() > 100 * TOLERANCE, "a prompt without influence would prove nothing"


def test_a_shallow_prompt_that_a_run_published(passed_run):
    assert_same(passed_run.base, passed_run.output("tune_prompt", "prompt"))


def test_a_deep_prompt_that_a_run_trained(rejected_run):
    assert_same(rejected_run.base, rejected_run.output("tune_prompt", "prompt"))


def test_a_deep_prompt_in_bfloat16(rejected_run, tmp_path):
    trained = PromptFile.read(rejected_run.output("tune_prompt", "prompt"))
    fields = {name: getattr(trained.manifest, name) for name in ("task", "template", "template_examples", "answers")}
    fields |= {"max_new_tokens": 8, "base_fingerprint": trained.manifest.base_fingerprint}
    PromptFile.build(trained.values, dtype="bfloat16", **fields).write(tmp_path / "prompt")
    assert_same(rejected_run.base, tmp_path / "prompt")
