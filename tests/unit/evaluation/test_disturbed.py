"""Disturbed rows are those that the perturbations make, answered by the soft prompt, as far as they fit."""

import json

import numpy as np
import pytest

from softprompt.engine.predictor import Predictor
from softprompt.errors import InvalidRequest
from softprompt.evaluation.perturbations import perturb
from softprompt.evaluation.systems.base_system import BaseSystem
from softprompt.evaluation.systems.disturbed import wanted
from softprompt.resolve import resolve_recipe
from tests.unit.evaluation.test_systems import Scene

GATE = "gates:\n  - {kind: robustness, perturbation: upper_case, drop_at_most: 0.5}"


@pytest.fixture
def scene(tmp_path, llama_directory):
    return lambda **options: Scene(tmp_path / "scene", llama_directory, **options)


def with_gate(scene):
    text = scene.resolved.recipe
    gate = {"kind": "robustness", "perturbation": "upper_case", "drop_at_most": 0.5}
    content = text.model_dump(mode="json") | {"gates": [gate, *text.model_dump(mode="json")["gates"]]}
    return resolve_recipe(json.dumps(content, indent=1))


def test_gates_and_the_recipes_wishes_are_measured_once_each(scene):
    here = scene(evaluation=", perturbations: [typos, upper_case, empty]")
    here.resolved = with_gate(here)
    assert wanted(here.resolved) == ["upper_case", "typos", "empty"]
    seen = here.observe()
    assert [*seen.disturbed] == ["upper_case", "typos", "empty"]
    assert seen.disturbed["empty"].rows.tolist() == [0]
    assert len(seen.disturbed["typos"].answers.outputs) == len(here.rows)


def test_answers_are_the_soft_prompts_to_the_disturbed_inputs(scene):
    here = scene(evaluation=", perturbations: [upper_case]")
    seen = here.observe().disturbed["upper_case"]
    soft = BaseSystem.of_file(here.base, here.file)
    asked = [{"text": row.inputs["text"].upper()} for row in here.rows]
    expected = Predictor(here.base, soft.task, soft.prompt).predict(asked)
    assert seen.answers.outputs == tuple(found.output for found in expected)
    np.testing.assert_allclose(seen.answers.probabilities, [found.probabilities for found in expected], rtol=1e-4)
    assert seen.examples[0] == (here.rows[0].inputs["text"], asked[0]["text"])
    assert len(seen.examples) == 3


def test_rows_that_no_longer_fit_are_left_out(scene):
    here = scene(evaluation=", perturbations: [prefix, long]")
    seen = here.observe().disturbed
    made = perturb("prefix", here.rows, columns=("text",), seed=0)
    soft = BaseSystem.of_file(here.base, here.file)
    longest = 64 - 5 - (len(soft.task.encoder.answer_ids(" green")) + 1)
    fit = [row for row, inputs in zip(made.rows, made.inputs, strict=True) if len(soft.task.encoder.input_ids(inputs)) <= longest]
    assert 0 < len(fit) < len(here.rows), "some fit, some do not"
    assert seen["prefix"].rows.tolist() == fit
    assert len(seen["prefix"].answers.outputs) == len(fit)


def test_paraphrases_are_the_recipes_own(scene, tmp_path):
    file = tmp_path / "paraphrases.jsonl"
    here = scene(evaluation=f', perturbations: [paraphrases], paraphrases: "{file}"') if _written(file, "x") else None
    # The recipe is resolved with the file that is there: another file is another run.
    row = here.rows[2]
    _written(file, row.id)
    here.resolved = resolve_recipe(json.dumps(here.resolved.recipe.model_dump(mode="json"), indent=1))
    seen = here.observe().disturbed["paraphrases"]
    assert seen.rows.tolist() == [2]
    assert seen.examples == ((row.inputs["text"], "said otherwise"),)
    _written(file, "nobody")
    here.resolved = resolve_recipe(json.dumps(here.resolved.recipe.model_dump(mode="json"), indent=1))
    with pytest.raises(InvalidRequest, match="belongs to no row"):
        here.observe()


def _written(file, row):
    return file.write_text(json.dumps({"id": row, "text": "said otherwise"}) + "\n")
