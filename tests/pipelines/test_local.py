"""The follower of a local run: events out of output lines, a failed step's own error with its exit code, the rest to the log.

The lines are those that KFP's local runner prints; that it prints them today is what `tests/steps` shows with real runs.
"""

import io
import json

import pytest

from pipelines.local import LocalRun, _Follower, run_pipeline
from softprompt.errors import DatasetRefused, SoftpromptError

BEGINS = "17:26:05.496 - INFO - Executing task \x1b[96m'tune-prompt'\x1b[0m\n"
ENDS = "17:27:00.000 - INFO - Task \x1b[96m'tune-prompt'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m\n"
FAILS = "17:27:00.000 - INFO - Task \x1b[96m'validate-dataset'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m\n"


class Followed:
    """A follower with a log in memory and the events it told."""

    def __init__(self, folder):
        self.log, self.events, self.run = io.StringIO(), [], LocalRun(folder)
        self.out = _Follower(self.run, self.log, self.events.append)


@pytest.fixture
def followed(tmp_path):
    return Followed(tmp_path)


def event(**content):
    return f"    \x1b[36m(RayTrainWorker pid=7)\x1b[0m @softprompt {json.dumps(content)}\n"


def refused():
    facts = {"where": "rows.csv:3", "expected": "text", "actual": "nothing", "hint": "Write some."}
    return event(
        step="validate_dataset", text="It was refused.", error="DatasetRefused", what="It was refused.", facts=facts, trace=""
    )


def test_a_step_begins_tells_and_ends(followed):
    followed.out.write(BEGINS + event(step="tune_prompt", text="step 1/2", done=1, total=2) + ENDS)
    began, told, ended = followed.events
    assert began == {"step": "tune_prompt", "state": "began"}
    assert told == {"step": "tune_prompt", "text": "step 1/2", "done": 1, "total": 2}
    assert (ended["step"], ended["state"]) == ("tune_prompt", "ended")
    assert followed.run.seconds == {"tune_prompt": ended["seconds"]}
    assert followed.run.events == followed.events


def test_lines_that_arrive_in_pieces_are_put_together(followed):
    for character in BEGINS + ENDS:
        followed.out.write(character)
    assert [found["state"] for found in followed.events] == ["began", "ended"]


def test_seconds_are_counted_from_the_beginning_of_a_step(followed, monkeypatch):
    clock = iter([100.0, 107.25])
    monkeypatch.setattr("pipelines.local.time.monotonic", lambda: next(clock))
    followed.out.write(BEGINS + ENDS)
    assert followed.run.seconds == {"tune_prompt": 7.25}


def test_everything_is_in_the_log_without_colours_and_nothing_else_is_an_event(followed):
    followed.out.write("anything \x1b[31mred\x1b[0m\n" + BEGINS)
    assert followed.log.getvalue() == "anything red\n17:26:05.496 - INFO - Executing task 'tune-prompt'\n"
    assert len(followed.events) == 1


def test_a_failed_step_fails_with_its_own_error_and_exit_code(followed):
    followed.out.write(refused() + FAILS)
    error = followed.out.failure(RuntimeError("Pipeline failed."))
    assert type(error) is DatasetRefused
    assert error.exit_code == 3
    assert str(error).splitlines()[1:] == [
        "  where:    rows.csv:3",
        "  expected: text",
        "  actual:   nothing",
        f"  to do:    Write some. Log and outputs of the run are in {followed.run.folder}.",
    ]
    assert followed.events[-1]["state"] == "failed"


def test_a_step_that_died_without_a_word_is_a_fault_of_ours_that_names_the_log(followed):
    followed.out.write(BEGINS)
    error = followed.out.failure(RuntimeError("Pipeline \x1b[95m'x'\x1b[0m finished with status FAILURE."))
    assert type(error) is SoftpromptError
    assert error.exit_code == 1
    assert error.where == f"{followed.run.folder}/pipeline.log"
    assert error.actual == "Pipeline 'x' finished with status FAILURE."


@pytest.fixture
def no_kfp(monkeypatch):
    """A pipeline that prints what the test says instead of running."""

    def replace(lines, fails=False):
        def prompt_tuning(**_):
            print(lines, end="")
            if fails:
                raise RuntimeError("Pipeline finished with status FAILURE.")

        monkeypatch.setattr("pipelines.prompt_tuning.prompt_tuning", prompt_tuning)

    return replace


def test_a_run_has_a_folder_a_log_and_its_steps_seconds(no_kfp, tmp_path):
    no_kfp(BEGINS + ENDS)
    run = run_pipeline({}, tmp_path / "runs", lambda _: None)
    assert list(run.seconds) == ["tune_prompt"]
    assert "Executing task 'tune-prompt'" in (run.folder / "pipeline.log").read_text()
    assert run.folder.parent == tmp_path / "runs"


def test_a_run_that_fails_raises_what_its_step_said(no_kfp, tmp_path):
    no_kfp(refused() + FAILS, fails=True)
    with pytest.raises(DatasetRefused, match="It was refused"):
        run_pipeline({}, tmp_path, lambda _: None)


def test_an_output_is_found_by_step_and_name(tmp_path):
    folder = tmp_path / "prompt-tuning-1" / "tune-prompt"
    folder.mkdir(parents=True)
    (folder / "training_log").write_text('{"a": 1}')
    run = LocalRun(tmp_path)
    assert run.document("tune_prompt", "training_log") == {"a": 1}
    assert run.output("publish_prompt", "publication") is None
    assert run.document("publish_prompt", "publication") is None
