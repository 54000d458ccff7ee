"""Where a prompt starts, each initialiser by its own definition."""

from collections import Counter

import pytest
import torch

from softprompt.artifact import PromptFile
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.real_tokens import token_values
from softprompt.engine.strategy import choose_strategy
from softprompt.errors import FingerprintMismatch, InvalidRecipe
from softprompt.recipe.prompt import ClassLabelsInit, ExamplesInit, FrequentTokensInit, PromptInit, RandomInit, TextInit
from softprompt.tuning.initialisers import (
    from_class_labels,
    from_examples,
    from_frequent_tokens,
    from_random,
    from_text,
    initial_prompt,
    trained_numbers,
)
from tests.builders import prompt_file
from tests.families import tiny_base


def start(job, init, kind="shallow", num_tokens=4, seed=0):
    return initial_prompt(job.base, job.task, job.train, kind, num_tokens, init, seed)


def test_frequent_tokens_are_the_most_frequent_and_none_comes_twice(job):
    counts = Counter(token for example in job.train for token in example.input_ids)
    top = {token for token, _ in counts.most_common(12)}
    drawn = from_frequent_tokens(job.train, 8, 12, torch.Generator().manual_seed(0))
    least = min(counts[token] for token in top)
    assert len(set(drawn)) == 8
    assert all(counts[token] >= least for token in drawn)


def test_class_labels_follow_each_other_and_repeat(job):
    words = [token for answer in job.task.answers for token in job.task.encoder.answer_ids(answer.text)]
    assert from_class_labels(job.task, len(words) + 2) == words + words[:2]


def test_examples_are_rows_with_their_answers_one_of_each_label_in_turn(job):
    labels = len({example.answer for example in job.train})
    longest = sum(example.num_tokens for example in job.train)
    tokens = from_examples(job.train, longest, torch.Generator().manual_seed(0))
    found = []
    while tokens:
        example = next(row for row in job.train if tokens[: row.num_tokens] == [*row.input_ids, *row.answer_ids])
        found.append(example.answer)
        tokens = tokens[example.num_tokens :]
    assert len(found) == len(job.train)
    assert all(len(set(found[at : at + labels])) == labels for at in (0, labels))
    assert (
        from_examples(job.train, 7, torch.Generator().manual_seed(0))
        == from_examples(job.train, longest, torch.Generator().manual_seed(0))[:7]
    )


def test_a_text_is_repeated_or_cut(job):
    ids = from_text(job.task, "Which colour", 100)
    once = job.task.encoder.answer_ids("Which colour")
    assert ids == (once * 100)[:100]


def test_a_shallow_prompt_starts_on_embeddings(job):
    values = start(job, TextInit(method="text", text="Which")).values
    ids = torch.tensor(from_text(job.task, "Which", 4))
    torch.testing.assert_close(values, job.base.embedding(ids))


def test_a_deep_prompt_starts_as_the_keys_and_values_of_its_tokens(job):
    """Then it does exactly what these tokens do in front of a text."""
    ids, row = from_text(job.task, "Which", 4), torch.tensor([[10, 11, 12]])
    strategy = choose_strategy(job.base, "deep")
    with torch.no_grad():
        deep, _ = strategy.start(strategy.prefix(start(job, TextInit(method="text", text="Which"), kind="deep")), row)
        real = job.base.model.model(input_ids=torch.cat([torch.tensor([ids]), row], dim=1)).last_hidden_state[:, -1]
    torch.testing.assert_close(deep, real, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["shallow", "deep"])
@pytest.mark.parametrize(
    "init",
    [FrequentTokensInit(), ExamplesInit(method="examples"), ClassLabelsInit(method="class_labels"), RandomInit(method="random")],
)
def test_the_seed_fixes_the_start(job, kind, init):
    first, again = start(job, init, kind, num_tokens=40).values, start(job, init, kind, num_tokens=40).values
    assert torch.equal(first, again)
    if not isinstance(init, ClassLabelsInit):
        assert not torch.equal(first, start(job, init, kind, num_tokens=40, seed=1).values)


def test_noise_has_the_scale_of_the_table(job):
    values = start(job, RandomInit(method="random"), num_tokens=200).values
    assert values.square().mean().sqrt().item() == pytest.approx(job.base.embedding_rms, rel=0.1)


def test_deep_noise_has_each_layers_scale(job):
    values = from_random(job.base, "deep", 200, torch.Generator().manual_seed(0)).values
    real = token_values(job.base, list(range(3, 203)), "deep")
    mine, theirs = (v.square().mean(dim=(2, 3, 4)).sqrt() for v in (values, real))
    torch.testing.assert_close(mine, theirs, rtol=0.25, atol=0)


@pytest.mark.parametrize("init", [FrequentTokensInit(), RandomInit(method="random")])
def test_keys_start_without_what_turns_further_than_a_radian_over_a_mean_row(job, init):
    """As Llama defines it: pair i of D / 2 turns by theta ** (-2 i / D) a place, and its numbers stand at i and i + D / 2."""
    values, config = start(job, init, "deep", num_tokens=40).values, job.base.model.config
    size, mean = values.shape[-1], sum(example.num_tokens for example in job.train) / len(job.train)
    pairs = config.rope_parameters["rope_theta"] ** (-2 * torch.arange(size // 2) / size)
    slowest_half = torch.arange(size // 2) >= size // 4
    still = torch.cat([(pairs * mean <= 1) | slowest_half] * 2)
    assert 0 < still.sum() < size
    assert (values[:, 0, ..., ~still] == 0).all()
    assert (values[:, 0, ..., still] != 0).all()
    assert (values[:, 1] != 0).all()
    assert torch.equal(trained_numbers(job.base, job.train)[:, 0].flatten(1), still.expand(len(values), -1))


def test_a_prompt_of_the_same_base_is_a_start(job, tmp_path):
    prompt = SoftPrompt(torch.randn(4, 32))
    file = prompt_file(fingerprint=job.base.fingerprint, width=32)
    file.write(tmp_path / "prompt")
    started = start(job, PromptInit(method="prompt", uri=(tmp_path / "prompt").as_uri()))
    assert (started.to_array() == PromptFile.read(tmp_path / "prompt").values).all()
    assert prompt.kind == started.kind


def test_a_prompt_of_another_base_or_shape_is_refused(job, tmp_path):
    prompt_file(width=32).write(tmp_path / "other")
    with pytest.raises(FingerprintMismatch):
        start(job, PromptInit(method="prompt", uri=(tmp_path / "other").as_uri()))
    prompt_file(fingerprint=job.base.fingerprint, width=32, num_tokens=5).write(tmp_path / "longer")
    with pytest.raises(InvalidRecipe, match="a longer one") as caught:
        start(job, PromptInit(method="prompt", uri=(tmp_path / "longer").as_uri()))
    assert "num_tokens: 5" in caught.value.hint


@pytest.mark.parametrize("any_base", [False, True])
@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_a_shorter_prompt_is_filled_up_with_frequent_tokens(job, tmp_path, kind, any_base):
    short = from_random(job.base, kind, 3, torch.Generator().manual_seed(1))
    PromptFile.build(short.to_array(), **_same(prompt_file(fingerprint=job.base.fingerprint))).write(tmp_path / "short")
    init = PromptInit(method="prompt", uri=(tmp_path / "short").as_uri(), any_base=any_base)
    first, filling = start(job, init, kind, num_tokens=7).values.split([3, 4], dim=0 if kind == "shallow" else 2)
    assert torch.equal(first, short.values)
    assert torch.equal(filling, start(job, FrequentTokensInit(), kind, num_tokens=4).values)


def test_any_base_takes_the_numbers_of_a_prompt_of_another_base_where_they_fit(job, tmp_path, capsys):
    prompt_file(width=32).write(tmp_path / "other")
    init = PromptInit(method="prompt", uri=(tmp_path / "other").as_uri(), any_base=True)
    assert (start(job, init).to_array() == PromptFile.read(tmp_path / "other").values).all()
    assert "starting from prompt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 48}, "hidden size 48"),
        ({"width": 32, "num_tokens": 5}, "shallow, 5 tokens"),
        ({"deep": True}, "deep, 4 tokens"),
    ],
)
def test_any_base_starts_as_usual_where_a_prompt_does_not_fit_and_says_why(job, tmp_path, capsys, changes, reason):
    prompt_file(**changes).write(tmp_path / "other")
    started = start(job, PromptInit(method="prompt", uri=(tmp_path / "other").as_uri(), any_base=True), seed=3)
    assert torch.equal(started.values, start(job, FrequentTokensInit(), seed=3).values)
    said = capsys.readouterr().out
    assert reason in said
    assert "starting from frequent tokens" in said


def test_any_base_takes_no_numbers_that_a_base_could_not_have_met(job, tmp_path, capsys):
    wild = prompt_file(width=32)
    PromptFile.build(wild.values * 1e6, **_same(wild)).write(tmp_path / "wild")
    start(job, PromptInit(method="prompt", uri=(tmp_path / "wild").as_uri(), any_base=True))
    assert "does not fit" in capsys.readouterr().out


def _same(file):
    """What a prompt file says of itself besides its numbers."""
    manifest = file.manifest
    names = ("task", "template", "template_examples", "answers", "max_new_tokens", "base_fingerprint")
    return {name: getattr(manifest, name) for name in names}


@pytest.mark.parametrize("family", ["t5", "t5-uneven", "bart"])
@torch.no_grad()
def test_a_deep_prompt_of_a_decoder_starts_as_the_keys_and_values_of_its_tokens(family):
    """Then it does exactly what these tokens do in front of the decoder's own, where the encoder reads them, too."""
    base, ids = tiny_base(family), torch.tensor([[20, 21, 22, 23, 24]])
    strategy = choose_strategy(base, "deep")
    values = token_values(base, ids[0].tolist(), "deep")
    deep, _ = strategy.start(strategy.prefix(SoftPrompt(values)), ids)
    said = torch.cat([ids, torch.tensor([[base.model.config.decoder_start_token_id]])], dim=1)
    encoded = base.model.get_encoder()(input_ids=ids).last_hidden_state
    real = base.model.get_decoder()(input_ids=said, encoder_hidden_states=encoded).last_hidden_state[:, -1]
    torch.testing.assert_close(deep, real, rtol=1e-4, atol=1e-5)
    assert values.shape[0] % 2 == 1
    assert from_random(base, "deep", 5, torch.Generator()).values.shape == values.shape
