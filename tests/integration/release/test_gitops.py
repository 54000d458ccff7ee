"""The example promotion repository: what it says is read by our own readers, and what its workflows run is run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from softprompt.release.planning.policy import read_desired, read_policy
from softprompt.release.promotion.code_owners import file_owners
from softprompt.release.promotion.plan_report import COMMENT_MARK
from tests.promotion import a_prompt

GITOPS = Path(__file__).parents[3] / "infra" / "gitops"
CHANNELS = ("staging", "production")
WORKFLOW = yaml.safe_load((GITOPS / ".github" / "workflows" / "promotion.yml").read_text())
GITLAB = yaml.safe_load((GITOPS / ".gitlab-ci.yml").read_text())
# Stands in for gh: keeps the pull request's comments in a file.
GH = """\
#!/usr/bin/env python3
import json, os, sys
file = os.environ["COMMENTS"]
comments = json.load(open(file)) if os.path.exists(file) else []
arguments = sys.argv[1:]
if arguments[:2] == ["api", "--paginate"]:
    assert arguments[2] == "repos/acme/prompts/issues/7/comments" and arguments[3] == "--jq", arguments
    print(*(number for number, body in enumerate(comments, 1) if body.startswith("MARK")), sep="\\n")
elif arguments[:4] == ["api", "--silent", "--method", "PATCH"]:
    number = int(arguments[4].rpartition("/")[2])
    comments[number - 1] = open(arguments[6].removeprefix("body=@")).read()
else:
    assert arguments[:3] == ["pr", "comment", "7"], arguments
    comments.append(open(arguments[arguments.index("--body-file") + 1]).read())
json.dump(comments, open(file, "w"))
""".replace("MARK", COMMENT_MARK)
# Stands in for curl against GitLab's notes: a list with somebody's note, then whatever is sent.
CURL = """\
#!/usr/bin/env python3
import json, os, sys
file = os.environ["COMMENTS"]
notes = json.load(open(file)) if os.path.exists(file) else [{"id": 1, "body": "somebody's"}]
arguments = sys.argv[1:]
if "--request" not in arguments:
    print(json.dumps(notes))
else:
    body, url = json.load(sys.stdin)["body"], arguments[-1]
    if arguments[arguments.index("--request") + 1] == "PUT":
        next(note for note in notes if note["id"] == int(url.rpartition("/")[2]))["body"] = body
    else:
        notes.append({"id": len(notes) + 1, "body": body})
    json.dump(notes, open(file, "w"))
"""


@pytest.mark.parametrize("channel", CHANNELS)
def test_policies_and_names_are_read_by_our_own_readers(channel):
    policy = read_policy(GITOPS / "environments", channel)
    assert policy.authority == "git"
    assert policy.owners
    for name in read_desired(GITOPS / "environments", channel):
        allowed = policy.owners_of(name)
        assert allowed
        assert set(file_owners(GITOPS, f"environments/{channel}/{name}.yaml")) <= set(allowed)


def test_production_is_stricter_than_staging():
    staging, production = (read_policy(GITOPS / "environments", channel) for channel in CHANNELS)
    assert production.review_required
    assert production.gates_required
    assert not production.allow_undecided
    assert production.max_age_days < staging.max_age_days


@pytest.mark.parametrize("file", ["environments/production/_policy.yaml", "CODEOWNERS", ".github/workflows/promotion.yml"])
def test_the_platform_owns_what_decides(file):
    assert file_owners(GITOPS, file) == ("@acme/platform",)


def test_the_teams_of_codeowners_are_the_policies():
    """For each pattern that a policy gives a team, CODEOWNERS gives it the files, and nobody else."""
    for channel in CHANNELS:
        for owner, patterns in read_policy(GITOPS / "environments", channel).owners.items():
            for pattern in patterns:
                name = pattern.replace("*", "anything")
                assert file_owners(GITOPS, f"environments/{channel}/{name}.yaml") == (owner,)


def test_the_workflow_is_safe_by_its_form():
    assert WORKFLOW["permissions"] == {}, "each job asks for what it needs"
    assert "pull_request_target" not in WORKFLOW[True], "YAML 1.1 reads `on` as true"
    for job in WORKFLOW["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), "what a pull request says must not become a command"
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert WORKFLOW["jobs"]["plan"]["permissions"]["contents"] == "read"
    assert "pull-requests" not in WORKFLOW["jobs"]["apply"]["permissions"]
    assert WORKFLOW["jobs"]["apply"]["concurrency"]["cancel-in-progress"] is False


@pytest.fixture
def repository(place, tmp_path):
    """The example as a team would have it: copied, the example file deleted, with a channel that exists."""
    shutil.copytree(GITOPS, place.repository, dirs_exist_ok=True)
    (place.environments / "staging" / "support-triage.yaml").unlink()
    shutil.copy(place.settings.trust_root, place.repository / "trust" / "root.json")
    place.merge_to_main()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"gh": GH, "curl": CURL, "pip": "#!/bin/sh\n", "apt-get": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    place.environment |= {
        "PATH": path,
        "COMMENTS": str(tmp_path / "comments.json"),
        "MLFLOW_TRACKING_URI": place.settings.tracking_uri,
        "GITHUB_REPOSITORY": "acme/prompts",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }
    return place


def run(place, script, folder, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI"))}
    environment |= place.environment | {"SOFTPROMPT_TRUST_ROOT": WORKFLOW["env"]["SOFTPROMPT_TRUST_ROOT"]} | more
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


def run_job(place, name, folder, **more):
    """The job's own scripts one after the other, as a runner would; the last result."""
    job = WORKFLOW["jobs"][name]
    values = {"github.event.pull_request.number": "7", "github.base_ref": "main", "matrix.channel": "staging"}
    declared = {
        key: re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: values.get(found[1], ""), str(value))
        for key, value in job["env"].items()
    }
    done = None
    for step in job["steps"]:
        if "run" in step:
            code = Path(place.environment["GITHUB_OUTPUT"])
            given = {"CODE": code.read_text().split("code=")[-1].strip()} if "CODE" in step.get("env", {}) else {}
            done = run(place, step["run"], folder, **declared, **given, **more)
            if done.returncode:
                return done
    return done


def comments(place):
    return json.loads(Path(place.environment["COMMENTS"]).read_text())


def propose(place, seed):
    version = place.register(seed, name="support-triage")
    place.run("propose", "support-triage", version, "--channel", "staging", "--repository", place.repository)
    branch = f"promote/staging/support-triage-{version}"
    place.git("push", "-q", "origin", branch)
    return branch


def checkout(place, folder, branch):
    place.git("clone", "-q", "--branch", branch, f"file://{place.remote}", str(folder))
    return folder


def test_the_workflow_plans_comments_and_applies(repository, tmp_path):
    """As GitHub runs it; programs that need the world (pip, gh) are stood in for."""
    place = repository
    branch = propose(place, 1)
    folder = checkout(place, tmp_path / "pull-request", branch)
    assert run_job(place, "plan", folder).returncode == 0
    (comment,) = comments(place)
    assert comment.startswith(COMMENT_MARK)
    assert "| `support-triage` | nothing | base" in comment
    assert "production" not in comment, "only what the pull request changes"

    # A commit that the policy refuses: the same comment says so, and the check is red.
    policy = folder / "environments" / "staging" / "_policy.yaml"
    policy.write_text(policy.read_text().replace('"@acme/support": ["support-*"]', '"@acme/support": ["other-*"]'))
    place.git("commit", "-q", "-a", "-m", "a policy that lets nobody have it", folder=folder)
    done = run_job(place, "plan", folder)
    assert done.returncode == 11, done.stdout + done.stderr
    (comment,) = comments(place)
    assert "**refused**" in comment
    assert "the policy lets nobody have this name" in comment

    place.merge_to_main(branch)
    main = checkout(place, tmp_path / "main", "main")
    done = run_job(place, "apply", main)
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.serves("support-triage") == [(a_prompt(1).digest, 1)]
    assert "all in step" in Path(place.environment["GITHUB_STEP_SUMMARY"]).read_text()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("jq"), reason="GitLab's form uses jq")
def test_gitlabs_form_does_the_same(repository, tmp_path):
    place = repository
    branch = propose(place, 1)
    folder = checkout(place, tmp_path / "merge-request", branch)
    ours = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_API_V4_URL": "https://gitlab.example/api/v4", "CHANNEL": "staging"}
    ours |= {"CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "7", "GITLAB_TOKEN": "x"}
    (script,) = GITLAB["plan"]["script"]
    for _ in range(2):
        done = run(place, script, folder, **ours)
        assert done.returncode == 0, done.stdout + done.stderr
    first, second = comments(place)
    assert first["body"] == "somebody's"
    assert "| `support-triage` | nothing | base" in second["body"]
    place.merge_to_main(branch)
    (script,) = GITLAB["apply"]["script"]
    done = run(place, script, checkout(place, tmp_path / "main", "main"), **ours)
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.serves("support-triage") == [(a_prompt(1).digest, 1)]
    assert GITLAB["variables"] == {"GIT_DEPTH": "0", "SOFTPROMPT_TRUST_ROOT": WORKFLOW["env"]["SOFTPROMPT_TRUST_ROOT"]}
