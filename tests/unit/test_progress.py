"""Events: for people by default, for programs when asked, found again wherever they were pushed in a line."""

import pytest

from softprompt.errors import DatasetRefused
from softprompt.progress import EVENTS_VARIABLE, read_event, step_errors, tell


def test_a_line_for_people(capsys, monkeypatch):
    monkeypatch.delenv(EVENTS_VARIABLE, raising=False)
    tell("tune_prompt", "step 1 of 2", done=1, total=2)
    assert capsys.readouterr().out == "[tune_prompt] step 1 of 2\n"


def test_an_event_is_found_behind_whatever_ray_and_kfp_put_before_it(capsys, monkeypatch):
    monkeypatch.setenv(EVENTS_VARIABLE, "1")
    tell("tune_prompt", "step\n1 é", done=1, total=2)
    line = capsys.readouterr().out.strip()
    assert "\n" not in line
    assert read_event(f"    \x1b[36m(RayTrainWorker pid=1)\x1b[0m {line}") == {
        "step": "tune_prompt",
        "text": "step\n1 é",
        "done": 1,
        "total": 2,
    }


@pytest.mark.parametrize("line", ["", "Epoch 1", "@softprompt {broken", "@softprompt {not json}"])
def test_other_lines_are_no_events(line):
    assert read_event(line) is None


def test_an_error_of_ours_becomes_an_event_and_its_exit_code(capsys, monkeypatch):
    monkeypatch.setenv(EVENTS_VARIABLE, "1")
    with pytest.raises(SystemExit) as caught, step_errors("validate_dataset"):
        raise DatasetRefused("It was refused.", where="rows.csv:3")
    event = read_event(capsys.readouterr().out)
    assert caught.value.code == 3
    assert (event["error"], event["what"], event["facts"]["where"]) == ("DatasetRefused", "It was refused.", "rows.csv:3")
    assert event["trace"] == ""


def test_any_other_error_is_a_fault_of_ours_with_its_trace(capsys, monkeypatch):
    monkeypatch.setenv(EVENTS_VARIABLE, "1")
    with pytest.raises(SystemExit) as caught, step_errors("tune_prompt"):
        raise ZeroDivisionError("oops")
    event = read_event(capsys.readouterr().out)
    assert caught.value.code == 1
    assert "ZeroDivisionError: oops" in event["what"]
    assert "Traceback" in event["trace"]
