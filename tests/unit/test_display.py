"""What a person sees of a running pipeline: a line an event in a log, one line a step on a terminal."""

import io

import pytest
from rich.console import Console

from components import (
    evaluate_prompt,
    explain_rejection,
    publish_prompt,
    register_prompt,
    resolve_recipe,
    tune_prompt,
    validate_dataset,
)
from softprompt.display import STEPS, PipelineDisplay, duration, measured_lines

COMPONENTS = [resolve_recipe, validate_dataset, tune_prompt, evaluate_prompt, register_prompt, publish_prompt, explain_rejection]

EVENTS = [
    {"step": "resolve_recipe", "state": "began"},
    {"step": "resolve_recipe", "text": "colours: [red] file:///base"},
    {"step": "resolve_recipe", "state": "ended", "seconds": 1.25},
    {"step": "tune_prompt", "state": "began"},
    {"step": "tune_prompt", "text": "step 3/6: loss 1.373", "done": 3, "total": 6},
]
FAILURE = [
    {"step": "tune_prompt", "text": "Ray died.\n  to do: ...", "error": "ServiceUnavailable", "what": "Ray died.", "facts": {}},
    {"step": "tune_prompt", "state": "failed", "seconds": 9.0},
]


def console(*, terminal, width=100):
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=width, _environ={"TERM": "xterm-256color"}, color_system=None
    )


def shown(events, *, terminal=False, width=100):
    """All that was written for events; on a terminal, the last picture."""
    screen = console(terminal=terminal)
    with PipelineDisplay(screen) as display:
        for event in events:
            display(event)
        if terminal:
            picture = console(terminal=True, width=width)
            picture.print(display._draw())
            return picture.file.getvalue()
    return screen.file.getvalue()


def test_every_step_of_the_pipeline_has_a_title():
    assert list(STEPS) == [module.__name__.removeprefix("components.") for module in COMPONENTS]


def test_in_a_log_each_event_is_a_line_without_control_characters():
    assert shown(EVENTS).splitlines() == [
        "Resolve recipe ...",
        "  colours: [red] file:///base",
        "Resolve recipe: done in 1.2 s",
        "Tune prompt ...",
        "  step 3/6: loss 1.373",
    ]


def test_a_long_line_of_a_log_stays_one_line():
    text = "x" * 300
    assert shown([{"step": "tune_prompt", "text": text}]) == f"  {text}\n"


def test_in_a_log_an_error_is_left_to_the_command_that_prints_it_whole():
    assert shown([*EVENTS[3:4], *FAILURE]).splitlines() == ["Tune prompt ...", "Tune prompt: failed in 9.0 s"]


def test_on_a_terminal_each_step_is_one_line_with_its_state_time_and_last_word():
    lines = shown(EVENTS, terminal=True).splitlines()
    assert "✓" in lines[0]
    assert "Resolve recipe" in lines[0]
    assert "1.2 s" in lines[0]
    assert "colours: [red] file:///base" in lines[0]
    assert "·" in lines[1]
    assert "Validate dataset" in lines[1]


def test_on_a_terminal_a_running_step_has_a_bar_as_long_as_it_is_far():
    def bar(done):
        picture = shown([*EVENTS[:4], {"step": "tune_prompt", "text": "training", "done": done, "total": 8}], terminal=True)
        return picture.count("━")

    assert bar(0) <= bar(4) <= bar(8)
    line = next(line for line in shown(EVENTS, terminal=True).splitlines() if "Tune prompt" in line)
    assert "step 3/6: loss 1.373" in line


LOOK = {
    "step": "tune_prompt",
    "text": "candidate 3 (2/6 alive), step 32/64: loss 1.120, validation loss 0.875, accuracy 0.755, 1,301 tokens/s, 26 s left",
    "done": 176,
    "total": 248,
    "training_loss": 1.12,
    "validation_loss": 0.875,
    "validation_accuracy": 0.755,
    "tokens_per_second": 1301.4,
    "learning_rate": 0.1,
    "alive": 2,
    "num_candidates": 6,
    "seconds_left": 26.2,
}


def test_on_a_terminal_of_80_columns_nothing_of_a_training_is_cut_off():
    lines = shown([EVENTS[3], LOOK], terminal=True, width=80).splitlines()
    start = next(number for number, line in enumerate(lines) if "Tune prompt" in line)
    assert lines[start].rstrip().endswith("candidate 3 (2/6 alive), step 32/64")
    assert "━" in lines[start + 1]
    assert lines[start + 2].strip() == "loss 1.120  validation 0.875  accuracy 0.755"
    assert lines[start + 3].strip() == "1,301 tokens/s  26 s left  2 of 6 alive"
    assert "Evaluate prompt" in lines[start + 4]


def test_in_a_log_the_same_is_one_line():
    assert shown([LOOK]) == f"  {LOOK['text']}\n"


def test_one_candidate_of_an_open_task_has_no_accuracy_and_nobody_to_compete_with():
    look = {key: value for key, value in LOOK.items() if key != "validation_accuracy"} | {"alive": 1, "num_candidates": 1}
    assert measured_lines(look) == ["loss 1.120  validation 0.875", "1,301 tokens/s  26 s left"]


def test_a_training_that_has_ended_is_one_line_again():
    ended = [
        EVENTS[3],
        LOOK,
        {"step": "tune_prompt", "text": "best step 64"},
        {"step": "tune_prompt", "state": "ended", "seconds": 9.0},
    ]
    lines = shown(ended, terminal=True).splitlines()
    (line,) = [line for line in lines if "Tune prompt" in line]
    assert "best step 64" in line
    assert not any("tokens/s" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (59 * 60, "59 min"), (3600, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_a_wait_is_told_in_the_unit_that_a_person_would_use(seconds, said):
    assert duration(seconds) == said


def test_on_a_terminal_a_failed_step_is_marked_and_says_what_failed_in_one_line():
    line = next(line for line in shown([*EVENTS, *FAILURE], terminal=True).splitlines() if "Tune prompt" in line)
    assert "✗" in line
    assert "Ray died." in line
    assert "9.0 s" in line


@pytest.mark.parametrize("step", ["publish_prompt", "explain_rejection"])
def test_of_the_two_branches_only_the_one_that_runs_is_shown(step):
    assert STEPS[step] not in shown([], terminal=True)
    assert STEPS[step] in shown([{"step": step, "state": "began"}], terminal=True)


def test_a_terminal_is_drawn_in_place_and_left_in_order():
    screen = console(terminal=True)
    with PipelineDisplay(screen) as display:
        for event in EVENTS:
            display(event)
    written = screen.file.getvalue()
    assert "\x1b[?25l" in written, "the cursor is hidden"
    assert written.rstrip("\n").endswith("\x1b[?25h"), "and shown again"


def test_a_terminal_is_left_in_order_after_an_error_too():
    screen = console(terminal=True)
    with pytest.raises(KeyboardInterrupt), PipelineDisplay(screen):
        raise KeyboardInterrupt
    assert screen.file.getvalue().rstrip("\n").endswith("\x1b[?25h")
