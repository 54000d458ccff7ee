"""The project's workflow: safe by its form, and what it runs is there."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
STEPS = [(name, step) for name, job in WORKFLOW["jobs"].items() for step in job["steps"]]


def test_it_may_read_and_no_more():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in WORKFLOW[True], "YAML 1.1 reads `on` as true"
    for job in WORKFLOW["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"]
    for _, step in STEPS:
        assert "${{" not in step.get("run", ""), "what a pull request says must not become a command"
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"] == {"persist-credentials": False}


def test_what_it_runs_is_there():
    commands = "\n".join(step.get("run", "") for _, step in STEPS)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r'make "?([a-z-]+)', commands):
        assert re.search(rf"^({target}|[^\n]*%=image-%[^\n]*):", makefile, re.MULTILINE), target
    paths = re.findall(r"(?<=[ =])(?:infra|tests)/\S+|\.ci/run", commands)
    assert {".ci/run", "infra/terraform", "tests/integration/test_argocd.py"} <= set(paths)
    assert all((ROOT / path).exists() for path in paths)


def test_it_builds_every_image():
    roles = {path.stem for path in (ROOT / "infra" / "images").glob("*.Containerfile")}
    assert set(WORKFLOW["jobs"]["images"]["strategy"]["matrix"]["role"]) == roles


def test_its_terraform_is_the_one_that_formatted_the_files():
    (step,) = [step for name, step in STEPS if name == "terraform" and "setup-terraform" in step.get("uses", "")]
    assert re.fullmatch(r"1\.\d+\.\d+", step["with"]["terraform_version"])
