"""SIGKILL before and after every store call and local write of a publish, and at random times: no violation.

The short form kills a few times at each point, the long form (`make test-release`) 250 times, and 1,000 times at random.
"""

import time

import pytest

from softprompt.release.s3_client import s3_client
from tests.reliability.kills import (
    POINTS,
    Harness,
    Violation,
    generation_before_blobs,
    kill_everywhere,
    never_recognises,
    report,
)


def harness_on(access, **options):
    """One client for this process, and one whose connections only forked children open."""
    return Harness((s3_client(access), s3_client(access)), "softprompt", **options)


def test_a_publisher_killed_anywhere_leaves_old_or_new_and_running_again_converges(versitygw):
    harness = harness_on(versitygw)
    kill_everywhere(harness, each=1, at_random=5)
    assert set(POINTS) <= set(harness.killed)
    assert {left for left, _ in harness.outcomes} == {"old", "new"}


def test_the_laptops_server_too(ministack):
    kill_everywhere(harness_on(ministack), each=1, at_random=2, points=POINTS[1::3])


@pytest.mark.parametrize("fault", [generation_before_blobs, never_recognises])
def test_a_publisher_with_a_known_fault_is_caught(versitygw, fault):
    """The null control: the same harness, a bad publisher."""
    harness = harness_on(versitygw, fault=fault)
    with pytest.raises(Violation, match=r"generation|told"):
        kill_everywhere(harness, each=1, at_random=0)


def test_a_kill_that_does_not_land_is_not_counted(versitygw):
    harness = harness_on(versitygw)
    assert not harness.kill_at("before: commit", skip=1), "there is one commit"
    assert not harness.kill_after(5)
    assert not harness.killed


@pytest.mark.slow
def test_thousands_of_kills(versitygw):
    harness, start = harness_on(versitygw), time.perf_counter()
    kill_everywhere(harness, each=250, at_random=1000)
    print("\n" + report(harness, time.perf_counter() - start))
    assert sum(harness.killed.values()) >= 250 * len(POINTS) + 1000


@pytest.mark.slow
def test_hundreds_of_kills_on_the_laptops_server(ministack):
    harness, start = harness_on(ministack), time.perf_counter()
    kill_everywhere(harness, each=20, at_random=200)
    print("\n" + report(harness, time.perf_counter() - start))
