"""A real Argo CD brings a fleet and its environment out of Git, in waves, and nothing that its project does not name."""

import json
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.kubernetes import ROOT, Kubernetes, an_object
from tests.cluster.locks import lock
from tests.cluster.machine import PROGRAMS
from tests.cluster.promotion_site import TOKEN, Site, promotion_site
from tests.promotion import IDENTITY, empty_registry
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
OURS = ("fleet-staging", "environment-staging")
FINALIZER = "resources-finalizer.argocd.argoproj.io"
HERE = ("--namespace", "argocd")


@dataclass
class Platform:
    """The repository that Argo CD follows: our chart and infra/argocd, with the values of this cluster."""

    site: Site
    folder: Path
    fleet: str
    keys: str

    @property
    def kubernetes(self) -> Kubernetes:
        return self.site.kubernetes

    @property
    def url(self) -> str:
        return f"{self.site.remote.url}/platform.git"

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, env=self.kubernetes.environment | IDENTITY, check=True)

    def push(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        self.git("push", "-q", "origin", "HEAD:main")
        for name in ("softprompt", *OURS):
            self.kubernetes.attempt(
                "kubectl", "annotate", "application", name, *HERE, "--overwrite", "argocd.argoproj.io/refresh=hard"
            )

    def application(self, name: str) -> dict:
        done = self.kubernetes.attempt("kubectl", "get", "application", name, *HERE, "--output", "json")
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def is_whole(self, name: str) -> bool:
        """In step with Git, and healthy."""
        status = self.application(name).get("status", {})
        return (status.get("sync", {}).get("status"), status.get("health", {}).get("status")) == ("Synced", "Healthy")

    def wait(self, *names: str, timeout_seconds: float = 300) -> None:
        for name in names:
            try:
                wait_for(lambda name=name: self.is_whole(name), f"{name} is whole", timeout_seconds=timeout_seconds)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{json.dumps(self.application(name).get('status'))[:4000]}") from None


def write_values(folder: Path, name: str, values: dict) -> None:
    (folder / "infra" / "argocd" / "values" / f"{name}.yaml").write_text(json.dumps(values))


def adapt(folder: Path, replaced: dict[str, str]) -> None:
    """What somebody who forks the repository edits: where things are, and here which Applications and namespaces."""
    for path in (folder / "infra" / "argocd").rglob("*.yaml"):
        text = path.read_text()
        for old, new in replaced.items():
            text = text.replace(old, new)
        path.write_text(text)
    kustomization = folder / "infra" / "argocd" / "kustomization.yaml"
    lines = kustomization.read_text().splitlines()
    kept = [line for line in lines if "applications/" not in line or any(f"/{name}." in line for name in OURS)]
    kustomization.write_text("\n".join(kept) + "\n")


@pytest.fixture(scope="module")
def argocd(machine):
    """Argo CD, started if it is not there, and told when an Application is healthy."""
    if machine.kubernetes.attempt("kubectl", "get", "deployment", "argocd-repo-server", *HERE).returncode:
        with lock("cluster"):
            machine.kubernetes.run(PROGRAMS / "up", "--argocd", timeout_seconds=900)
    patch = ROOT / "infra" / "argocd" / "argocd-cm.yaml"
    machine.kubernetes.run("kubectl", "patch", "configmap", "argocd-cm", *HERE, "--patch-file", patch)
    return machine.kubernetes


@pytest.fixture(scope="module")
def site(argocd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    registry = empty_registry(tmp_path_factory.mktemp("registry") / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch, promotion_site(argocd, folder, registry, patch.setenv) as made:
        (made.place.repository / "trust").mkdir()
        shutil.copy(made.place.settings.trust_root, made.place.repository / "trust" / "root.json")
        made.place.merge_to_main()
        yield made


@pytest.fixture(scope="module")
def platform(site, images, tmp_path_factory):
    name = f"gitops-{uuid.uuid4().hex[:8]}"
    made = Platform(site, tmp_path_factory.mktemp("platform"), f"{name}-fleet", f"{name}-keys")
    for part in ("charts/softprompt", "infra/argocd"):
        shutil.copytree(ROOT / part, made.folder / part)
    adapt(
        made.folder,
        {
            "https://git.example/softprompt.git": made.url,
            "https://git.example/prompts.git": site.repository,
            "revision: v0.1.0": "revision: main",
            "prompts-staging": made.fleet,
            "promotion-staging": made.keys,
        },
    )
    write_values(made.folder, "common", site.common_values())
    write_values(made.folder, "fleet-staging", {"serving": site.fleet_values(images.name("serving"))})
    reconciler = site.reconciler_values(images.name("release"), 5)
    write_values(made.folder, "environment-staging", {"serving": {"enabled": False}, "reconciler": reconciler})
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(site.place.folder / "platform.git")], check=True)
    made.git("init", "-q", "-b", "main")
    made.git("remote", "add", "origin", f"file://{site.place.folder}/platform.git")
    made.push("the platform")
    prepare(made)
    yield made
    clean_up(made)


def prepare(made: Platform) -> None:
    """What a person does by hand: namespaces with Secrets, Argo CD's access to Git, the root."""
    site, kubernetes = made.site, made.kubernetes
    for namespace in (made.fleet, made.keys):
        kubernetes.namespace(namespace)
    kubernetes.apply(site.secrets_of_the_fleet(made.fleet), *site.secrets_of_the_reconciler(made.keys))
    for name, url in (("platform", made.url), ("prompts", site.repository)):
        labels = {"argocd.argoproj.io/secret-type": "repository"}
        access = {"type": "git", "url": url, "username": "git", "password": TOKEN, "insecure": "true"}
        kubernetes.apply(an_object("v1", "Secret", f"{made.keys}-{name}", namespace="argocd", labels=labels, stringData=access))
    kubernetes.run("kubectl", "apply", "--filename", made.folder / "infra" / "argocd" / "root.yaml")


def clean_up(made: Platform) -> None:
    kubernetes = made.kubernetes
    cascade, let_go = (json.dumps({"metadata": {"finalizers": found}}) for found in ([FINALIZER], None))
    # What `argocd app terminate-op` does: while a sync is being tried again, every few minutes, Argo CD deletes nothing.
    terminate = json.dumps({"status": {"operationState": {"phase": "Terminating"}}})
    kubernetes.attempt("kubectl", "delete", "application", "softprompt", *HERE)
    for name in reversed(OURS):
        kubernetes.attempt("kubectl", "patch", "application", name, *HERE, "--type=merge", "--patch", cascade)
        kubernetes.attempt("kubectl", "patch", "application", name, *HERE, "--type=merge", "--patch", terminate)
        kubernetes.attempt("kubectl", "delete", "application", name, *HERE, "--timeout=240s", timeout_seconds=250)
        # Where Argo CD did not manage in time: its namespaces are deleted below, and it must not wait for a project that is gone.
        kubernetes.attempt("kubectl", "patch", "application", name, *HERE, "--type=merge", "--patch", let_go)
    kubernetes.attempt("kubectl", "delete", "appprojects", *HERE, "softprompt-root", "softprompt", "softprompt-kubeflow")
    kubernetes.attempt("kubectl", "delete", "appprojects", *HERE, "softprompt-operators")
    kubernetes.attempt("kubectl", "delete", "secrets", *HERE, f"{made.keys}-platform", f"{made.keys}-prompts")
    for namespace in (made.fleet, made.keys):
        kubernetes.delete_namespace(namespace)


def test_the_root_brings_the_fleet_and_only_then_its_environment(platform):
    def fleet_and_then_its_environment():
        environment, fleet_is_whole = platform.application("environment-staging"), platform.is_whole("fleet-staging")
        assert fleet_is_whole or not environment, "a wave did not wait"
        return environment

    wait_for(fleet_and_then_its_environment, "the environment's Application is there", timeout_seconds=600)
    platform.wait("environment-staging", "fleet-staging", "softprompt")
    namespace = platform.kubernetes.get("namespace", platform.fleet)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    root = platform.kubernetes.get("configmap", "softprompt-trust-root", "--namespace", platform.fleet)
    assert root["data"]["root.json"] == platform.site.place.settings.trust_root.read_text(), "as the promotion repository says"


def test_a_merge_in_the_promotion_repository_is_served_and_argo_cd_has_nothing_to_do(platform):
    before = platform.application("fleet-staging")["status"]["operationState"]["finishedAt"]
    prompt = platform.site.channel.prompt(seed=1)
    platform.site.promote(prompt)
    platform.site.wait_until_all_serve(platform.fleet, prompt, timeout_seconds=90)
    assert platform.application("fleet-staging")["status"]["operationState"]["finishedAt"] == before


def test_what_somebody_changed_by_hand_comes_back(platform):
    name = ("networkpolicy", "softprompt-reader-default-deny", "--namespace", platform.fleet)
    found = platform.kubernetes.get(*name)["metadata"]["uid"]
    platform.kubernetes.run("kubectl", "delete", *name)

    def there_again():
        done = platform.kubernetes.attempt("kubectl", "get", *name, "--output", "jsonpath={.metadata.uid}")
        return done.stdout not in ("", found) and done.returncode == 0

    wait_for(there_again, "the policy is there again", timeout_seconds=120)


def test_a_kind_that_the_project_does_not_name_is_refused(platform):
    """A merged change of the chart that would give rights over the whole cluster."""
    extra = platform.folder / "charts" / "softprompt" / "templates" / "extra.yaml"
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    role = an_object("rbac.authorization.k8s.io/v1", "ClusterRole", platform.fleet, rules=rules)
    extra.write_text(json.dumps(role))
    platform.push("rights over everything")

    def refused():
        state = platform.application("fleet-staging")["status"].get("operationState", {})
        results = state.get("syncResult", {}).get("resources") or []
        return [one for one in results if one["kind"] == "ClusterRole" and "not permitted in project" in one["message"]]

    wait_for(refused, "Argo CD refuses", timeout_seconds=180)
    assert platform.kubernetes.attempt("kubectl", "get", "clusterrole", platform.fleet).returncode != 0
    extra.unlink()
    platform.push("without them")
    platform.wait("fleet-staging", timeout_seconds=180)
