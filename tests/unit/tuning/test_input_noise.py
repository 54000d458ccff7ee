"""Noise on the input: as much as was asked for, out of the batch's own tokens, and nothing of what all rows share."""

from dataclasses import replace

import pytest
import torch

from softprompt.engine.batches import Example
from softprompt.engine.encoding import TextEncoder
from softprompt.tuning.input_noise import InputNoise
from softprompt.tuning.loop import LoopState, Trained, run_loop
from softprompt.tuning.workers import Workers
from tests.variations import job_with

BEGIN, END, SPECIAL = [1, 2], [3], 9
ROWS = [Example([*BEGIN, *range(10 + 100 * row, 110 + 100 * row), SPECIAL, *END], [5, 0], row, row) for row in range(20)]
NOISE = InputNoise(share=0.3, seed=0, begin=len(BEGIN), end=len(END), special=frozenset({SPECIAL}))


def test_so_many_tokens_become_tokens_of_the_batch_and_the_ends_stay():
    noisy = NOISE(ROWS, 0)
    bodies = [(row.input_ids[2:-2], read.input_ids[2:-2]) for row, read in zip(ROWS, noisy, strict=True)]
    changed = sum(old != new for body in bodies for old, new in zip(*body, strict=True))
    assert 0.3 * 2000 * 0.9 < changed < 0.3 * 2000 * 1.1
    assert {token for _, new in bodies for token in new} <= {token for row in ROWS for token in row.input_ids[2:-2]}
    # Drawn from all rows alike: a row's own hundred tokens are a twentieth of what comes in.
    own = sum(old != new and new in body[0] for body in bodies for old, new in zip(*body, strict=True))
    assert own < 0.1 * changed
    for row, read in zip(ROWS, noisy, strict=True):
        assert read.input_ids[:2] == BEGIN
        assert read.input_ids[-2:] == [SPECIAL, *END]
        assert replace(read, input_ids=row.input_ids) == row


def test_a_step_decides_what_changes_and_nothing_else_does():
    before = [list(row.input_ids) for row in ROWS]
    assert NOISE(ROWS, 4) == NOISE(ROWS, 4)
    assert NOISE(ROWS, 4) != NOISE(ROWS, 5)
    assert NOISE(ROWS, 4) != replace(NOISE, seed=1)(ROWS, 4)
    assert [row.input_ids for row in ROWS] == before


@pytest.mark.parametrize("input_ids", [[1, 2, 3], [1, 2], [1]])
def test_a_row_of_nothing_but_its_template_stays(input_ids):
    row = Example(input_ids, [5, 0], 0)
    noise = replace(NOISE, share=0.99)
    assert noise([row], 0) == [row]
    assert noise([ROWS[0], row], 0)[1] == row


def test_of_a_template_its_beginning_and_end_are_kept(job):
    encoder = TextEncoder(job.base.text, "Message of a customer: {text}\nAnswer:")
    noise = InputNoise.of(encoder, 0.1, seed=7)
    assert noise is not None
    assert (noise.share, noise.seed) == (0.1, 7)
    ids = encoder.input_ids({"text": "red and blue"})
    kept = encoder.tokenizer.decode(ids[: noise.begin]), encoder.tokenizer.decode(ids[len(ids) - noise.end :])
    assert kept[0].endswith("Message of a customer:")
    assert kept[1] == "\nAnswer:"
    assert noise.special == set(encoder.tokenizer.all_special_ids)
    assert InputNoise.of(encoder, 0.0, seed=7) is None


def test_a_conversations_markers_are_no_words():
    """Between the turns of a chat template stand special tokens, in every row and not at its ends only."""
    noise = replace(NOISE, share=0.9, begin=0, end=0)
    row = Example([20, 21, SPECIAL, 22, 23, SPECIAL, 24], [5], 0)
    read = noise([row], 0).pop().input_ids
    assert [place for place, token in enumerate(read) if token == SPECIAL] == [2, 5]
    assert read != row.input_ids


@pytest.mark.parametrize(
    ("kind", "task", "asked", "num_rows", "share"),
    [
        ("deep", "classification", None, 100, 0.1),
        ("deep", "classification", None, 101, 0),
        ("shallow", "classification", None, 100, 0),
        ("deep", "generation", None, 100, 0),
        ("deep", "classification", 0.0, 100, 0),
        ("shallow", "generation", 0.3, 1000, 0.3),
    ],
)
def test_where_rows_can_be_learned_by_heart_there_is_noise_unless_the_recipe_says_otherwise(
    resolved, kind, task, asked, num_rows, share
):
    changes = {
        "prompt": {"kind": kind},
        "task": {"type": task},
        "training": {"steps": 50, "batch_size": 10, "input_noise": asked},
    }
    recipe = resolved.recipe
    changed = {part: getattr(recipe, part).model_copy(update=update) for part, update in changes.items()}
    assert recipe.model_copy(update=changed).input_noise(num_rows) == share


def train(job, state=None, report=lambda state: None):
    return run_loop(job, 0, job.candidates[0], state or LoopState.begin(job, job.candidates[0]), Workers(), report)


def test_training_rows_are_noisy_and_validation_rows_are_not(job):
    still = {"steps": 1, "learning_rate": 1e-12}
    plain, noisy = (train(job_with(job, **still, input_noise=noise)).measurements[0] for noise in (0.0, 0.5))
    assert noisy.training_loss != pytest.approx(plain.training_loss, rel=1e-5)
    assert noisy.validation_loss == pytest.approx(plain.validation_loss, rel=1e-6)


def test_a_noisy_training_goes_on_to_the_same_bits(job):
    job = job_with(job, steps=12, validate_every_steps=4, input_noise=0.3)
    kept = []

    def values(state):
        return Trained.at(job, 0, job.candidates[0], state).module.prompt().values.detach()

    def keep(state):
        kept.append(replace(state, parameters=dict(state.parameters), measurements=list(state.measurements)))

    whole = values(train(job, report=keep))
    assert [state.step for state in kept] == [4, 8, 12]
    assert torch.equal(values(train(job, kept[0])), whole)
