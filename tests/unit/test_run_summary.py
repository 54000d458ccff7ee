"""A finished run in a few lines: honest about what was not published and what was not better."""

import io

import pytest
from rich.console import Console

from softprompt.run_summary import RunSummary, print_summary

FIELDS = {
    "name": "colours",
    "verdict": "passed",
    "reason": "Passed: the one gate that can block holds.",
    "seconds": {"resolve_recipe": 1.0},
    "total_seconds": 2.0,
    "metrics": {
        "soft_prompt": {"accuracy": 0.91, "macro_f1": 0.9},
        "bare_base": {"accuracy": 0.25, "macro_f1": 0.2},
        "instruction": {"accuracy": 0.5, "macro_f1": 0.45},
        "classical": {"accuracy": 0.93, "macro_f1": 0.92},
    },
    "num_test_rows": 34,
    "prompt": "1" * 64,
    "prompt_kind": "shallow",
    "prompt_num_tokens": 20,
    "prompt_bytes": 5208,
    "trainable_parameters": 1280,
    "total_parameters": 36000,
    "base_fingerprint": "2" * 64,
    "base_unchanged": True,
    "mlflow_run": "3" * 32,
    "version": "1",
    "channel": "laptop",
    "publication": "published",
    "publication_reasons": (),
    "generation": 2,
    "report": "/runs/[red]/report",
    "training_report": "/runs/[red]/training_report",
    "folder": "/runs",
}


def printed(**changes):
    console = Console(file=io.StringIO(), width=100)
    print_summary(RunSummary(**FIELDS | changes), console)
    return console.file.getvalue()


def test_the_soft_prompt_stands_beside_what_it_replaces():
    lines = printed().splitlines()
    assert [line.split()[-2:] for line in lines if line.startswith(("soft prompt", "bare base", "hand-written", "TF-IDF"))] == [
        ["0.910", "0.900"],
        ["0.250", "0.200"],
        ["0.500", "0.450"],
        ["0.930", "0.920"],
    ]


def test_what_was_trained_and_where_it_is_served():
    text = printed()
    assert "shallow, 20 tokens, 5,208 bytes, 1,280 of 36,000 numbers trained" in text
    assert "colours version 1" in text
    assert "laptop, generation 2 (published)" in text
    assert "unchanged" in text


def test_a_path_is_printed_as_it_is():
    lines = printed().splitlines()
    assert "report     /runs/[red]/report" in lines
    assert "training   /runs/[red]/training_report" in lines


def test_a_changed_base_is_shouted():
    assert "CHANGED" in printed(base_unchanged=False)


def test_a_rejected_prompt_says_that_nothing_was_published():
    text = printed(verdict="rejected", reason="Rejected: x.", version="", publication="", generation=0)
    assert "Rejected: x." in text
    assert "a run without a version" in text
    assert "laptop: not published (not tried: the verdict is not a pass)" in text


def test_a_refusal_of_the_channel_says_why():
    text = printed(publication="refused", publication_reasons=("numerics float32 are not allowed",), generation=0)
    assert "not published (refused: numerics float32 are not allowed)" in text


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("rejected", 4), ("undecided", 6)])
def test_the_verdict_is_the_exit_code(verdict, code):
    assert RunSummary(**FIELDS | {"verdict": verdict}).exit_code == code


def test_it_survives_being_written_down():
    summary = RunSummary(**FIELDS)
    assert RunSummary.from_bytes(summary.to_bytes(), source="x") == summary
