"""What stands before the test rows: each system's answers are those of a plain computation, and facts are the prompt's own."""

import dataclasses

import numpy as np
import pytest
import torch

from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import load_base_model
from softprompt.data.dataset import read_part
from softprompt.data.input_digests import digests_of, read_seen_inputs, seen_inputs
from softprompt.data.rows import Row
from softprompt.data.validate import validate_dataset
from softprompt.engine.task import EncodedTask
from softprompt.errors import UnsupportedBaseModel, VerificationFailed
from softprompt.evaluation.systems import observe
from softprompt.evaluation.systems.answering import Answering
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.evaluation.systems.facts import relative_norms
from softprompt.evaluation.systems.few_shot import chosen_rows, few_shot
from softprompt.evaluation.systems.latency import _request, added_latency_ms
from softprompt.evaluation.systems.leakage import leaked_rows
from softprompt.resolve import resolve_recipe
from softprompt.tuning.diagnosis import moved
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.stock import Stock, random_prompt

GENERATION = ("type: classification", "type: generation\n  max_new_tokens: 6")


def recipe_text(path, base, rows, *, evaluation="", generation=False):
    text = write_recipe(path, base, rows).read_text()
    text = text.replace("bootstrap_samples: 200", f"bootstrap_samples: 200{evaluation}")
    if generation:
        text = text.replace(*GENERATION).replace("metric: accuracy", "metric: exact_match")
    return text


def short_rows(num_rows):
    """Rows of a few tokens, so that several fit into the tiny base's context."""
    return [{"text": str(number), "colour": ("red", "blue", "green")[number % 3]} for number in range(num_rows)]


def file_for(base, values, *, task="classification", template="Thing: {text}\nColour:", labels=("blue", "green", "red")):
    encoder = EncodedTask.create(base.text, template, ()).encoder
    return PromptFile.build(
        values.numpy(),
        task=task,
        template=template,
        template_examples=encoder.examples(),
        answers=tuple(Answer(label=label, text=f" {label}") for label in labels) if task == "classification" else (),
        max_new_tokens=6,
        base_fingerprint=base.fingerprint,
    )


class Scene:
    """A recipe, its dataset, its base, and a random prompt."""

    def __init__(self, folder, llama, *, generation=False, evaluation="", kind="shallow", rows=None):
        folder.mkdir(exist_ok=True)
        data = write_jsonl(folder / "rows.jsonl", rows or colour_rows(90))
        text = recipe_text(folder / "recipe.yaml", llama, data, evaluation=evaluation, generation=generation)
        self.resolved = resolve_recipe(text.replace("kind: shallow", f"kind: {kind}"))
        self.dataset = folder / "dataset"
        validate_dataset(self.resolved, self.dataset, folder / "report.html")
        self.base = load_base_model(llama)
        self.values = random_prompt(self.base, kind)
        self.file = file_for(self.base, self.values, task=self.resolved.recipe.task.type)
        self.rows = read_part(self.dataset, "test")

    def observe(self, **changes):
        return observe(self.resolved.model_copy(update=changes), self.base, self.file, self.dataset)


@pytest.fixture
def scene(tmp_path, llama_directory):
    return lambda **options: Scene(tmp_path / f"scene-{len(list(tmp_path.iterdir()))}", llama_directory, **options)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_likelihoods_of_right_texts_are_those_of_stock_peft(scene, kind):
    here = scene(generation=True, kind=kind)
    seen = here.observe()
    tokenizer = here.base.text.tokenizer
    for system, values in (("soft_prompt", here.values), ("bare_base", None)):
        stock = Stock(here.base, values)
        for number, row in list(enumerate(here.rows))[:4]:
            ids = tokenizer(f"Thing: {row.inputs['text']}\nColour:")["input_ids"]
            answer = tokenizer(f" {row.target}", add_special_tokens=False)["input_ids"] + [2]
            logits = stock.answer_logits(ids, answer[:-1])
            expected = torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
            assert seen.systems[system].target_nats[number] == pytest.approx(float(expected), rel=1e-4)
            assert seen.systems[system].target_tokens[number] == len(answer)


def test_a_classification_has_probabilities_and_no_likelihoods(scene):
    seen = scene().observe()
    for system in ("soft_prompt", "bare_base"):
        np.testing.assert_allclose(seen.systems[system].probabilities.sum(axis=1), 1, rtol=1e-5)
        assert seen.systems[system].target_nats is None


def test_every_instruction_answers(scene):
    evaluation = ', instruction: "Say: {text}\\nColour:", instructions: {short: "{text}:"}'
    seen = scene(evaluation=evaluation).observe()
    assert [*seen.systems] == ["soft_prompt", "bare_base", "instruction", "instruction_short", "classical"]


def test_an_instruction_that_does_not_fit_is_left_out_and_said(scene):
    seen = scene(evaluation=f', instruction: "{"many words " * 30}{{text}}\\nColour:"').observe()
    assert "instruction" not in seen.systems
    assert "longer than the base model's context" in seen.notes["instruction"]


def test_a_test_row_that_does_not_fit_behind_the_prompt_is_an_error(scene):
    here = scene()
    here.file = file_for(here.base, random_prompt(here.base, "shallow", num_tokens=60))
    with pytest.raises(UnsupportedBaseModel, match="longer than the base model's context"):
        here.observe()


# Few-shot examples


@torch.no_grad()
@pytest.mark.parametrize("generation", [False, True])
def test_examples_are_text_in_front_of_every_row(scene, generation):
    """The independent truth reads the whole text for every row."""
    here = scene(generation=generation, rows=short_rows(90))
    answers = here.file.manifest.answers
    system, note = few_shot(here.base, "{text}:", answers, here.dataset, here.rows, 3, 8)
    assert note == "3 of 3 examples."
    shots = chosen_rows(read_part(here.dataset, "train"), 3, by_label=not generation)
    front = "".join(f"{row.inputs['text']}: {row.target}\n\n" for row in shots)
    found = Answering(here.resolved, 6)(system, here.rows[:3])
    stock, tokenizer = Stock(here.base, None), here.base.text.tokenizer
    for number, row in enumerate(here.rows[:3]):
        ids = tokenizer(f"{front}{row.inputs['text']}:")["input_ids"]
        if generation:
            answer = [*tokenizer(f" {row.target}", add_special_tokens=False)["input_ids"], 2]
            expected = torch.nn.functional.cross_entropy(
                stock.answer_logits(ids, answer[:-1]), torch.tensor(answer), reduction="sum"
            )
            assert found.target_nats[number] == pytest.approx(float(expected), rel=1e-4)
        else:
            said = [tokenizer(f" {label}", add_special_tokens=False)["input_ids"] for label in system.task.labels]
            space, letters = {tokens[0] for tokens in said}, [tokens[1] for tokens in said]
            assert len(space) == 1
            assert len(set(letters)) == 3, "the labels part at their first letter"
            expected = torch.softmax(stock.answer_logits(ids, [*space])[-1][letters], dim=0)
            np.testing.assert_allclose(found.probabilities[number], expected.numpy(), rtol=1e-4)


def test_examples_are_of_every_label_in_turn_and_do_not_depend_on_the_order_of_rows():
    rows = [Row(str(n), n, {"text": f"text {n}"}, "abc"[n % 3 if n < 9 else 0]) for n in range(60)]
    chosen = chosen_rows(rows, 7, by_label=True)
    assert [row.target for row in chosen] == ["a", "b", "c", "a", "b", "c", "a"]
    assert chosen_rows(rows[::-1], 7, by_label=True) == chosen
    of_a = sorted((row for row in rows if row.target == "a"), key=lambda row: row.input_digest)
    assert [row for row in chosen if row.target == "a"] == of_a[:3]
    assert chosen_rows(rows, 99, by_label=True)[-1].target == "a"
    assert len(chosen_rows(rows, 99, by_label=True)) == 60
    assert chosen_rows(rows, 5, by_label=False) == sorted(rows, key=lambda row: row.input_digest)[:5]


def test_as_many_examples_as_the_context_takes(scene):
    here = scene(evaluation=', few_shot: 20, instruction: "{text}:"', rows=short_rows(90))
    seen = here.observe()
    fitted = int(seen.notes["few_shot"].split()[0])
    assert 2 < fitted < 20
    assert "64 tokens takes no more" in seen.notes["few_shot"]
    assert len(seen.systems["few_shot"].outputs) == len(here.rows)
    assert seen.systems["few_shot"].outputs != seen.systems["instruction"].outputs


def test_where_no_example_fits_there_is_no_such_system(scene):
    seen = scene(evaluation=", few_shot: 2").observe()
    assert "few_shot" not in seen.systems
    assert seen.notes["few_shot"].startswith("Not compared: 0 of 2 examples")


def test_braces_in_an_example_are_text(scene):
    rows = [row | {"text": row["text"] + " {text}"} for row in short_rows(60)]
    here = scene(rows=rows)
    system, _ = few_shot(here.base, "{text}:", here.file.manifest.answers, here.dataset, here.rows, 1, 4)
    assert "{text}: " in here.base.text.tokenizer.decode(_nearest_tokens(system))


def _nearest_tokens(system):
    table = system.base.embedding.weight
    return [int((table - vector).norm(dim=1).argmin()) for vector in system.prompt.values]


# The prompt's own numbers


def test_norms_of_a_shallow_prompt_are_relative_to_the_largest_embedding(scene):
    here = scene()
    soft = BaseSystem.of_file(here.base, here.file)
    largest = here.base.model.get_input_embeddings().weight.norm(dim=1).max()
    expected = (here.values.norm(dim=1) / largest).numpy()
    np.testing.assert_allclose(relative_norms(soft, here.file, here.rows), expected, rtol=1e-6)
    table = here.base.model.get_input_embeddings().weight
    longest = file_for(here.base, table[table.norm(dim=1).argmax()][None].detach().clone())
    assert relative_norms(soft, longest, here.rows) == pytest.approx([1.0])
    assert here.base.largest_embedding_norm == pytest.approx(float(largest))


def test_norms_of_a_deep_prompt_are_relative_to_the_keys_and_values_of_real_tokens(scene):
    here = scene(kind="deep")
    soft = BaseSystem.of_file(here.base, here.file)
    norms = relative_norms(soft, here.file, here.rows)
    assert norms.shape == (2 * 2 * 5,)
    ids = [token for row in soft.input_ids(here.rows) for token in row][:64]
    cache = here.base.model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
    real = [side[0].transpose(0, 1).flatten(1).norm(dim=1).max() for layer in cache.layers for side in (layer.keys, layer.values)]
    mine = here.values.flatten(3).norm(dim=-1).reshape(4, 5)
    np.testing.assert_allclose(norms.reshape(4, 5), (mine / torch.stack(real)[:, None]).detach().numpy(), rtol=1e-4)


def test_facts_say_what_the_prompt_takes(scene):
    here = scene()
    facts = here.observe().facts
    assert facts.num_tokens == 5
    assert facts.num_bytes == len(here.file.tensor) + len(here.file.manifest.to_bytes())
    assert facts.finite
    assert facts.moved is None, "no training log was given"
    assert len(facts.latency_ms) == 30


def test_how_far_a_prompt_moved():
    assert moved(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 3.0]])) == pytest.approx(0.2)


def test_added_time_is_the_difference_of_requests_that_take_turns(scene, monkeypatch):
    """By a clock of our own: a request with the prompt takes 7 ms, one without 5 ms, and which comes first alternates."""
    here, clock, order = scene(), [0.0], []

    def request(system, row):
        def work():
            order.append(bool(system.prompt))
            clock[0] += 0.007 if system.prompt else 0.005

        return work

    monkeypatch.setattr("softprompt.evaluation.systems.latency._request", request)
    monkeypatch.setattr("softprompt.evaluation.systems.latency.time.perf_counter", lambda: clock[0])
    found = added_latency_ms(BaseSystem.of_file(here.base, here.file), here.rows, 4)
    np.testing.assert_allclose(found, [2.0] * 4)
    assert order[-8:] == [True, False, False, True] * 2


def test_a_request_answers_as_the_predictor_does(scene):
    for generation in (False, True):
        here = scene(generation=generation)
        soft = BaseSystem.of_file(here.base, here.file)
        row = soft.input_ids(here.rows)[0]
        found = _request(soft, row)()
        expected = soft.predictor(here.resolved.recipe.evaluation, 16).predict_ids([row])[0]
        if generation:
            assert len(found[0]) == 16, "whatever it says, as many tokens with a prompt as without"
        else:
            np.testing.assert_allclose(found.exp()[0].numpy(), expected.probabilities, rtol=1e-5)


# Rows that were seen


def test_leaked_rows_are_found_whatever_their_case_and_spaces(scene):
    here = scene()
    train = read_part(here.dataset, "train")
    planted = dataclasses.replace(here.rows[1], inputs={"text": "  " + train[0].inputs["text"].upper()})
    assert leaked_rows(here.rows, here.dataset) == ()
    assert leaked_rows([here.rows[0], planted, here.rows[2]], here.dataset) == (1,)


def test_seen_inputs_are_those_of_training_and_validation_in_any_order(scene):
    here = scene()
    data = seen_inputs(here.dataset)
    known = read_seen_inputs(data, source="here")
    rows = [row for part in ("train", "validation") for row in read_part(here.dataset, part)]
    assert set(known.tolist()) == {int(row.input_digest[:16], 16) for row in rows}
    assert not set(known.tolist()) & set(digests_of(here.rows).tolist())
    assert len(data) == 8 * len({row.input_digest for row in rows})


@pytest.mark.parametrize("data", [b"seven..", b"\0" * 16, b"\1" + b"\0" * 15])
def test_a_file_that_holds_no_seen_inputs_is_refused(data):
    with pytest.raises(VerificationFailed, match="seen inputs"):
        read_seen_inputs(data, source="here")


def test_a_dataset_of_too_many_rows_keeps_no_digests(scene, monkeypatch):
    monkeypatch.setattr("softprompt.data.input_digests.MOST_DIGESTS", 3)
    assert seen_inputs(scene().dataset) is None
