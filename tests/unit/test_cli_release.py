"""The commands of `softprompt release` explain themselves, and refuse what makes no sense before they ask any service."""

import re

import pytest
from typer.testing import CliRunner

from softprompt.cli import app

COMMANDS = ["propose", "plan", "apply", "status"]


def invoke(*arguments):
    return CliRunner().invoke(app, ["release", *arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def test_the_overview_names_each_with_a_sentence():
    output = invoke("--help").output
    for command in COMMANDS:
        assert re.search(rf"{command} +[A-Z][\w ]{{10}}", output), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_each_option_and_shows_an_example_that_would_be_taken(command):
    output = invoke(command, "--help").output
    options = dict(re.findall(r"(--[\w-]+) +(?:<[\w ]+>|\w+)? *(?:\[required\])? *(\S.*?)(?: {2}|│|\n)", output))
    assert len(options) > 2
    example = re.search(rf"Examples?: softprompt release ({command}\b[^·\n]*)", output)
    assert example, output
    assert all(option in output for option in re.findall(r"--[\w-]+", example[1]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["propose", "greeting", "--channel", "staging"],
        ["propose", "greeting", "1", "--channel", "staging", "--remove"],
        ["propose", "greeting", "1", "--channel", "staging", "--weight", "10", "--shadow"],
        ["propose", "greeting", "1", "--channel", "staging", "--weight", "100"],
        ["propose", "greeting", "--channel", "staging", "--remove", "--pinned"],
        ["propose", "greeting", "1"],
        ["apply"],
        ["status"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_ends_with_2(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
