"""What Argo CD is given: it fits together, waits in waves, is pinned, and may do nothing that is not named.

`tests/cluster/test_argocd.py` has a real Argo CD sync our own part of it.
"""

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from pipelines.compile import compile_pipeline

ROOT = Path(__file__).resolve().parents[2]
ARGOCD, CHART = ROOT / "infra" / "argocd", ROOT / "charts" / "softprompt"
HERE = "https://kubernetes.default.svc"
OPTIONS = sorted(path.name for path in (ARGOCD / "options").iterdir())
WAVE, COMPARED = "argocd.argoproj.io/sync-wave", "argocd.argoproj.io/compare-options"
# Made by hand or by an operator (Secrets), or by `helm test` (Pods): never out of Git.
NOT_FROM_GIT = {("", "Secret"), ("", "Pod")}
NEEDS_KUSTOMIZE = pytest.mark.skipif(not shutil.which("kustomize"), reason="kustomize is not on PATH")
NEEDS_HELM = pytest.mark.skipif(not shutil.which("helm"), reason="helm is not on PATH")


def read_all(text):
    return [document for document in YAML(typ="safe").load_all(text) if document]


def read(path):
    return read_all(path.read_text())


def files():
    """Every Application's file."""
    return sorted([*(ARGOCD / "applications").glob("*.yaml"), *(ARGOCD / "options").glob("*/application.yaml")])


@functools.cache
def applications():
    """Name -> Application, as it is written."""
    return {one["metadata"]["name"]: one for path in files() for one in read(path)}


@functools.cache
def projects():
    return {one["metadata"]["name"]: one["spec"] for one in [*read(ARGOCD / "projects.yaml"), *read(ARGOCD / "root.yaml")[:1]]}


def sources(application):
    spec = application["spec"]
    return spec.get("sources") or [spec["source"]]


def wave(application):
    return int(application["metadata"]["annotations"][WAVE])


@functools.cache
def ours():
    """Name -> Application, of those that install our chart."""
    return {name: one for name, one in applications().items() if sources(one)[0].get("path") == "charts/softprompt"}


def value_files(application):
    """As Argo CD finds them: below the chart's own folder, or beside it in the same repository."""
    return [(CHART / file).resolve() for file in sources(application)[0]["helm"]["valueFiles"]]


def merged(below, above):
    """Helm's merging of values: maps key by key, everything else replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def test_every_file_is_one_application_of_its_name_and_is_listed():
    listed = {file for file in read(ARGOCD / "kustomization.yaml")[0]["resources"] if file.startswith("applications/")}
    assert listed == {f"applications/{path.name}" for path in (ARGOCD / "applications").glob("*.yaml")}
    for path in files():
        (one,) = read(path)
        assert (one["apiVersion"], one["kind"]) == ("argoproj.io/v1alpha1", "Application")
        assert one["metadata"]["name"] == (path.stem if path.stem != "application" else path.parent.name)
        assert one["spec"]["destination"]["server"] == HERE


def test_the_waves_are_in_the_order_in_which_things_need_each_other():
    found = {name: wave(one) for name, one in applications().items()}
    in_order = [
        {*OPTIONS, "cert-manager", "kuberay-operator"} - {"pipeline-versions"},
        {"kubeflow-cluster"},
        {"kubeflow-pipelines"},
        {"mlflow"},
        {"pipeline", "fleet-staging", "fleet-production"},
        {"pipeline-versions"},
        {"environment-staging", "environment-production"},
    ]
    assert [{found[name] for name in names} for names in in_order] == [{number} for number in range(7)]
    assert set(found) == set().union(*in_order)
    assert all(int(one["metadata"]["annotations"][WAVE]) < 0 for one in read(ARGOCD / "projects.yaml"))


def test_a_wave_waits_because_argo_cd_is_told_when_an_application_is_healthy():
    (patch,) = read(ARGOCD / "argocd-cm.yaml")
    (check,) = patch["data"].values()
    assert set(patch["data"]) == {"resource.customizations.health.argoproj.io_Application"}
    assert "obj.status.health.status" in check


@pytest.mark.parametrize("name", applications())
def test_versions_are_pinned(name):
    for source in sources(applications()[name]):
        if source.get("ref") == "prompts":
            assert source["targetRevision"] == "main", "the promotion repository's branch is what is approved"
        elif source["repoURL"] == "platform":
            assert source["targetRevision"] == "revision"
        else:
            assert re.fullmatch(r"v?\d+\.\d+\.\d+", source["targetRevision"])
    revision = read(ARGOCD / "sources.yaml")[0]["data"]["revision"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+|[0-9a-f]{40}", revision)


@pytest.mark.parametrize("name", applications())
def test_what_an_application_names_in_this_repository_is_there(name):
    application = applications()[name]
    for source in sources(application):
        if source["repoURL"] == "platform":
            assert (ROOT / source["path"]).is_dir()
        for file in source.get("helm", {}).get("fileParameters", []):
            reference, _, path = file["path"].partition("/")
            assert reference == "$prompts"
            assert (ROOT / "infra" / "gitops" / Path(path).parent).is_dir(), path
    if name in ours():
        assert [path.is_file() for path in value_files(application)] == [True, True]
        assert all(ROOT in path.parents for path in value_files(application)), "Argo CD reads nothing outside the repository"


@pytest.mark.parametrize("name", ours())
def test_every_value_that_an_application_sets_is_one_of_the_chart(name):
    """By the chart's own schema, which knows no key that values.yaml has not."""
    values = read(CHART / "values.yaml")[0]
    for path in value_files(ours()[name]):
        values = merged(values, read(path)[0])
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(values)] == []


@pytest.mark.parametrize("name", applications())
def test_a_project_allows_exactly_these_sources_and_destinations(name):
    application = applications()[name]
    project = projects()[application["spec"]["project"]]
    assert {source["repoURL"] for source in sources(application)} <= set(project["sourceRepos"])
    assert application["spec"]["destination"] in [dict(one) for one in project["destinations"]]


def test_projects_name_what_they_allow():
    used = {name: set() for name in projects()}
    for application in [*applications().values(), read(ARGOCD / "root.yaml")[1]]:
        used[application["spec"]["project"]] |= {source["repoURL"] for source in sources(application)}
    for name, project in projects().items():
        assert "*" not in json.dumps(project), name
        assert set(project["sourceRepos"]) == used[name], "a source that nobody uses is a door that nobody watches"
    for name in ("softprompt", "softprompt-root"):
        assert projects()[name]["namespaceResourceWhitelist"]


@NEEDS_KUSTOMIZE
def test_one_file_says_where_everything_comes_from(tmp_path):
    shutil.copytree(ARGOCD, tmp_path / "argocd")
    (declared,) = read(tmp_path / "argocd" / "sources.yaml")
    text = (tmp_path / "argocd" / "sources.yaml").read_text()
    for key, value in {"platform": "https://a.example/p.git", "revision": "v9.9.9", "prompts": "https://b.example/q.git"}.items():
        text = text.replace(f"{key}: {declared['data'][key]}", f"{key}: {value}")
    (tmp_path / "argocd" / "sources.yaml").write_text(text)
    built = build(tmp_path / "argocd")
    for one in built:
        if one["kind"] == "Application" and one["metadata"]["name"] in {*ours(), "pipeline-versions"}:
            first, *others = sources(one)
            assert (first["repoURL"], first["targetRevision"]) == ("https://a.example/p.git", "v9.9.9")
            assert [other["repoURL"] for other in others] in ([], ["https://b.example/q.git"])
    (project,) = [one for one in built if one["kind"] == "AppProject" and one["metadata"]["name"] == "softprompt"]
    assert project["spec"]["sourceRepos"] == ["https://a.example/p.git", "https://b.example/q.git"]


def build(folder):
    done = subprocess.run(["kustomize", "build", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return read_all(done.stdout)


@NEEDS_KUSTOMIZE
@pytest.mark.parametrize("options", [[], OPTIONS], ids=["as it is", "with every option"])
def test_the_root_application_brings_what_it_may_and_each_is_synced_alike(tmp_path, options):
    shutil.copytree(ARGOCD, tmp_path / "argocd")
    text = (tmp_path / "argocd" / "kustomization.yaml").read_text()
    for option in options:
        assert f"  # - options/{option}\n" in text
        text = text.replace(f"  # - options/{option}\n", f"  - options/{option}\n")
    (tmp_path / "argocd" / "kustomization.yaml").write_text(text)
    built = build(tmp_path / "argocd")
    allowed = {(one["group"], one["kind"]) for one in projects()["softprompt-root"]["namespaceResourceWhitelist"]}
    assert {(one["apiVersion"].split("/")[0], one["kind"]) for one in built} == allowed
    assert {one["metadata"]["namespace"] for one in built} == {"argocd"}
    names = {one["metadata"]["name"]: one["spec"] for one in built if one["kind"] == "Application"}
    compared = {one["metadata"]["annotations"][COMPARED] for one in built if one["kind"] == "Application"}
    assert compared == {"ServerSideDiff=true"}
    assert set(names) == set(applications()) - set(OPTIONS) | set(options)
    for name, spec in names.items():
        assert spec["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
        assert "CreateNamespace=true" in spec["syncPolicy"]["syncOptions"]
        of_ours = spec["destination"]["namespace"].startswith(("mlflow", "prompts-", "promotion-"))
        assert ("managedNamespaceMetadata" in spec["syncPolicy"]) == of_ours, name


@NEEDS_KUSTOMIZE
def test_a_compiled_pipeline_is_what_its_application_brings_and_old_versions_stay(tmp_path):
    shutil.copytree(ARGOCD / "pipelines", tmp_path / "pipelines")
    compile_pipeline(tmp_path / "pipelines" / "prompt-tuning.yaml", form="kubernetes", namespace="kubeflow")
    pipeline, version = sorted(build(tmp_path / "pipelines"), key=lambda one: one["kind"])
    assert {group_kind(one) for one in (pipeline, version)} <= {
        (one["group"], one["kind"]) for one in projects()["softprompt"]["namespaceResourceWhitelist"]
    }
    assert pipeline["metadata"]["namespace"] == applications()["pipeline-versions"]["spec"]["destination"]["namespace"]
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"]
    assert version["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false"
    assert "annotations" not in pipeline["metadata"]


@functools.cache
def rendered(name):
    """(group, kind) of what our chart makes for an Application, as Helm renders it."""
    application = ours()[name]
    helm, namespace = sources(application)[0]["helm"], application["spec"]["destination"]["namespace"]
    command = ["helm", "template", helm["releaseName"], str(CHART), "--namespace", namespace, "--kube-version", "1.34.0"]
    command += [part for path in value_files(application) for part in ("--values", str(path))]
    command += [part for file in helm.get("fileParameters", []) for part in ("--set", f"{file['name']}=x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in read_all(done.stdout) if "helm.sh/hook" not in one["metadata"].get("annotations", {})]


def group_kind(one):
    return (one["apiVersion"].rpartition("/")[0], one["kind"])


@NEEDS_HELM
@pytest.mark.parametrize("name", ours())
def test_the_project_allows_what_the_chart_makes_where_it_makes_it(name):
    project, namespaces = projects()["softprompt"], {one["namespace"] for one in projects()["softprompt"]["destinations"]}
    allowed = {(one["group"], one["kind"]) for key in ("cluster", "namespace") for one in project[f"{key}ResourceWhitelist"]}
    made = rendered(name)
    assert made
    assert {group_kind(one) for one in made} <= allowed
    assert {one["metadata"].get("namespace", "mlflow") for one in made} <= namespaces


def test_the_project_allows_no_kind_that_nothing_makes():
    text = "\n".join(path.read_text() for path in (CHART / "templates").rglob("*.yaml"))
    pairs = re.findall(r"^apiVersion: (\S+)\nkind: (\S+)$", text, flags=re.MULTILINE)
    made = {(api.rpartition("/")[0], kind) for api, kind in pairs} - NOT_FROM_GIT
    project = projects()["softprompt"]
    allowed = {(one["group"], one["kind"]) for key in ("cluster", "namespace") for one in project[f"{key}ResourceWhitelist"]}
    pipelines = {("pipelines.kubeflow.org", "Pipeline"), ("pipelines.kubeflow.org", "PipelineVersion")}
    assert allowed == made | pipelines | {("", "Namespace")}


@NEEDS_HELM
def test_a_channels_signing_key_is_where_no_run_of_the_pipeline_is():
    """Whoever may create pods in a namespace may mount its Secrets."""
    for channel in ("staging", "production"):
        (reconciler,) = [one for one in rendered(f"environment-{channel}") if one["kind"] == "Deployment"]
        assert reconciler["metadata"]["namespace"] == f"promotion-{channel}"
    others = [one for name in ours() if not name.startswith("environment-") for one in rendered(name)]
    assert not [one for one in others if one["metadata"].get("namespace", "").startswith("promotion-")]
