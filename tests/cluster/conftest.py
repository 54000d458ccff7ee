"""The cluster that tests marked `cluster` run on, and our images on its nodes.

The cluster of this machine is started where it lies beside this repository and the tests run as root. With
SOFTPROMPT_TEST_CLUSTER=current the current kube context is used as it is found, and SOFTPROMPT_TEST_IMAGES says what the images
are called there, such as `registry.example/softprompt/{role}:0.1.0`. It has what the tests ask for: the versitygw S3 server as
Service s3/s3 with its owner's keys in Secret s3/s3-root, metrics-server, enforced NetworkPolicies, and service addresses that
this machine reaches.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster import machine as this_machine
from tests.cluster.channel import Channel
from tests.cluster.images import BuiltImages, Images, NamedImages
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.machine import Machine
from tests.cluster.whole_release import WholeRelease

CLUSTER, IMAGES = "SOFTPROMPT_TEST_CLUSTER", "SOFTPROMPT_TEST_IMAGES"


def is_elsewhere() -> bool:
    """Whether the tests were told to use the current kube context."""
    if (asked := os.environ.get(CLUSTER, "")) not in ("", "current"):
        pytest.fail(f"{CLUSTER} is {asked!r}; the only value is 'current'")
    return bool(asked)


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The cluster of this machine, started if need be; for tests that crash nodes."""
    if is_elsewhere():
        pytest.skip(f"{CLUSTER} is set, and nodes of a cluster elsewhere are not crashed")
    if reason := this_machine.why_not():
        pytest.skip(f"no Kubernetes cluster: {reason}; {CLUSTER}=current uses the current kube context")
    found = Machine.here()
    found.start()
    return found


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> Kubernetes:
    """The cluster."""
    if not is_elsewhere():
        return request.getfixturevalue("machine").kubernetes
    for program in ("kubectl", "helm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not on PATH")
    return Kubernetes(dict(os.environ))


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> Images:
    """Our images: `images.name("serving")` builds and loads one if need be."""
    if not is_elsewhere():
        return BuiltImages(request.getfixturevalue("machine"))
    if not (pattern := os.environ.get(IMAGES)):
        pytest.skip(f"{IMAGES} does not say what the images are called on that cluster")
    return NamedImages(pattern)


@pytest.fixture(scope="session")
def three_nodes(machine: Machine) -> Machine:
    """The cluster of this machine with three nodes; a test asks for its images after it."""
    machine.grow(3)
    return machine


@pytest.fixture(scope="module")
def channel(kubernetes, llama_directory, tmp_path_factory) -> Channel:
    """A channel that serves one prompt."""
    made = Channel.create(kubernetes.s3, tmp_path_factory.mktemp("channel"), llama_directory)
    made.publish(made.prompt(seed=1))
    return made


@pytest.fixture(scope="session")
def whole_release(kubernetes, images, llama_directory, tmp_path_factory) -> Iterator[WholeRelease]:
    """Every part of the chart, installed and ready."""
    channel = Channel.create(kubernetes.s3, tmp_path_factory.mktemp("whole"), llama_directory)
    channel.publish(channel.prompt(seed=1))
    made = WholeRelease.prepare(kubernetes, channel, images)
    try:
        yield made.install()
    finally:
        made.delete()
