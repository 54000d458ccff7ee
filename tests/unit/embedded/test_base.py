"""The embedded base model: small, as recorded, sound to load, and able to do what it ships for."""

import hashlib
import json

import pytest

from softprompt.base_model import load_base_model
from softprompt.embedded import pretrain
from softprompt.embedded.phrases import FOLDER
from softprompt.embedded.tickets import DATASET

BASE = FOLDER / "base"


@pytest.fixture(scope="module")
def base():
    return load_base_model(BASE)


@pytest.fixture(scope="module")
def record():
    return json.loads((BASE / pretrain.RECORD).read_text())


def test_weights_are_those_of_the_record(record):
    weights = (BASE / "model.safetensors").read_bytes()
    assert record["model.safetensors"] == {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}


def test_record_holds_seed_settings_and_a_falling_loss(record):
    assert pretrain.Settings(**record["settings"]) == pretrain.Settings(), "shipped with the script's defaults"
    losses = [row["held_out_loss"] for row in record["log"]]
    assert record["log"][-1]["step"] == record["settings"]["steps"]
    assert losses[-1] < losses[0] / 2
    assert record["log"][-1]["seconds"] < 300


def test_it_is_small(base, record):
    assert base.num_parameters == record["parameters"] <= 3_000_000
    assert (BASE / "model.safetensors").stat().st_size <= 6_000_000
    assert not list(BASE.glob("*.bin")) + list(BASE.glob("*.pt"))
    assert base.model.config.model_type == "llama"


def test_tokenizer_gives_back_any_text(base):
    tokenizer = base.text.tokenizer
    for text in ("Order 482136 is late!", "naïve café, 5 €", "日本語", "tab\tand  spaces\n"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_every_ticket_fits_the_context_with_room_to_spare(base):
    texts = [json.loads(line)["text"] for line in DATASET.read_text(encoding="utf-8").splitlines()]
    assert max(len(ids) for ids in base.text.tokenizer(texts).input_ids) < base.text.context_tokens / 2


def test_a_short_pretraining_writes_a_base_that_loads(tmp_path):
    """The script from end to end, a few steps of it."""
    settings = pretrain.Settings(
        documents=300, vocabulary=400, hidden=16, layers=1, heads=2, intermediate=32, context_tokens=32, steps=12, warmup_steps=2
    )
    seen = []
    pretrain.pretrain(tmp_path / "base", settings, seen.append)
    tiny = load_base_model(tmp_path / "base")
    recorded = json.loads((tmp_path / "base" / pretrain.RECORD).read_text())
    assert tiny.num_parameters == recorded["parameters"]
    assert recorded["settings"]["steps"] == seen[-1].step == 12
    assert tiny.text.context_tokens == 32


def test_pretraining_learns(tmp_path):
    """On a stream with one pattern the loss falls to almost nothing; a broken optimiser or shift would not."""
    import torch

    settings = pretrain.Settings(vocabulary=300, hidden=32, layers=1, heads=2, intermediate=32, context_tokens=16, steps=200)
    stream = torch.tensor([5, 9, 7, 3] * 200)
    log = pretrain.fit(pretrain.build_model(settings), stream, torch.cat([stream, stream]), settings)
    assert log[-1].held_out_loss < 0.1
