"""A promotion repository as a cluster sees it: over HTTPS with a token, its channel on the cluster's S3 server.

The reconciler and the fleet have keys of their own there, with the policies of infra/terraform and nothing more.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model
from softprompt.fetch import fetch_base
from softprompt.release.care.init_channel import publishing_key_file
from softprompt.release.s3_client import S3Access, s3_client
from tests.cluster.channel import Channel
from tests.cluster.kubernetes import Kubernetes, an_object
from tests.cluster.s3_users import as_environment, make_user
from tests.git_remotes import Remote, https_remote, make_certificate
from tests.promotion import Promotion
from tests.store_policies import guards, statements

THIS_MACHINE = "10.99.0.254"
"""As pods of the cluster of this machine reach it."""
CHANNEL, NAME, TOKEN = "staging", "colours", "token-of-the-promotion-repository"


@dataclass
class Site:
    """Where people promote, and what a cluster has to know about it."""

    kubernetes: Kubernetes
    place: Promotion
    channel: Channel
    remote: Remote
    users: dict[str, S3Access]
    """Duty -> its keys."""

    @property
    def repository(self) -> str:
        """Address of the promotion repository."""
        return f"{self.remote.url}/{self.place.remote.name}"

    def promote(self, prompt: PromptFile) -> str:
        """What a pipeline leaves, a pull request, its merge; the commit, which has just been pushed."""
        version = self.place.register(prompt, name=NAME, channel=CHANNEL)
        self.place.run("propose", NAME, version, "--channel", CHANNEL, "--repository", self.place.repository)
        return self.place.merge_to_main(f"promote/{CHANNEL}/{NAME}-{version}")

    def revert(self) -> str:
        """Undo the last merge or commit; the commit that does."""
        is_merge = len(self.place.git("rev-list", "--parents", "-n", "1", "HEAD").split()) > 2
        self.place.git("revert", "--no-edit", *(("-m", "1") if is_merge else ()), "HEAD")
        return self.place.merge_to_main()

    def generation(self) -> int:
        return self.place.head(CHANNEL).generation

    def secrets_of_the_fleet(self, namespace: str) -> dict[str, Any]:
        keys = as_environment(self.users["reader"])
        return an_object("v1", "Secret", "softprompt-reader", namespace=namespace, stringData=keys)

    def secrets_of_the_reconciler(self, namespace: str) -> list[dict[str, Any]]:
        key = publishing_key_file(self.place.settings.keys, CHANNEL).read_text()
        git = {"password": TOKEN, "ca.crt": (self.place.folder / "ca.crt").read_text()}
        keys = as_environment(self.users["publisher"])
        return [
            an_object("v1", "Secret", "softprompt-publisher", namespace=namespace, stringData=keys),
            an_object("v1", "Secret", "signing-key", namespace=namespace, stringData={"publish.pem": key}),
            an_object("v1", "Secret", "promotion-repository", namespace=namespace, stringData=git),
        ]

    def common_values(self) -> dict[str, Any]:
        """Of the chart: the store, and the openings of the network that this cluster needs."""
        in_s3 = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "s3"}}}
        here = {"ipBlock": {"cidr": f"{THIS_MACHINE}/32"}}
        return {
            "channel": CHANNEL,
            "store": {"uri": self.place.environment["SOFTPROMPT_STORE"], "endpoint": "http://s3.s3:7070"},
            "networkPolicy": {
                "clients": [{"ipBlock": {"cidr": "10.99.0.0/24"}}],
                "store": {"peers": [in_s3], "ports": [7070]},
                "git": {"peers": [here], "ports": [httpx.URL(self.remote.url).port]},
            },
        }

    def fleet_values(self, image: str) -> dict[str, Any]:
        repository, _, tag = image.rpartition(":")
        return {
            "enabled": True,
            "replicas": 2,
            "image": {"repository": repository, "tag": tag},
            "baseModel": {"uri": "embedded://base"},
            "credentials": {"secret": "softprompt-reader"},
            "resources": {"requests": {"cpu": "50m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        }

    def reconciler_values(self, image: str, interval_seconds: int) -> dict[str, Any]:
        repository, _, tag = image.rpartition(":")
        return {
            "enabled": True,
            "image": {"repository": repository, "tag": tag},
            "git": {"remote": self.repository, "credentialsSecret": "promotion-repository"},
            "intervalSeconds": interval_seconds,
            "signingKey": {"secret": "signing-key"},
            "credentials": {"secret": "softprompt-publisher"},
            "resources": {"requests": {"cpu": "20m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        }

    def serving_pods(self, namespace: str) -> list[dict[str, Any]]:
        return self.kubernetes.pods(namespace, "app.kubernetes.io/component=serving")

    def wait_until_all_serve(self, namespace: str, prompt: PromptFile, *, timeout_seconds: float) -> dict[str, float]:
        """Pod -> seconds until it answered with a prompt; each is asked at its own address, and must answer as this process."""
        expected = self.channel.answer_here(prompt, "ruby")
        waiting = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in self.serving_pods(namespace)}
        begun, found = time.monotonic(), dict[str, float]()
        while waiting:
            assert time.monotonic() - begun < timeout_seconds, f"not within {timeout_seconds:g} s: {sorted(waiting)} serve it"
            for name, address in list(waiting.items()):
                reply = httpx.post(f"http://{address}:8000/v1/classify", json={"model": NAME, "input": "ruby"}, timeout=30)
                if reply.headers.get("x-softprompt-digest") == f"sha256:{prompt.digest}":
                    found[name] = time.monotonic() - begun
                    answered = reply.json()["probabilities"]
                    assert all(abs(answered[label] - value) < 1e-4 for label, value in expected.items()), (answered, expected)
                    del waiting[name]
            time.sleep(0.1)
        return found


@contextmanager
def promotion_site(kubernetes: Kubernetes, folder: Path, registry: Path, setenv: Callable[[str, str], None]) -> Iterator[Site]:
    """A bucket, two users, a channel that has just begun, and a repository that is served."""
    owner, bucket = kubernetes.s3, f"promotion-{uuid.uuid4().hex[:12]}"
    client = s3_client(owner)
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    server = as_environment(owner) | {"AWS_ENDPOINT_URL_S3": owner.endpoint_url, "AWS_DEFAULT_REGION": owner.region}
    place = Promotion.begin(folder / "place", server, registry, setenv, channels=(CHANNEL,), store=f"s3://{bucket}/fleet")
    users = {duty: make_user(owner, duty) for duty in ("publisher", "reader")}
    values = {"bucket_arn": f"arn:aws:s3:::{bucket}", "prefix": "fleet/", "channel": CHANNEL}
    rights = [one for duty, user in users.items() for one in statements(duty, user.access_key_id, **values)]
    policy = {"Version": "2012-10-17", "Statement": [*rights, *guards(**values)]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    channel = Channel(folder, place.store, bucket, load_base_model(fetch_base("embedded://base")))
    certificate = make_certificate(place.folder, THIS_MACHINE)
    with https_remote(place.folder, certificate, TOKEN, THIS_MACHINE) as remote:
        yield Site(kubernetes, place, channel, remote, users)
