"""Git to prompt: a merge is a signed generation and the answer of every serving pod, with no rollout; a revert takes it back."""

import time
import uuid
from dataclasses import dataclass

import httpx
import pytest

from tests.cluster.kubernetes import ROOT, Kubernetes
from tests.cluster.promotion_site import TOKEN, Site, promotion_site
from tests.promotion import empty_registry
from tests.waiting import wait_for

pytestmark = pytest.mark.cluster
INTERVAL_SECONDS = 5


@dataclass
class Installed:
    """A fleet of two pods and its reconciler, which lives in a namespace of its own with the keys."""

    site: Site
    fleet: str
    keys: str

    @property
    def kubernetes(self) -> Kubernetes:
        return self.site.kubernetes

    def reconciler(self):
        (pod,) = self.kubernetes.pods(self.keys, "app.kubernetes.io/component=reconciler")
        return pod

    def health(self):
        address = self.reconciler()["status"]["podIP"]
        return httpx.get(f"http://{address}:8080/readyz", timeout=10).json()

    def rollouts(self):
        """What a rollout or a restart would change."""
        deployment = self.kubernetes.get("deployment", "softprompt", "--namespace", self.fleet)
        pods = self.site.serving_pods(self.fleet)
        started = {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}
        return deployment["metadata"]["generation"], started

    def follow(self, commit, generation, prompt):
        """Wait until every pod serves what was pushed just now; how long it took."""
        pushed = time.monotonic()
        wait_for(lambda: self.site.generation() >= generation, f"generation {generation}", timeout_seconds=90, every_seconds=0.1)
        signed = time.monotonic() - pushed
        served = self.site.wait_until_all_serve(self.fleet, prompt, timeout_seconds=60)
        every = time.monotonic() - pushed
        assert self.site.generation() == generation
        wait_for(lambda: self.health().get("commit") == commit, "the reconciler says which commit", timeout_seconds=30)
        return f"generation {generation} after {signed:.1f} s, in each of {len(served)} pods after {every:.1f} s"


@pytest.fixture(scope="module")
def site(machine, tmp_path_factory):
    """Pods reach the promotion repository at this machine's address on its own cluster's network."""
    folder = tmp_path_factory.mktemp("site")
    registry = empty_registry(tmp_path_factory.mktemp("registry") / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch, promotion_site(machine.kubernetes, folder, registry, patch.setenv) as made:
        yield made


@pytest.fixture(scope="module")
def installed(site, images):
    name = f"gitops-{uuid.uuid4().hex[:8]}"
    found = Installed(site, name, f"{name}-keys")
    for namespace in (found.fleet, found.keys):
        site.kubernetes.namespace(namespace)
    site.kubernetes.apply(site.secrets_of_the_fleet(found.fleet), *site.secrets_of_the_reconciler(found.keys))
    values = site.common_values()
    values["networkPolicy"]["monitoring"] = values["networkPolicy"]["clients"]
    values["serving"] = site.fleet_values(images.name("serving"))
    values["reconciler"] = site.reconciler_values(images.name("release"), INTERVAL_SECONDS) | {"namespace": found.keys}
    root = f"trustRoot.content={site.place.settings.trust_root}"
    chart = ("helm", "upgrade", "--install", "softprompt", ROOT / "charts" / "softprompt", "--namespace", found.fleet)
    site.kubernetes.run(*chart, "--set-file", root, "--values", "-", given=values)
    yield found
    site.kubernetes.run("helm", "uninstall", "softprompt", "--namespace", found.fleet)
    for namespace in (found.fleet, found.keys):
        site.kubernetes.delete_namespace(namespace)


def wait_until_ready(installed, *deployments):
    for name, namespace in deployments:
        command = ("kubectl", "rollout", "status", f"deployment/{name}", "--namespace", namespace, "--timeout=280s")
        done = installed.kubernetes.attempt(*command, timeout_seconds=300)
        logs = ("kubectl", "logs", f"deployment/{name}", "--namespace", namespace, "--tail=30")
        assert done.returncode == 0, done.stderr + installed.kubernetes.attempt(*logs).stdout


@pytest.mark.short
def test_a_merge_is_answered_by_every_pod_without_a_rollout_and_a_revert_takes_it_back(installed, capsys):
    site = installed.site
    first, second = site.channel.prompt(seed=1), site.channel.prompt(seed=2)
    wait_until_ready(installed, ("softprompt-reconciler", installed.keys))
    assert site.generation() == 2, "what the policy allows became a generation of its own"
    site.promote(first)
    wait_until_ready(installed, ("softprompt", installed.fleet))
    site.wait_until_all_serve(installed.fleet, first, timeout_seconds=60)
    before = installed.rollouts()
    assert len(before[1]) == 2

    with capsys.disabled():
        print("\nmerge:", installed.follow(site.promote(second), 4, second))
        print("revert:", installed.follow(site.revert(), 5, first))
    assert installed.rollouts() == before


def test_what_git_cannot_have_changes_nothing_and_the_reconciler_says_why(installed):
    """A file that names a prompt which nobody uploaded, merged by somebody who had the right to."""
    site, before = installed.site, installed.site.generation()
    file = site.place.environments / "staging" / "colours.yaml"
    served = site.channel.prompt(seed=1)
    file.write_text(file.read_text().replace(served.digest, "0" * 64))
    site.place.merge_to_main()
    health = wait_for(lambda: (found := installed.health())["error"] and found, "the reconciler cannot", timeout_seconds=60)
    assert "0" * 64 in health["error"]
    site.revert()
    wait_for(lambda: installed.health()["error"] == "", "the reconciler is well again", timeout_seconds=120)
    site.wait_until_all_serve(installed.fleet, served, timeout_seconds=30)
    assert site.generation() - before <= 1, "at most the commit itself became a generation"


def test_a_reconciler_that_lost_everything_begins_again_and_publishes_nothing_twice(installed):
    site, old = installed.site, installed.reconciler()["metadata"]["uid"]
    generation = site.generation()
    pod = installed.reconciler()["metadata"]["name"]
    installed.kubernetes.run("kubectl", "delete", "pod", pod, "--namespace", installed.keys, timeout_seconds=120)
    wait_until_ready(installed, ("softprompt-reconciler", installed.keys))
    assert installed.reconciler()["metadata"]["uid"] != old
    assert (installed.health()["outcome"], site.generation()) == ("unchanged", generation)


def test_the_reconciler_tells_no_secret(installed):
    log = installed.kubernetes.run("kubectl", "logs", "deployment/softprompt-reconciler", "--namespace", installed.keys)
    if "failed to try resolving symlinks" in log:
        pytest.skip("the log is gone: kubelets that share one machine clean up each other's /var/log/pods")
    assert log.startswith("following main for channel staging")
    described = installed.kubernetes.run("kubectl", "get", "pods", "--namespace", installed.keys, "--output", "json")
    for secret in (TOKEN, *(user.secret_access_key for user in installed.site.users.values())):
        assert secret not in log + described
