"""Publishes through a network and a server that misbehave, on a real S3 server over HTTP.

The proxy does something to a request of each publish, chosen by chance, or to several, or to all from there on. Then: an
acknowledged publish is there, a failed one is not, of an unknown one it is said, and running it again ends with exactly one.
"""

import random
import time
import uuid
from collections import Counter

import pytest

from softprompt.errors import PublishUnknown, StoreUnavailable, VerificationFailed
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from tests.reliability.fault_proxy import Proxy
from tests.reliability.world import PREFIX, World, chain, changes, check_store, meaning, prompt

FAULTS = {
    "the reply is lost": "lose_reply",
    "the request is lost": "lose_request",
    "the connection is reset half way": "reset",
    "503": "503",
    "429": "429",
    "409": "409",
    "404": "404",
    "a body is cut": "truncate",
    "a bit flips": "flip",
    "the answer is 3 s late": "slow",
    "the request is 3 s late": "late",
}


class Trial:
    """A channel behind a proxy, and what came of publishing to it."""

    def __init__(self, access, folder, what, slow_seconds=3.0):
        self.proxy, self.what, prefix = Proxy(access), what, uuid.uuid4().hex
        self.world = World(S3Store("softprompt", prefix, s3_client(access)), folder)
        self.behind = S3Store("softprompt", prefix, s3_client(self.proxy.access, read_timeout_seconds=0.3))
        self.told, self.suffered = Counter(), 0
        self.proxy.slow_seconds = slow_seconds
        self._draw, self._seed = random.Random(what), 0

    def publish(self):
        """One publish through the fault, one more without it, and what must hold after each."""
        self._seed += 1
        file, before = prompt(self._seed), self._seed
        times = 1 if self.what in ("slow", "late") else self._draw.choice([1, 1, 1, 2, 4, 1000])
        self.proxy.do(self.what, "", times, after=self._draw.randrange(13))
        try:
            told = self.world.publish("machine", "greeting", file, store=self.behind)
            self.told[told.outcome] += 1
            assert told.outcome == "published"
            assert self._served() == (before + 1, file.digest), "what was acknowledged is there"
        except PublishUnknown:
            self.told["unknown"] += 1
        except (StoreUnavailable, VerificationFailed):
            self.told["failed"] += 1
            assert self._served()[0] == before, "what failed is not there"
        self.suffered += self.proxy.done > 0
        self.proxy.do("", "")
        again = self.world.publish("machine", "greeting", file)
        assert (again.generation, *self._served()) == (before + 1, before + 1, file.digest)

    def _served(self):
        """The newest number, and what the name means there."""
        newest = list(self.world.store.list(PREFIX, start_after=f"{PREFIX}{self._seed - 1:012d}.json"))[-1]
        signed = self.world.log().read(int(newest[-17:-5]))
        share = signed.generation.state.prompts.get("greeting")
        return signed.generation.generation, next(iter(share.bases.values()))[0].prompt if share else ""

    def finish(self):
        """Every publish is in the chain once, and late requests change nothing."""
        time.sleep(self.proxy.slow_seconds + 0.2 if self.what == "late" else 0)
        self.proxy.close()
        links = check_store(self.world)
        assert [one["generation"] for one in links] == list(range(self._seed + 1, 0, -1))
        assert changes(links) == [("greeting", prompt(seed).digest) for seed in range(1, self._seed + 1)]
        assert meaning(chain(self.world)[0], "greeting") == prompt(self._seed).digest


def try_publishes(access, folder, what, count, **options):
    trial = Trial(access, folder, what, **options)
    for _ in range(count):
        trial.publish()
    trial.finish()
    assert trial.suffered > 0
    return trial


@pytest.mark.parametrize("fault", FAULTS)
def test_every_acknowledged_publish_is_there_and_none_twice(versitygw, folder, fault):
    try_publishes(versitygw, folder, FAULTS[fault], 3, slow_seconds=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_hundreds_of_publishes(versitygw, folder, fault):
    count = 500
    trial = try_publishes(versitygw, folder, FAULTS[fault], count)
    print(f"\n{fault}: {count} publishes, {trial.suffered} of them met the fault; {dict(trial.told)}")
