"""The champion: fetched from a real store by digest, compared on rows that it has not seen, or left out with the reason."""

import os

import numpy as np
import pytest
import torch

from softprompt.artifact import Answer, PromptFile
from softprompt.base_model import load_base_model
from softprompt.data.dataset import read_part
from softprompt.data.input_digests import seen_inputs
from softprompt.data.rows import Row
from softprompt.data.validate import validate_dataset
from softprompt.deployment import laptop
from softprompt.documents import sha256_hex
from softprompt.engine.encoding import TextEncoder
from softprompt.evaluation.gates.metric import judge_metric
from softprompt.evaluation.observations import Answers
from softprompt.evaluation.systems import observe
from softprompt.evaluation.systems.champion import find_champion, under_labels
from softprompt.recipe.gates import MetricGate
from softprompt.release.blobs import prompt_blobs, put_blobs
from softprompt.release.statement import Served, Share
from softprompt.release.store import open_store
from softprompt.resolve import Overrides, ResolvedChampion, resolve_recipe
from softprompt.run_channel import SEEN_INPUTS_FILE, champion_of, dataset_evidence, prepare_run, publish_run
from softprompt.settings import Settings
from tests.builders import colour_rows, save_llama, write_jsonl, write_recipe
from tests.stock import random_prompt
from tests.unit.evaluation.reports import report

TEMPLATE, LABELS = "Thing: {text}\nColour:", ("blue", "green", "red")
BASE, OTHER = "a" * 64, "b" * 64


class Shop:
    """A laptop with a store and a channel, a base, a recipe with its dataset, and prompts."""

    def __init__(self, folder, base_directory):
        self.settings = Settings.from_environment({"SOFTPROMPT_HOME": str(folder / "home")})
        self.base = load_base_model(base_directory)
        data = write_jsonl(folder / "rows.jsonl", colour_rows(90))
        self.text = write_recipe(folder / "recipe.yaml", base_directory, data).read_text()
        self.resolved = resolve_recipe(self.text)
        self.dataset = folder / "dataset"
        validate_dataset(self.resolved, self.dataset, folder / "report.html")
        self.rows = read_part(self.dataset, "test")
        self.folder = folder

    @property
    def store(self):
        return open_store(self.settings.store)

    def prompt(self, seed, **changes):
        fields = {
            "task": "classification",
            "template": TEMPLATE,
            "template_examples": TextEncoder(self.base.text, TEMPLATE).examples(),
            "answers": tuple(Answer(label=label, text=f" {label}") for label in LABELS),
            "max_new_tokens": 4,
            "base_fingerprint": self.base.fingerprint,
        }
        return PromptFile.build(random_prompt(self.base, "shallow", seed=seed).numpy(), **(fields | changes))

    def stored(self, seed=1, seen=None, **changes):
        """A prompt's blobs in the store, as the resolving step would name them."""
        file = self.prompt(seed, **changes)
        put_blobs(self.store, prompt_blobs(file) | ({sha256_hex(seen): seen} if seen else {}))
        return ResolvedChampion(prompt=file.digest, store=self.settings.store, seen_inputs=sha256_hex(seen) if seen else "")

    def find(self, champion, rows=None):
        return find_champion(champion, self.base, self.resolved.recipe, rows or self.rows)

    def observe(self, champion):
        resolved = self.resolved.model_copy(update={"champion": champion.prompt, "champion_file": champion})
        return observe(resolved, self.base, self.prompt(9), self.dataset)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, llama_directory):
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_CACHE", str(folder / "cache"))
        shop = Shop(folder, llama_directory)
        with laptop(shop.settings):
            shop.aws = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
            yield shop


def test_what_the_channel_serves_answers_the_rows(shop):
    champion = shop.stored(1, seen_inputs(shop.dataset))
    seen = shop.observe(champion)
    alone = observe(shop.resolved, shop.base, shop.prompt(1), shop.dataset)
    assert seen.systems["champion"].outputs == alone.systems["soft_prompt"].outputs
    assert seen.systems["champion"].outputs != seen.systems["soft_prompt"].outputs, "two prompts, or this proves nothing"
    assert "champion" not in seen.notes
    assert seen.comparable["champion"].all(), "test rows of its own dataset are new to it"


def test_rows_that_it_was_tuned_on_are_left_out_and_counted(shop):
    trained = [row.in_part("test") for row in read_part(shop.dataset, "train")[:3] + read_part(shop.dataset, "validation")[:2]]
    rows = [shop.rows[0], *trained, shop.rows[1]]
    found = shop.find(shop.stored(1, seen_inputs(shop.dataset)), rows)
    assert found.comparable.tolist() == [True, *[False] * 5, True]
    assert found.note == "5 of 7 test rows are left out: it was tuned on them."


def test_a_champion_whose_evidence_does_not_say_what_it_saw_is_compared_and_that_is_said(shop):
    found = shop.find(shop.stored(1))
    assert found.system is not None
    assert found.comparable.all()
    assert "no row could be left out" in found.note


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_fingerprint": "c" * 64}, "another base model, cccccccccccc"),
        ({"task": "generation", "answers": ()}, "its task is a generation"),
        ({"template": "{text} {shop}:", "template_examples": ()}, "columns that these rows lack: shop"),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_the_reason(shop, changes, reason):
    found = shop.find(shop.stored(2, **changes))
    assert found.system is None
    assert reason in found.note
    seen = shop.observe(shop.stored(2, **changes))
    assert "champion" not in seen.systems
    assert "champion" not in seen.comparable
    assert reason in seen.notes["champion"]


def judged(shop, seed, rows):
    """A champion of another base model with an evaluation on some rows, in which it was always wrong; what it said, by row."""
    said = {row.id: LABELS[(LABELS.index(row.target) + 1) % 3] for row in rows}
    digests, targets = [row.input_digest[:16] for row in rows], [row.target for row in rows]
    evaluation = report([said[row.id] for row in rows], targets, inputs=digests).to_bytes()
    put_blobs(shop.store, {sha256_hex(evaluation): evaluation})
    champion = shop.stored(seed, base_fingerprint="c" * 64)
    return champion.model_copy(update={"gate_report": sha256_hex(evaluation)}), said


def test_a_champion_of_another_base_model_is_compared_by_what_it_answered_to_the_same_rows(shop):
    champion, said = judged(shop, 3, list(reversed(shop.rows)))
    seen = shop.observe(champion)
    assert seen.systems["champion"].outputs == tuple(said[row.id] for row in seen.rows)
    assert seen.systems["champion"].probabilities is None
    assert "By what it answered when it was evaluated" in seen.notes["champion"]
    gate = MetricGate(metric="accuracy", better_than="champion")
    result = judge_metric(gate, seen)
    assert result.status == "passed"
    right = sum(output == row.target for output, row in zip(seen.systems["soft_prompt"].outputs, seen.rows, strict=True))
    assert result.estimate == pytest.approx(right / len(seen.rows)), "it was always wrong"


def test_a_champion_of_another_base_model_that_was_evaluated_on_other_rows_is_left_out(shop):
    champion, _ = judged(shop, 4, shop.rows[1:])
    seen = shop.observe(champion)
    assert "champion" not in seen.systems
    assert "other test rows" in seen.notes["champion"]


def test_a_champion_that_is_not_in_the_store_is_left_out_with_the_reason(shop):
    gone = ResolvedChampion(prompt="d" * 64, store=shop.settings.store)
    found = shop.find(gone)
    assert found.system is None
    assert "it cannot be had" in found.note
    assert "d" * 64 in found.note


def test_blobs_that_are_not_what_their_digest_says_are_not_believed(shop):
    file = shop.prompt(5)
    tensor = file.manifest.parts[0].sha256
    shop.store.put(f"blobs/sha256/{file.digest}", file.manifest.to_bytes())
    shop.store.put(f"blobs/sha256/{tensor}", shop.prompt(6).tensor)
    found = shop.find(ResolvedChampion(prompt=file.digest, store=shop.settings.store))
    assert found.system is None
    assert "is not what its name says" in found.note


def test_a_store_that_does_not_answer_leaves_it_out(shop, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr("softprompt.release.store._PAUSE_SECONDS", 0.01)
    found = shop.find(ResolvedChampion(prompt="d" * 64, store=shop.settings.store))
    assert found.system is None
    assert "it cannot be had" in found.note


def test_a_channel_without_a_prompt_leaves_neither_answers_nor_a_note(shop):
    seen = observe(shop.resolved, shop.base, shop.prompt(9), shop.dataset)
    assert "champion" not in seen.systems
    assert "champion" not in seen.notes


def test_labels_that_the_champion_does_not_know_have_no_probability():
    answers = Answers(("red", "blue"), np.array([[0.2, 0.8], [0.9, 0.1]]))
    found = under_labels(answers, ("blue", "red"), ("blue", "green", "red"))
    assert found.probabilities.tolist() == [[0.2, 0, 0.8], [0.9, 0, 0.1]]
    assert under_labels(answers, ("blue", "red"), ("blue", "red")) is answers


# What the channel serves


def share(letter, weight=1):
    return Share(prompt=letter * 64, weight=weight)


def test_of_several_shares_the_largest_is_the_champion():
    served = Served(bases={BASE: (share("1", 20), share("2", 80)), OTHER: (share("3", 100),)})
    assert champion_of(served, BASE) == "2" * 64
    assert champion_of(served, OTHER) == "3" * 64


def test_a_prompt_of_another_base_is_named_too():
    assert champion_of(Served(bases={OTHER: (share("3"),)}), BASE) == "3" * 64
    assert champion_of(None, BASE) == ""


def test_what_a_run_publishes_is_the_next_runs_champion_with_what_it_saw(shop):
    """Through the channel: sign, read, verify."""
    assert prepare_run(shop.text, Overrides(), shop.settings).champion_file is None
    file, folder = shop.prompt(3), shop.folder / "prompt-3"
    file.write(folder)
    evidence = dataset_evidence(shop.dataset)
    assert evidence[SEEN_INPUTS_FILE] == seen_inputs(shop.dataset)
    outcome = publish_run(
        shop.resolved, folder, evidence, shop.settings, verdict="passed", evaluated="2026-11-22T00:00:00Z", model_version="1"
    )
    assert outcome.outcome == "published"
    resolved = prepare_run(shop.text, Overrides(), shop.settings)
    assert resolved.champion == file.digest
    assert resolved.champion_file == ResolvedChampion(
        prompt=file.digest, store=shop.settings.store, seen_inputs=sha256_hex(evidence[SEEN_INPUTS_FILE])
    )
    found = shop.find(resolved.champion_file, [Row("x", 1, {"text": "new to it"}, "red"), read_part(shop.dataset, "train")[0]])
    assert found.comparable.tolist() == [True, False]
    assert found.system is not None
    assert torch.equal(found.system.prompt.values, torch.from_numpy(file.values))
    other = save_llama(shop.folder / "other-base", seed=5)
    on_other = prepare_run(shop.text, Overrides(base_model=str(other)), shop.settings)
    assert on_other.champion == file.digest, "served, though for another base: the evaluation says so"


# What a gate makes of it


def verdict(shop, seen):
    from softprompt.evaluation.gates import judge
    from softprompt.recipe.gates import MetricGate

    return judge(MetricGate(metric="accuracy", not_worse_than="champion", margin=1.0), seen)


def test_a_gate_against_a_champion_that_could_not_answer_is_undecided_and_says_why(shop):
    result = verdict(shop, shop.observe(ResolvedChampion(prompt="d" * 64, store=shop.settings.store)))
    assert result.status == "undecided"
    assert "it cannot be had" in result.note


def test_a_gate_against_the_champion_of_a_channel_that_serves_nothing_passes_and_says_so(shop):
    result = verdict(shop, observe(shop.resolved, shop.base, shop.prompt(9), shop.dataset))
    assert (result.status, result.note) == ("passed", "the channel serves no prompt yet")
