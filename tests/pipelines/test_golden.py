"""What `softprompt compile` writes is what Kubeflow Pipelines runs, so every change to it is looked at.

After a change that is meant, write the golden file anew from the repository's root, and read its difference before committing:

    softprompt compile tests/pipelines/golden/prompt-tuning.yaml
"""

import difflib
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from components import IMAGE
from softprompt.cli import app

GOLDEN = Path(__file__).parent / "golden" / "prompt-tuning.yaml"
STEPS = ["resolve-recipe", "validate-dataset", "tune-prompt", "evaluate-prompt", "register-prompt"]
SECRET = re.compile(r"secret|token(?!s)|password|credential|access_key|api_key|private", re.IGNORECASE)


def compiled(folder: Path, *options: str) -> str:
    """The package's text, from the command itself."""
    package = folder / "package.yaml"
    result = CliRunner().invoke(app, ["compile", str(package), *options])
    assert result.exit_code == 0, result.output
    return package.read_text()


def pipeline(text):
    """The package's first document; the second says what is in `test_pods.py`."""
    return next(iter(yaml.load_all(text, Loader=yaml.CSafeLoader)))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def package(text):
    return pipeline(text)


def without_sdk_version(text):
    return re.sub(r"^sdkVersion: .*$", "sdkVersion: any", text, flags=re.MULTILINE)


def test_the_package_is_the_golden_one(text):
    golden = without_sdk_version(GOLDEN.read_text()).splitlines()
    difference = difflib.unified_diff(golden, without_sdk_version(text).splitlines(), "golden", "compiled", lineterm="")
    assert "\n".join(difference) == "", "see this file's first lines if the change is meant"


def test_compiling_again_gives_the_same_bytes(text, tmp_path):
    assert compiled(tmp_path) == text


def test_every_step_but_the_last_stands_at_the_root(package):
    assert sorted(package["root"]["dag"]["tasks"]) == sorted([*STEPS, "condition-branches-1"])


def test_a_prompt_is_published_in_one_branch_and_its_rejection_explained_in_the_other(package):
    branches = package["components"]["comp-condition-branches-1"]["dag"]["tasks"]
    conditions = {name: task["triggerPolicy"]["condition"] for name, task in branches.items()}
    tasks = {name: sorted(package["components"][task["componentRef"]["name"]]["dag"]["tasks"]) for name, task in branches.items()}
    (publishes,) = [name for name, inside in tasks.items() if inside == ["publish-prompt"]]
    (explains,) = [name for name, inside in tasks.items() if inside == ["explain-rejection"]]
    assert "evaluate-prompt-verdict'] != 'rejected'" in conditions[publishes]
    assert conditions[explains].startswith("!(")
    assert "rejected" in conditions[explains]


def test_the_condition_is_the_verdict_of_evaluate_prompt(package):
    given = package["root"]["dag"]["tasks"]["condition-branches-1"]["inputs"]["parameters"]
    verdict = given["pipelinechannel--evaluate-prompt-verdict"]["taskOutputParameter"]
    assert verdict == {"outputParameterKey": "verdict", "producerTask": "evaluate-prompt"}


def test_nothing_that_looks_outside_is_cached_and_all_that_only_computes_is(package):
    tasks = package["root"]["dag"]["tasks"] | {
        name: task
        for component in package["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }
    cached = {name: task["cachingOptions"].get("enableCache", False) for name, task in tasks.items() if "cachingOptions" in task}
    outside = {"resolve-recipe": False, "register-prompt": False, "publish-prompt": False}
    inside = {"validate-dataset": True, "tune-prompt": True, "evaluate-prompt": True, "explain-rejection": True}
    assert cached == outside | inside


def test_the_form_has_at_most_twelve_fields_and_none_for_a_secret(package):
    fields = package["root"]["inputDefinitions"]["parameters"]
    assert len(fields) <= 12
    assert not [name for name in fields if SECRET.search(name)]
    assert all("defaultValue" in field for field in fields.values()), "a run can start without typing anything"
    assert fields["recipe"]["defaultValue"] == "demo"
    assert fields["prompt_kind"]["literals"] == ["", "shallow", "deep"]
    assert fields["backend"]["literals"] == ["", "local", "rayjob"]
    assert all(field["defaultValue"] in field["literals"] for field in fields.values() if "literals" in field)


def test_the_evaluation_is_cached_by_the_prompt_s_digest_since_kfp_looks_at_no_artifact_s_content(package):
    given = package["root"]["dag"]["tasks"]["evaluate-prompt"]["inputs"]["parameters"]["prompt_digest"]
    assert given["taskOutputParameter"] == {"outputParameterKey": "prompt_digest", "producerTask": "tune-prompt"}


def test_no_parameter_of_a_cached_step_changes_from_run_to_run(package):
    """KFP's own run id in one of them would make each run a new one for the cache."""
    for name, task in package["root"]["dag"]["tasks"].items():
        if task.get("cachingOptions", {}).get("enableCache"):
            assert "{{$." not in str(task["inputs"]), name


def test_no_step_takes_or_gives_a_secret(package):
    for name, component in package["components"].items():
        for side in ("inputDefinitions", "outputDefinitions"):
            assert not [key for key in component.get(side, {}).get("parameters", {}) if SECRET.search(key)], name


def test_names_are_for_people(package):
    info = package["pipelineInfo"]
    assert (info["name"], info["displayName"]) == ("prompt-tuning", "Prompt tuning")
    described = package["root"]["inputDefinitions"]["parameters"]
    assert all(name in info["description"] for name in described), "the form explains each of its fields"
    for step in STEPS:
        assert package["root"]["dag"]["tasks"][step]["taskInfo"]["name"] == step


def test_what_the_ui_draws_is_typed_so_that_it_draws_it(package):
    outputs = {
        (name.removeprefix("comp-"), key): artifact["artifactType"]["schemaTitle"]
        for name, component in package["components"].items()
        for key, artifact in component.get("outputDefinitions", {}).get("artifacts", {}).items()
    }
    assert outputs["validate-dataset", "dataset"] == "system.Dataset"
    assert outputs["validate-dataset", "dataset_report"] == "system.HTML"
    assert outputs["validate-dataset", "dataset_metrics"] == "system.Metrics"
    assert outputs["tune-prompt", "prompt"] == "system.Model"
    assert outputs["tune-prompt", "training_report"] == "system.HTML"
    assert outputs["tune-prompt", "training_metrics"] == "system.Metrics"
    assert outputs["tune-prompt", "mlflow"] == "system.Markdown"
    assert outputs["register-prompt", "registry"] == "system.Markdown"
    assert outputs["publish-prompt", "outcome"] == "system.Markdown"
    assert outputs["evaluate-prompt", "report"] == "system.HTML"
    assert outputs["evaluate-prompt", "metrics"] == "system.Metrics"
    assert outputs["evaluate-prompt", "confusion_matrix"] == "system.ClassificationMetrics"
    assert outputs["explain-rejection", "reasons"] == "system.Markdown"


def images(package):
    return [executor["container"]["image"] for executor in package["deploymentSpec"]["executors"].values()]


def test_every_step_runs_in_one_image_and_installs_nothing(package):
    assert images(package) == [IMAGE] * 7
    for executor in package["deploymentSpec"]["executors"].values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_the_image_can_be_pinned_by_digest(tmp_path):
    pinned = f"registry.example/steps@sha256:{'0' * 64}"
    assert images(pipeline(compiled(tmp_path, "--image", pinned))) == [pinned] * 7
