"""`softprompt serve`: only who is told otherwise listens to more than this machine."""

import inspect

import pytest
import uvicorn
from fastapi import FastAPI

from softprompt import cli
from softprompt.deployment import laptop
from softprompt.errors import VerificationFailed
from softprompt.serve import serve_channel
from softprompt.settings import Settings


def test_the_command_listens_on_loopback_unless_told_otherwise():
    assert inspect.signature(cli.serve).parameters["host"].default == "127.0.0.1"


def test_a_node_listens_where_it_is_told_once_a_generation_is_active(llama_directory, monkeypatch):
    served = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: served.append((app, options)))
    with laptop(Settings.from_environment()):
        settings = Settings.from_environment()
        serve_channel(settings, "laptop", llama_directory.as_uri(), "0.0.0.0", 8123)
        [(app, options)] = served
        assert isinstance(app, FastAPI)
        assert (options["host"], options["port"]) == ("0.0.0.0", 8123)
        assert (settings.node_state / "laptop.active.json").is_file()


def test_a_node_without_a_generation_never_opens_its_port(llama_directory, monkeypatch):
    monkeypatch.setattr(uvicorn, "run", lambda *_, **__: pytest.fail("it listens"))
    with laptop(Settings.from_environment()):
        monkeypatch.setenv("SOFTPROMPT_STORE", "s3://softprompt/elsewhere")
        with pytest.raises(VerificationFailed, match="no generation"):
            serve_channel(Settings.from_environment(), "laptop", llama_directory.as_uri(), "127.0.0.1", 8123)
