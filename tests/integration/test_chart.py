"""The chart: its values are documented and checked. `tests/cluster/` installs it."""

import copy
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from components import IMAGE
from infra import check_chart
from softprompt import __version__

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "softprompt"
EXAMPLES = sorted((CHART / "ci").glob("*-values.yaml"))
LAPTOP = CHART / "ci" / "laptop-values.yaml"


def read_yaml(path: Path) -> dict:
    return YAML(typ="safe").load(path)


def schema() -> dict:
    return json.loads((CHART / "values.schema.json").read_text())


def problems(values: dict) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema")
    return [error.message for error in jsonschema.Draft7Validator(schema()).iter_errors(values)]


def with_value(values: dict, path: str, value: object) -> dict:
    changed = copy.deepcopy(values)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    return changed


@pytest.mark.parametrize("path", [CHART / "values.yaml", *EXAMPLES], ids=lambda path: path.name)
def test_the_values_keep_to_their_schema(path):
    assert problems(read_yaml(path)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 3),
        ("store.url", "s3://b"),
        ("store.uri", "http://bucket"),
        ("store.endpoint", "s3.example:7070"),
        ("trustRoot.kind", "Volume"),
        ("serviceAccounts.reviewer", {"create": True}),
        ("serving.replica", 3),
        ("serving.replicas", "2"),
        ("serving.baseModel.uri", "hf://org/name@main"),
        ("serving.image.digest", "sha256:1"),
        ("serving.arguments", ["max-rows=3"]),
        ("serving.environment", {"A": 1}),
        ("serving.environment", {"A-B": "1"}),
        ("serving.podDisruptionBudget.maxUnavailable", 0),
        ("serving.podDisruptionBudget.maxUnavailable", "half"),
        ("serving.resources.limits", {"memory": "2 GB"}),
        ("serving.autoscaling.minReplicas", 0),
        ("reconciler.git.remote", "https://user:password@git.example/prompts.git"),
        ("reconciler.replicas", 2),
        ("pipeline.backend", "slurm"),
        ("pipeline.policies", {"Staging": "authority: git"}),
        ("mlflow.artifacts", "file:///tmp"),
        ("networkPolicy.clients", [{}]),
        ("networkPolicy.clients", [{"podSelectors": {}}]),
        ("networkPolicy.store", []),
        ("networkPolicy.store.ports", ["http"]),
        ("priorityClasses.serving", 2_000_000_000),
        ("externalSecrets.secrets", {"tokens": {"data": {}}}),
    ],
)
def test_the_schema_refuses_what_is_not_known_or_cannot_work(path, value):
    assert problems(with_value(read_yaml(CHART / "values.yaml"), path, value))


def test_every_object_of_the_schema_is_closed():
    def objects(part: object, path: str = "values"):
        if isinstance(part, dict):
            if "properties" in part and part.get("type") == "object":
                yield path, part
            for key, below in part.items():
                yield from objects(below, f"{path}.{key}")

    open_ones = [path for path, part in objects(schema()) if part.get("additionalProperties") is not False]
    assert open_ones == []


def test_every_value_says_what_it_is():
    """A key is documented itself, or lies in one that is, or is a group whose first key is documented or a group."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent, covered_from = [], None
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        indent = len(line) - len(line.lstrip())
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if covered_from is not None and indent > covered_from:
            continue
        covered_from = indent if before.lstrip().startswith("# --") else None
        is_group = line.endswith(":") and (after.lstrip().startswith("# --") or after.endswith(":"))
        if covered_from is None and not is_group:
            silent.append(line)
    assert silent == []


def test_chart_images_and_package_are_of_one_version():
    chart, values = read_yaml(CHART / "Chart.yaml"), read_yaml(CHART / "values.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    images = [values[part]["image"] for part in ("serving", "reconciler", "mlflow")]
    assert [image["repository"] for image in images] == ["softprompt/serving", "softprompt/release", "softprompt/steps"]
    assert {values["image"]["tag"], *(image["tag"] for image in images)} == {""}
    assert f"{images[-1]['repository']}:{chart['appVersion']}" == IMAGE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_pass_lint(path):
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    done = subprocess.run(["helm", "lint", "--strict", CHART, "--values", path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [check_chart.VERSIONS[0], check_chart.VERSIONS[-1]])
def test_every_object_fits_the_schemas_of_oldest_and_newest_kubernetes(version):
    """`make chart` does this for every example and every version between."""
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    objects, unknown = check_chart.render(CHART / "ci" / "production-values.yaml", version), set()
    assert list(check_chart.faults(objects, version, unknown)) == []
    assert {kind.partition(" ")[0] for kind in unknown} == {"ExternalSecret", "LocalQueue", "ServiceMonitor"}
    deployment = next(found for found in objects if found["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Never"
    assert "imagePullPolicies" in "".join(check_chart.faults([deployment], version, unknown)), "what no version knows is found"


def test_the_chart_passes_its_own_tests():
    if not shutil.which("helm-unittest"):
        pytest.skip("helm-unittest is not on PATH")
    done = subprocess.run(["helm-unittest", CHART], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_says_what_the_values_say():
    if not shutil.which("helm-docs"):
        pytest.skip("helm-docs is not on PATH")
    command = ["helm-docs", "--chart-search-root", CHART, "--dry-run", "--log-level", "error"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert made.strip() == (CHART / "README.md").read_text().strip()
