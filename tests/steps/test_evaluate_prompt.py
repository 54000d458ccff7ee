"""`evaluate_prompt` through KFP's local runner: one verdict, every number behind it, and what the Kubeflow UI draws."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from softprompt.data.dataset import read_baseline, read_manifest, read_part
from softprompt.evaluation.gate_report import GateReport


def report_of(run):
    return GateReport.from_bytes(run.output("evaluate_prompt", "gate_report").read_bytes(), source="output")


def test_it_judges_the_test_rows_and_no_other(passed_run):
    dataset = passed_run.output("validate_dataset", "dataset")
    report = report_of(passed_run)
    assert [(row.id, row.target) for row in report.rows] == [(row.id, row.target) for row in read_part(dataset, "test")]
    assert report.num_test_rows == read_manifest(dataset).num_rows["test"]
    assert (report.prompt, report.dataset) == (passed_run.summary.prompt, read_manifest(dataset).content_digest)


@pytest.mark.parametrize("system", ["soft_prompt", "bare_base", "instruction", "classical"])
def test_the_numbers_are_scikit_learns(passed_run, system):
    report = report_of(passed_run)
    targets, outputs = [row.target for row in report.rows], [row.outputs[system] for row in report.rows]
    assert report.value(system, "accuracy").estimate == pytest.approx(accuracy_score(targets, outputs))
    expected = f1_score(targets, outputs, average="macro", labels=list(report.labels), zero_division=0)
    assert report.value(system, "macro_f1").estimate == pytest.approx(expected)


def test_the_verdict_is_an_output_of_its_own(passed_run, rejected_run):
    assert passed_run.output("evaluate_prompt", "verdict").read_text() == report_of(passed_run).verdict == "passed"
    assert rejected_run.output("evaluate_prompt", "verdict").read_text() == report_of(rejected_run).verdict == "rejected"


def test_a_gate_that_nothing_passes_rejects_with_its_reason(rejected_run):
    (gate,) = report_of(rejected_run).gates
    assert (gate.name, gate.status, gate.threshold) == ("accuracy_at_least_1", "rejected", 1.0)
    assert report_of(rejected_run).reason.startswith("Rejected: accuracy at least 1, measured 0.")


def test_kfp_metrics_are_the_estimates_by_system(passed_run):
    shown = passed_run.artifact("evaluate_prompt", "metrics")
    assert shown == {f"{found.system} {found.metric}": found.estimate for found in report_of(passed_run).measured}
    assert len(shown) >= 8


def test_kfp_classification_metrics_are_the_confusion_matrix(passed_run):
    matrix = passed_run.artifact("evaluate_prompt", "confusion_matrix")["confusionMatrix"]
    labels = [spec["displayName"] for spec in matrix["annotationSpecs"]]
    rows = report_of(passed_run).rows
    expected = confusion_matrix([row.target for row in rows], [row.outputs["soft_prompt"] for row in rows], labels=labels)
    assert labels == ["blue", "green", "red"]
    assert np.array_equal([row["row"] for row in matrix["rows"]], expected)


def test_the_next_run_is_compared_with_what_the_channel_serves(passed_run, run_after_kill):
    """The same recipe again: the champion is the same prompt, fetched from the store, and no test row is one that it has seen."""
    assert report_of(passed_run).champion == ""
    report = report_of(run_after_kill)
    assert report.champion == passed_run.summary.prompt
    assert [row.outputs["champion"] for row in report.rows] == [row.outputs["soft_prompt"] for row in report.rows]
    assert "champion" not in report.notes


def test_the_classical_answers_are_those_that_validation_kept_for_these_rows(passed_run):
    kept = read_baseline(passed_run.output("validate_dataset", "dataset"), "test")
    assert [row.outputs["classical"] for row in report_of(passed_run).rows] == kept


@pytest.mark.parametrize("run", ["passed_run", "rejected_run"])
def test_the_report_says_whether_a_classical_model_does_better(run, request):
    run = request.getfixturevalue(run)
    rows = report_of(run).rows
    mine = sum(row.outputs["soft_prompt"] == row.target != row.outputs["classical"] for row in rows)
    theirs = sum(row.outputs["classical"] == row.target != row.outputs["soft_prompt"] for row in rows)
    page = run.output("evaluate_prompt", "report").read_text()
    assert f"TF-IDF and logistic regression: <b>{mine}</b> rows won, <b>{theirs}</b> lost" in page
    assert theirs > mine, "four tokens and six steps are no match"


@pytest.mark.parametrize("run", ["passed_run", "rejected_run"])
def test_the_report_is_one_page_that_says_the_verdict_with_plots(run, request):
    run = request.getfixturevalue(run)
    page = run.output("evaluate_prompt", "report").read_text()
    assert page.startswith("<!doctype html>")
    verdict, reason = report_of(run).reason.split(": ", 1)
    assert f"<strong>{verdict}</strong>{reason[:1].upper()}{reason[1:30]}" in page
    assert "<svg" in page or 'src="data:image' in page
    assert "src=" not in page.replace('src="data:', "")
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "hand-written instruction" in page or run.summary.verdict == "rejected"
