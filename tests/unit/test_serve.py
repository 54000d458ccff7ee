"""`softprompt serve`: it listens to this machine unless told otherwise, and says what is wrong before anything runs."""

import pytest
from typer.testing import CliRunner

from softprompt.cli import app
from softprompt.deployment import laptop
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.serve import ServeOptions, running_node, split_channel
from softprompt.settings import Settings


def test_a_node_listens_on_loopback_unless_told_otherwise():
    assert ServeOptions(channel="laptop", base_uri="embedded://base").host == "127.0.0.1"
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    assert "[default: 127.0.0.1]" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--dtype", "int3"), "--dtype expected: float32 or bfloat16 or float16 or int8 actual: int3"),
        (("--log-format", "xml"), "--log-format"),
        (("--bare-base", "base"), "by accident"),
        (("--tokens", "/nowhere/tokens.yaml"), "file of tokens"),
        (("--channel", "s3://bucket/prefix"), "channel's name is missing"),
        (("--channel", "http://bucket#live"), "not an S3 URI"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(options, said, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_STORE", "s3://nowhere")  # no embedded store for these
    done = CliRunner().invoke(app, ["serve", *options])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_a_channel_by_its_address_names_store_and_channel():
    settings = Settings.from_environment()
    name, found = split_channel("s3://bucket/some/prefix#production", settings)
    assert (name, found.store, found.uses_embedded_store) == ("production", "s3://bucket/some/prefix", False)
    assert split_channel("laptop", settings) == ("laptop", settings)
    with pytest.raises(InvalidRequest):
        split_channel("s3://bucket#", settings)


def test_a_node_runs_once_a_generation_is_active(llama_directory):
    with laptop(Settings.from_environment()):
        settings = Settings.from_environment()
        options = ServeOptions(channel="laptop", base_uri=llama_directory.as_uri())
        with running_node(settings, options) as node:
            assert node.engine.is_alive
            assert (settings.node_state / "laptop.active.json").is_file()


def test_a_node_without_a_generation_never_opens_its_port(llama_directory, monkeypatch):
    with laptop(Settings.from_environment()):
        monkeypatch.setenv("SOFTPROMPT_STORE", "s3://softprompt/elsewhere")
        options = ServeOptions(channel="laptop", base_uri=llama_directory.as_uri())
        with pytest.raises(VerificationFailed, match="no generation"), running_node(Settings.from_environment(), options):
            pytest.fail("it serves")


def test_a_node_in_8_bits_runs(llama_directory):
    with laptop(Settings.from_environment()):
        options = ServeOptions(channel="laptop", base_uri=llama_directory.as_uri(), dtype="int8")
        with running_node(Settings.from_environment(), options) as node:
            assert node.engine.is_alive
            assert node.follower._numerics == "int8"
