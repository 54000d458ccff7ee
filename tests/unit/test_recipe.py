"""A wrong recipe is refused with file, line and key; a right one means what it says."""

import pytest

from softprompt.errors import InvalidRecipe
from softprompt.recipe.reader import read_recipe, recipe_schema
from softprompt.recipe.training import FAIRNESS_WEIGHTS, Candidate

GOOD = """\
schema_version: 1
name: support-triage
channel: laptop
base_model: {uri: "embedded://base"}
dataset:
  uri: embedded://tickets
  target_column: queue
task:
  type: classification
  template: "Message: {text}\\nAnswer:"
prompt:
  kind: deep
  num_tokens: 20
  init: {method: text, text: "Route it"}
gates:
  - {metric: accuracy, at_least: 0.8}
"""


def read(text):
    return read_recipe(text, source="r.yaml")


def test_defaults_are_filled_in():
    recipe = read(GOOD)
    assert recipe.loss == "answers"
    assert recipe.input_columns == ("text",)
    assert recipe.training.steps == 300
    assert recipe.gates[0].name == "accuracy_at_least_0.8"


@pytest.mark.parametrize(
    ("kind", "num_labels", "num_tokens"),
    [("deep", 0, 20), ("deep", 10, 20), ("deep", 11, 22), ("deep", 64, 128), ("deep", 1000, 128), ("shallow", 77, 100)],
)
def test_a_recipe_that_names_no_length_gets_one_by_its_labels(kind, num_labels, num_tokens):
    text = GOOD.replace("  num_tokens: 20\n", "").replace("kind: deep", f"kind: {kind}")
    assert read(text).num_tokens(num_labels, Candidate()) == num_tokens
    assert read(text).num_tokens(num_labels, Candidate(num_tokens=5)) == 5
    assert read(GOOD).num_tokens(num_labels, Candidate()) == 20
    full = read(text).in_full(num_labels, 1000)
    assert (full.prompt.num_tokens, full.training.warmup_steps) == (num_tokens, 30)
    usual = {"deep": ("soap_whitened", 0.12, 0.1), "shallow": ("adamw", 1.0, 0.0)}
    assert (full.training.optimiser, full.training.learning_rate, full.training.input_noise) == usual[kind]
    assert full.model_dump(exclude={"prompt", "training"}) == read(text).model_dump(exclude={"prompt", "training"})


def test_the_rate_is_the_candidates_the_trainings_or_the_kinds():
    deep, shallow = read(GOOD), read(GOOD.replace("kind: deep", "kind: shallow"))
    assert [recipe.training_of(Candidate()).learning_rate for recipe in (deep, shallow)] == [0.12, 1.0]
    assert deep.training_of(Candidate(learning_rate=0.5)).learning_rate == 0.5


WRONG = {
    "a typo": ("num_tokens: 20", "num_token: 20", "r.yaml:13: prompt.num_token: unknown key; did you mean num_tokens?"),
    "a missing key": ("name: support-triage\n", "", "name: is missing"),
    "a wrong type": (
        "num_tokens: 20",
        "num_tokens: twenty",
        'r.yaml:13: prompt.num_tokens: input should be a valid integer, got "twenty"',
    ),
    "a number as text": ("schema_version: 1", 'schema_version: "1"', "r.yaml:1: schema_version"),
    "out of range": (
        "num_tokens: 20",
        "num_tokens: 0",
        "r.yaml:13: prompt.num_tokens: input should be greater than or equal to 1, got 0",
    ),
    "NaN": ("at_least: 0.8", "at_least: .nan", "r.yaml:16: gates.0.at_least"),
    "infinity": ("at_least: 0.8", "at_least: .inf", "gates.0.at_least"),
    "a duplicate key": (
        "channel: laptop",
        "channel: laptop\nchannel: staging",
        'r.yaml:4\n  actual:   found duplicate key "channel"',
    ),
    "an unknown kind": ("kind: deep", "kind: shalow", "prompt.kind: input should be 'shallow' or 'deep'"),
    "a bad name": ("support-triage", "Support_Triage", "r.yaml:2: name"),
    "a hub model without revision": ("embedded://base", "hf://org/name", "base_model.uri: a hub model needs its revision"),
    "an unknown scheme": ("embedded://base", "ftp://x", "base_model.uri: scheme 'ftp' is unknown"),
    "a template without a column": ("{text}", "text", "r.yaml:10: task.template: names no column"),
    "code in a template": ("{text}", "{text.__class__}", "task.template: {text.__class__} is not a plain column name"),
    "a lone brace": ("{text}", "{text} {", "task.template: a single brace"),
    "the answer in the template": ("{text}", "{queue}", "task.template: contains the answer itself"),
    "a gate of another task": (
        "metric: accuracy",
        "metric: rouge_l",
        "gates.0.metric: rouge_l does not exist for a classification",
    ),
    "a gate without a rule": (
        "{metric: accuracy, at_least: 0.8}",
        "{metric: accuracy}",
        "exactly one of at_least, at_most, better_than and not_worse_than",
    ),
    "a baseline that is not there": ("at_least: 0.8", "better_than: instruction", "evaluation.instruction is empty"),
    "no gate that blocks": ("at_least: 0.8}", "at_least: 0.8, severity: warn}", "gates: none of them blocks"),
    "no gates": ("  - {metric: accuracy, at_least: 0.8}", "  []", "gates: none of them blocks"),
    "an option of another initialiser": ('text: "Route it"', "uri: x", "prompt.init.text: is missing"),
    "answers loss for open answers": ("type: classification", "type: generation", "gates.0.metric"),
    "no test rows": ("target_column: queue", "target_column: queue\n  split: {test: 0}", "dataset: split.test must be above 0"),
    "too little left to train on": (
        "target_column: queue",
        "target_column: queue\n  split: {test: 0.5, validation: 0.5}",
        "stay below 0.9",
    ),
    "warm-up longer than training": (
        "gates:",
        "training: {steps: 10, warmup_steps: 20}\ngates:",
        "training: warmup_steps (20) must be below steps (10)",
    ),
    "an alias": ("schema_version: 1", "schema_version: &one 1\nother: *one", "aliases (*name) are not read"),
    "not YAML": ("gates:", "gates: [", "not valid YAML"),
    "a list": (GOOD, "- 1\n- 2\n", "a mapping of keys"),
    "a bomb": (GOOD, "a: " + "[" * 50_000, "nested too deeply"),
}


@pytest.mark.parametrize(("given", "expected"), [("3", 3), ("[1, 4]", (1, 4)), ("[2, 2]", (2, 2))])
def test_workers_are_a_number_or_a_range(given, expected):
    assert read(GOOD.replace("gates:", f"training: {{num_workers: {given}}}\ngates:")).training.num_workers == expected


@pytest.mark.parametrize("given", ["0", "[0, 2]", "[3, 2]", "[1, 2, 3]", "[1, 5000]", "many"])
def test_a_range_of_workers_that_cannot_be_is_refused(given):
    with pytest.raises(InvalidRecipe, match=r"training\.num_workers"):
        read(GOOD.replace("gates:", f"training: {{num_workers: {given}}}\ngates:"))


@pytest.mark.parametrize("case", WRONG)
def test_wrong_recipe_is_refused_with_its_place(case):
    old, new, message = WRONG[case]
    assert old in GOOD
    with pytest.raises(InvalidRecipe) as caught:
        read(GOOD.replace(old, new))
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_problems_are_named_at_once():
    with pytest.raises(InvalidRecipe) as caught:
        read(GOOD.replace("kind: deep", "kind: x").replace("at_least: 0.8", "at_least: 8"))
    assert "prompt.kind" in str(caught.value)
    assert "gates.0.at_least" in str(caught.value)


def test_a_recipe_beyond_the_cap_is_refused():
    with pytest.raises(InvalidRecipe, match="larger than"):
        read(GOOD + "#" * 300_000)


def test_schema_explains_every_key():
    schema = recipe_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    unexplained = [
        f"{name}.{key}"
        for name, part in schema["$defs"].items()
        for key, value in part.get("properties", {}).items()
        if not value.get("description") and key != "method" and "const" not in value
    ]
    assert unexplained == []
    assert schema["additionalProperties"] is False


def test_schema_accepts_what_the_reader_accepts():
    jsonschema = pytest.importorskip("jsonschema")
    from ruamel.yaml import YAML

    jsonschema.validate(YAML(typ="safe").load(GOOD), recipe_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(YAML(typ="safe").load(GOOD.replace("num_tokens", "num_token")), recipe_schema())


FAIR = GOOD.replace("target_column: queue", "target_column: queue\n  subgroup_columns: [region]").replace(
    "prompt:", "training: {fairness: {column: region}}\nprompt:"
)


def test_fairness_has_defaults_by_method():
    recipe = read(FAIR)
    assert recipe.training.fairness.criterion == "demographic_parity"
    assert recipe.training.variations == (Candidate(),)
    for method, weight in FAIRNESS_WEIGHTS.items():
        given = read(FAIR.replace("column: region", f"column: region, method: {method}"))
        assert given.training_of(Candidate()).fairness.weight == weight
        assert given.training_of(Candidate(fairness_weight=0.0)).fairness.weight == 0.0
    assert read(GOOD).training_of(Candidate()).fairness is None


def test_weights_of_fairness_are_candidates_of_which_none_is_dropped():
    training = read(FAIR.replace("column: region", "column: region, weights: [0, 2.5]")).training
    assert [candidate.fairness_weight for candidate in training.variations] == [0.0, 2.5]
    assert training.halving
    assert not training.drops_candidates


UNFAIR = {
    "a column that is no subgroup": ("column: region", "column: shop", "training.fairness.column: 'shop' is not among"),
    "another loss": ("training: {", "training: {loss: likelihood, ", "training.fairness: needs the probability of every label"),
    "a label that is none": (
        'Answer:"',
        'Answer:"\n  labels: [a, b]',
        "training.fairness.label: 'c' is not among task.labels",
    ),
    "weights and candidates": (
        "fairness: {column: region",
        "candidates: [{seed: 1}], fairness: {weights: [0, 1], column: region",
        "training.fairness.weights: makes candidates of its own",
    ),
    "a weight twice": ("column: region", "column: region, weights: [1, 1]", "the same weight stands there twice"),
    "a weight below 0": ("column: region", "column: region, weight: -1", "greater than or equal to 0"),
    "a weight of nothing": (
        "training: {fairness: {column: region}}",
        "training: {candidates: [{fairness_weight: 1.0}]}",
        "training.candidates: fairness_weight weighs training.fairness, which is not there",
    ),
}


@pytest.mark.parametrize("mistake", UNFAIR)
def test_fairness_that_cannot_be_trained_is_refused(mistake):
    before, after, message = UNFAIR[mistake]
    text = FAIR.replace("column: region", "column: region, label: c") if "label" in mistake else FAIR
    with pytest.raises(InvalidRecipe) as caught:
        read(text.replace(before, after, 1))
    assert message in str(caught.value)
