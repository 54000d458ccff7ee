"""The command line answers at once, explains itself, and ends with the exit code that the error hierarchy promises."""

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from softprompt import __version__, errors
from softprompt.cli import app
from softprompt.cli.terminal import readable_errors
from softprompt.errors import SoftpromptError
from softprompt.resolve import find_recipe, packaged_recipes
from tests.image_packages import only_packages_of

COMMANDS = [
    "demo",
    "run",
    "validate",
    "compile",
    "submit",
    "retune",
    "schema",
    "ask",
    "inspect",
    "compare",
    "export",
    "import",
    "status",
    "serve",
    "ui",
]
HEAVY = ["torch", "transformers", "kfp", "mlflow", "ray", "boto3", "pyarrow", "sklearn"]
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SoftpromptError)]


def invoke(*arguments):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})


def test_the_commands_are_those_of_the_list_and_each_is_explained_in_the_overview():
    result = invoke("--help")
    assert result.exit_code == 0
    assert {command.name or command.callback.__name__ for command in app.registered_commands} == set(COMMANDS)
    for command in COMMANDS:
        assert re.search(rf"{command} +[A-Z][\w ]{{10}}", result.output), command
    assert "4 the gates rejected the prompt" in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: softprompt {command}" in result.output
    options = re.findall(r"(--[\w-]+) +(?:<\w+>|FILE) +(\S.*?)(?: {2}|│|\n)", result.output)
    assert "--help" in dict(options)
    assert all(len(text) > 8 for _, text in options), "every option has a sentence"


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "serve"])
def test_help_shows_an_example_that_the_command_would_take(command):
    lines = invoke(command, "--help").output
    example = re.search(rf"Examples?: softprompt ({command}\b[^·\n]*)", lines)
    assert example, lines
    known = invoke(command, "--help").output
    assert all(option in known for option in re.findall(r"--[\w-]+", example[1]))


def test_without_arguments_it_explains_itself():
    result = invoke()
    assert "softprompt demo" in result.output
    assert "Commands" in result.output


def test_the_version_is_the_packages():
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [["dance"], ["run"], ["run", "demo", "--num-token", "3"], ["run", "demo", "--num-tokens", "many"], ["ask", "text"]],
    ids=" ".join,
)
def test_a_command_line_that_is_wrong_ends_with_2(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_misspelt_option_is_answered_with_the_right_one():
    assert "--num-tokens" in invoke("run", "demo", "--num-token", "3").output


def test_a_summary_that_could_not_be_written_is_refused_before_the_run(tmp_path):
    result = invoke("run", "demo", "--json", str(tmp_path / "nowhere" / "summary.json"))
    assert result.exit_code == 2
    assert str(tmp_path / "nowhere") in result.output


class TestSchema:
    """`softprompt schema`."""

    schema = property(lambda self: json.loads(invoke("schema").output))

    def test_is_a_json_schema_that_explains_every_key_a_person_fills_in(self):
        schema = self.schema
        jsonschema.Draft202012Validator.check_schema(schema)
        for name, part in schema["$defs"].items():
            for key, field in part.get("properties", {}).items():
                assert "const" in field or field.get("description"), f"{name}.{key}"

    @pytest.mark.parametrize("name", packaged_recipes())
    def test_accepts_the_packaged_recipes(self, name):
        recipe = YAML(typ="safe", pure=True).load(find_recipe(name)[0])
        jsonschema.validate(recipe, self.schema)

    @pytest.mark.parametrize(
        "change", [{"nmae": "x"}, {"schema_version": 2}, {"gates": "none"}, {"prompt": {"num_tokens": 0}}, {"name": "UPPER"}]
    )
    def test_refuses_what_the_reader_refuses(self, change):
        recipe = YAML(typ="safe", pure=True).load(find_recipe("demo")[0]) | change
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(recipe, self.schema)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_is_told_with_its_name_and_ends_with_its_code(kind, capsys):
    with pytest.raises(typer.Exit) as caught, readable_errors():
        raise kind("It failed.", where="there", hint="Mend it.")
    assert caught.value.exit_code == kind.exit_code
    told = capsys.readouterr().err
    assert f"{kind.__name__}\nIt failed.\n  where:    there\n  to do:    Mend it.\n" in told
    assert ("Traceback" in told) == (kind.exit_code == 1), "a stack trace for a fault of ours only"


def test_a_message_is_printed_as_it_is_even_where_it_looks_like_markup(capsys):
    with pytest.raises(typer.Exit), readable_errors():
        raise SoftpromptError("It [red]failed[/red] at [/] :warning: " + "x" * 300)
    assert "It [red]failed[/red] at [/] :warning: " + "x" * 300 in capsys.readouterr().err


def test_ctrl_c_is_not_a_stack_trace(capsys):
    with pytest.raises(SystemExit) as caught, readable_errors():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert "interrupted" in capsys.readouterr().err


def fresh_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_softprompt_is_quick():
    timed = "import time; began = time.perf_counter(); import softprompt; print(time.perf_counter() - began)"
    assert min(fresh_python(timed) for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    "doing", ["import softprompt", "import softprompt.cli; softprompt.cli.app(['run', '--help'], standalone_mode=False)"]
)
def test_nothing_heavy_is_imported_before_it_is_needed(doing):
    loaded = fresh_python(f"import json, sys\n{doing}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))")
    assert loaded == []


@pytest.mark.parametrize(
    ("role", "besides", "doing"),
    [
        ("release", (), "softprompt.cli.app(['release', 'apply', '--help'], standalone_mode=False)"),
        ("release", (), "import softprompt.promotion_watch, softprompt.channel_care, softprompt.deployment"),
        ("serving", ("torch",), "import softprompt.serve, softprompt.serving.http.app, softprompt.serving.scheduler"),
        ("serving", ("torch",), "import softprompt.serving.tracing; softprompt.serving.tracing.Tracing.from_environment()"),
        ("serving", ("torch",), "import softprompt.quantised; softprompt.quantised.int8_weights()"),
    ],
)
def test_a_role_imports_only_what_its_image_has(role, besides, doing, tmp_path):
    code = f"import sys, softprompt.cli\n{doing}\nprint({{'torch', 'ray', 'mlflow.server', 'kfp'}} & set(sys.modules))"
    limited = only_packages_of(role, tmp_path, besides=besides) | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | limited, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("set()", "{'torch'}" if besides else "set()")
