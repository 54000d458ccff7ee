"""`explain_rejection` through KFP's local runner: the other branch."""

from softprompt.evaluation.gate_report import GateReport


def test_it_says_which_gate_failed_and_that_nothing_was_published(rejected_run):
    text = rejected_run.output("explain_rejection", "reasons").read_text()
    report = GateReport.from_bytes(rejected_run.output("evaluate_prompt", "gate_report").read_bytes(), source="output")
    assert text.startswith("# Rejected: nothing was published\n")
    assert report.reason in text
    assert "- **rejected** (block): accuracy at least 1, measured" in text


def test_one_branch_runs_and_not_the_other(passed_run, rejected_run):
    assert not passed_run.output("explain_rejection", "reasons").exists()
    assert "publish_prompt" in passed_run.summary.seconds
    assert "publish_prompt" not in rejected_run.summary.seconds
    assert "explain_rejection" in rejected_run.summary.seconds
