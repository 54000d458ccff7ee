"""docs/promotion.md: every command that it shows is run, in its order, and ends as the page says."""

import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from softprompt.release.planning.policy import ChannelPolicy
from tests.promotion import Promotion, a_prompt

GUIDE = (Path(__file__).parents[3] / "docs" / "promotion.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)


def test_every_command_runs_and_ends_as_it_says(tmp_path, server, registry, monkeypatch):
    place = Promotion.begin(tmp_path / "place", server, registry, monkeypatch.setenv, channels=("staging", "production"))
    place.git("remote", "remove", "origin")  # a laptop's repository: what is merged there is main
    for seed in (1, 2):
        place.register(seed, name="support-triage")
    monkeypatch.chdir(place.repository)
    served = []
    for line in "".join(BLOCKS).splitlines():
        command, _, remark = line.removeprefix("$ ").partition("   # ends with ")
        program, *arguments = shlex.split(command)
        if program == "git":
            place.git(*arguments)
        else:
            assert (program, arguments.pop(0)) == ("softprompt", "release")
            place.run(*arguments, code=int(remark or 0))
            if arguments[0] == "apply":
                alias = place.aliases("support-triage").get(arguments[-1], "")
                served.append((arguments[-1], place.serves("support-triage", arguments[-1]), alias))
    first, second = (a_prompt(seed).digest for seed in (1, 2))
    canary = [(first, 90), (second, 10)]
    assert served == [
        ("staging", [(first, 1)], "1"),
        ("staging", canary, "1"),
        ("staging", [(second, 1)], "2"),
        ("production", [(second, 1)], "2"),
        ("staging", canary, "1"),
        ("production", [], ""),
    ]


def test_every_key_of_a_policy_is_explained():
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", GUIDE, re.MULTILINE))))
    assert set(ChannelPolicy.model_fields) - {"schema_version"} <= explained


def test_the_example_is_yaml():
    (example,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert sorted(YAML(typ="safe").load(example)) == ["bases", "pinnable", "pinned", "schema_version", "shadow"]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:softprompt_release)?(_\w+?)(?:\{\w+\})?`", GUIDE)) - {"_policy"}))
def test_every_metric_exists(name):
    from softprompt.release.promotion.health import Health

    families = {family.name for family in Health("x").registry.collect()}
    assert f"softprompt_release{name}".removesuffix("_total") in families
