"""Metrics against scikit-learn, torchmetrics, rouge-score, sacrebleu and worked examples."""

import json
import re
import time
import warnings

import jsonschema
import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.text import squad

from softprompt.errors import InvalidRecipe, InvalidRequest, UnsupportedBaseModel
from softprompt.evaluation.intervals import resampling_weights
from softprompt.evaluation.metrics import available, row_scores, statistic
from softprompt.evaluation.observations import Answers
from softprompt.recipe.evaluation import EvaluationSpec, FormatSpec
from softprompt.recipe.gates import METRICS_OF_TASK, OF_PROBABILITIES

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=40)
TEXTS = st.text(alphabet="abc THE.,!?-1", max_size=30)


def macro(score):
    return lambda targets, outputs: score(targets, outputs, average="macro", zero_division=0)


OF_SCIKIT_LEARN = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_precision": macro(precision_score),
    "macro_recall": macro(recall_score),
    "macro_f1": macro(f1_score),
}


def value(metric, targets, outputs, **given) -> float:
    found = statistic(metric, targets, Answers(tuple(outputs), **given), given.pop("labels", ()))
    return float(found(np.ones((1, len(targets))))[0])


def reference(metric, targets, outputs) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels that were said and that no row deserves
        return OF_SCIKIT_LEARN[metric](targets, outputs)


@pytest.mark.parametrize("metric", OF_SCIKIT_LEARN)
@given(data=st.data())
def test_metrics_of_labels_equal_scikit_learns(metric, data):
    targets = data.draw(LABELS)
    outputs = data.draw(st.lists(st.sampled_from("abcde"), min_size=len(targets), max_size=len(targets)))
    assert value(metric, targets, outputs) == pytest.approx(reference(metric, targets, outputs))


@pytest.mark.parametrize("metric", OF_SCIKIT_LEARN)
@settings(max_examples=20)
@given(num_rows=st.integers(2, 30), seed=st.integers(0, 1000))
def test_a_resample_is_the_metric_of_the_drawn_rows(metric, num_rows, seed):
    generator = np.random.default_rng(seed)
    targets = generator.choice(list("abc"), num_rows).tolist()
    outputs = generator.choice(list("abc"), num_rows).tolist()
    weights = resampling_weights(num_rows, 5)
    found = statistic(metric, targets, Answers(tuple(outputs)))(weights)
    for row, drawn in zip(found, weights.astype(int), strict=True):
        assert row == pytest.approx(reference(metric, np.repeat(targets, drawn), np.repeat(outputs, drawn)))


# Probabilities --------------------------------------------------------------------------------------------------------------


def guesses(num_rows, num_labels, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(num_labels, 0.5), num_rows)
    labels = tuple(f"l{place}" for place in range(num_labels))
    targets = generator.integers(0, num_labels, num_rows)
    return labels, targets, Answers(tuple(labels[place] for place in probabilities.argmax(axis=1)), probabilities)


@pytest.mark.parametrize("num_labels", [2, 3, 77])
def test_the_calibration_error_equals_torchmetrics(num_labels):
    labels, targets, answers = guesses(500, num_labels)
    named = [labels[place] for place in targets]
    found = statistic("ece", named, answers, labels)
    expected = multiclass_calibration_error(
        torch.tensor(answers.probabilities), torch.tensor(targets), num_classes=num_labels, n_bins=15, norm="l1"
    )
    assert found(np.ones((1, 500)))[0] == pytest.approx(float(expected), abs=1e-6)
    weights = resampling_weights(500, 3)
    for row, drawn in zip(found(weights), weights.astype(int), strict=True):
        again = multiclass_calibration_error(
            torch.tensor(np.repeat(answers.probabilities, drawn, axis=0)),
            torch.tensor(np.repeat(targets, drawn)),
            num_classes=num_labels,
            n_bins=15,
        )
        assert row == pytest.approx(float(again), abs=1e-6)


def test_certainty_belongs_to_the_last_bin():
    answers = Answers(("a", "a"), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert statistic("ece", ["a", "b"], answers, ("a", "b"))(np.ones((1, 2)))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("num_labels", [2, 3, 10])
def test_the_brier_score_equals_scikit_learns(num_labels):
    labels, targets, answers = guesses(200, num_labels)
    named = [labels[place] for place in targets]
    found = statistic("brier", named, answers, labels)(np.ones((1, 200)))[0]
    assert found == pytest.approx(brier_score_loss(named, answers.probabilities, labels=list(labels)))


def test_a_target_that_is_no_label_had_no_probability():
    answers = Answers(("a",), np.array([[0.5, 0.25, 0.25]]))
    assert row_scores("brier", ["z"], answers, ("a", "b", "c")) == pytest.approx([0.25 + 0.0625 + 0.0625 + 1])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 0.9])
@pytest.mark.parametrize("metric", ["ece", "brier"])
def test_numbers_that_are_no_probabilities_are_refused(metric, wrong):
    answers = Answers(("a", "a"), np.array([[0.5, 0.5], [wrong, 0.5]]))
    with pytest.raises(UnsupportedBaseModel) as caught:
        statistic(metric, ["a", "a"], answers, ("a", "b"))
    assert "test row 2" in str(caught.value)
    assert "base_model.dtype" in str(caught.value)


def test_perplexity_is_of_all_tokens_not_of_rows():
    answers = Answers(("x", "y"), target_nats=np.array([2.0, 10.0]), target_tokens=np.array([1.0, 5.0]))
    assert value(
        "perplexity", ["x", "y"], answers.outputs, target_nats=answers.target_nats, target_tokens=answers.target_tokens
    ) == (pytest.approx(np.exp(12 / 6)))
    uniform = np.log(np.full(4, 50.0))
    assert value("perplexity", "abcd", "abcd", target_nats=uniform, target_tokens=np.ones(4)) == pytest.approx(50)


@pytest.mark.parametrize(("nats", "tokens"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, 0.0)])
def test_a_perplexity_of_no_likelihood_is_refused(nats, tokens):
    with pytest.raises(UnsupportedBaseModel, match="no likelihood"):
        value("perplexity", ["x"], ["x"], target_nats=np.array([nats]), target_tokens=np.array([tokens]))


# Texts ----------------------------------------------------------------------------------------------------------------------


def test_exact_match_ignores_white_space_around():
    assert row_scores("exact_match", ["a b", "a b", "A"], Answers((" a b\n", "a  b", "a"))).tolist() == [1, 0, 0]


@given(target=TEXTS.filter(str.strip), output=TEXTS)
def test_token_f1_equals_torchmetrics_port_of_squads_script(target, output):
    expected = squad([{"prediction_text": output, "id": "1"}], [{"answers": {"answer_start": [0], "text": [target]}, "id": "1"}])
    assert row_scores("token_f1", [target], Answers((output,))) == pytest.approx(float(expected["f1"]) / 100, abs=1e-6)


def test_rouge_of_a_worked_example():
    # Lin 2004: longest common subsequence "police the gunman" of 3 words; precision and recall 3/4.
    answers = Answers(("police kill the gunman",))
    assert row_scores("rouge_l", ["police killed the gunman"], answers) == pytest.approx([0.75])
    assert row_scores("rouge_1", ["police killed the gunman"], answers) == pytest.approx([0.75])
    assert row_scores("rouge_2", ["police killed the gunman"], answers) == pytest.approx([1 / 3])


@given(target=TEXTS, output=TEXTS)
def test_rouge_of_ascii_texts_equals_the_packages_own(target, output):
    expected = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(target, output)
    for metric, kind in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert row_scores(metric, [target], Answers((output,))) == pytest.approx([expected[kind].fmeasure])


def test_rouge_counts_words_of_every_script():
    answers = Answers(("Der Zähler ist kaputt", "счётчик сломан"))
    assert row_scores("rouge_l", ["Der Zähler fehlt", "счётчик цел"], answers) == pytest.approx([4 / 7, 0.5])


SENTENCES = [
    ("the cat sat on the mat today", "the cat sat on a mat today"),
    ("there is a dog in the garden", "a dog is in the garden"),
    ("reset your password in the settings", "reset the password in your settings page"),
    ("we refund within five days", "we refund within five days"),
    ("hello", ""),
]


@pytest.mark.parametrize(("metric", "scorer"), [("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)])
def test_corpus_metrics_of_resamples_equal_sacrebleus_of_the_drawn_rows(metric, scorer):
    targets, outputs = zip(*SENTENCES, strict=True)
    weights = resampling_weights(len(targets), 50)
    found = statistic(metric, targets, Answers(outputs))(weights)
    for row, drawn in zip(found, weights.astype(int), strict=True):
        said, right = np.repeat(outputs, drawn).tolist(), np.repeat(targets, drawn).tolist()
        assert row == pytest.approx(scorer(said, [right]).score / 100)
    rows = row_scores(metric, targets, Answers(outputs))
    assert found[0] != pytest.approx(weights[0] @ rows / weights[0].sum()), "a mean of row scores is another number"


def test_row_scores_of_corpus_metrics_are_sacrebleus_of_sentences():
    target, output = SENTENCES[0]
    assert row_scores("bleu", [target], Answers((output,)))[0] == pytest.approx(
        sacrebleu.sentence_bleu(output, [target]).score / 100
    )
    assert row_scores("chrf", [target], Answers((output,)))[0] == pytest.approx(
        sacrebleu.sentence_chrf(output, [target]).score / 100
    )


def test_the_length_ratio_counts_words_of_all_rows():
    assert value("length_ratio", ["one two three", "one"], ["one", "one two three four"]) == pytest.approx(5 / 4)
    with pytest.raises(InvalidRequest, match="have no words"):
        value("length_ratio", ["", " "], ["a", "b"])


@pytest.mark.parametrize("metric", [m for m in METRICS_OF_TASK["generation"] if m not in OF_PROBABILITIES])
def test_empty_answers_are_measured_as_wrong_ones(metric):
    spec = EvaluationSpec(format=FormatSpec(regex=".+"), required_phrases=("please",))
    found = statistic(metric, ["a good answer", "another one"], Answers(("", " ")), (), spec)(np.ones((1, 2)))
    assert found == pytest.approx([0.0])


# Formats --------------------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab1 -\n", max_size=12))
def test_the_whole_text_must_match(text):
    pattern = r"[ab]+(-\d)?"
    found = row_scores("format_valid", ["x"], Answers((text,)), (), EvaluationSpec(format=FormatSpec(regex=pattern)))
    assert bool(found[0]) == (re.fullmatch(pattern, text.strip()) is not None)


def test_an_expression_that_never_ends_is_stopped_and_named():
    spec = EvaluationSpec(format=FormatSpec(regex=r"(a|aa)+b"))
    begin = time.monotonic()
    with pytest.raises(InvalidRecipe) as caught:
        row_scores("format_valid", ["x"], Answers(("a" * 200 + "c",)), (), spec)
    assert time.monotonic() - begin < 60
    assert caught.value.where == "evaluation.format.regex"


SCHEMA = {
    "type": "object",
    "properties": {"urgency": {"$ref": "#/$defs/level"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["urgency"],
    "$defs": {"level": {"enum": ["low", "high"]}},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["low", "high", "urgency"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["urgency", "tags"]), inner, max_size=2),
)


@given(JSON)
def test_json_is_judged_as_jsonschema_does(document):
    spec = EvaluationSpec(format=FormatSpec(json_schema=SCHEMA))
    found = row_scores("format_valid", ["x"], Answers((f" {json.dumps(document)}\n",)), (), spec)
    try:
        jsonschema.validate(document, SCHEMA)
        expected = True
    except jsonschema.ValidationError:
        expected = False
    assert bool(found[0]) == expected


@pytest.mark.parametrize("text", ["", "{", "{'urgency': 'low'}", '{"urgency": NaN}', "[" * 100_000, '{"urgency": "low"} thanks'])
def test_what_is_no_json_is_not_valid(text):
    spec = EvaluationSpec(format=FormatSpec(json_schema={}))
    assert row_scores("format_valid", ["x"], Answers((text,)), (), spec).tolist() == [0]


def test_both_rules_must_hold():
    spec = EvaluationSpec(format=FormatSpec(regex=r"\{.*\}", json_schema=SCHEMA))
    texts = ('{"urgency": "low"}', '{"urgency": "none"}', '["low"]')
    assert row_scores("format_valid", ["x"] * 3, Answers(texts), (), spec).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("schema", "said"), [({"type": "thing"}, "is none"), ({"$ref": "https://example.org/s.json"}, "not inside it")]
)
def test_a_schema_that_cannot_be_used_is_refused_without_a_network(schema, said):
    spec = EvaluationSpec(format=FormatSpec(json_schema=schema))
    with pytest.raises(InvalidRecipe, match=said):
        row_scores("format_valid", ["x"], Answers(("{}",)), (), spec)


def test_phrases_are_looked_for_in_either_case():
    spec = EvaluationSpec(required_phrases=("Kind regards", "STRASSE"), forbidden_phrases=("guarantee",))
    texts = ("kind REGARDS, Hauptstraße 1", "Kind regards", "Kind regards, Straße; we GUARANTEE it")
    assert row_scores("phrases_kept", ["x"] * 3, Answers(texts), (), spec).tolist() == [1, 0, 0]


# Bad input ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [*METRICS_OF_TASK["classification"], *METRICS_OF_TASK["generation"]])
def test_no_rows_are_refused(metric):
    with pytest.raises(InvalidRequest, match=f"no rows to measure {metric} on"):
        statistic(metric, [], Answers(()))
    with pytest.raises(InvalidRequest, match="no rows"):
        row_scores(metric, [], Answers(()))


@pytest.mark.parametrize("metric", OF_SCIKIT_LEARN)
def test_an_answer_that_is_no_label_is_a_wrong_one(metric):
    """As an old champion may give, whose labels were others."""
    targets, outputs = ["a", "b", "b"], ("old", "b", "b")
    found = statistic(metric, targets, Answers(outputs), ("a", "b"))(np.ones((1, 3)))
    assert found[0] == pytest.approx(reference(metric, targets, outputs))


@pytest.mark.parametrize("metric", [*METRICS_OF_TASK["classification"], *METRICS_OF_TASK["generation"]])
def test_what_can_be_had_can_be_measured(metric):
    """`available` promises no more and no less than `statistic` can keep."""
    whole = Answers(("a", "b"), np.array([[0.9, 0.1], [0.2, 0.8]]), np.ones(2), np.ones(2))
    assert available(metric, whole)
    assert np.isfinite(statistic(metric, ["a", "b"], whole, ("a", "b"))(np.ones((1, 2)))).all()
    bare = Answers(("a", "b"))
    assert available(metric, bare) == (metric not in OF_PROBABILITIES)
    if available(metric, bare):
        statistic(metric, ["a", "b"], bare, ("a", "b"))
