"""A publish and an init that are killed with SIGKILL at every step they take, and run again.

The child process is a fork of the test, so the steps are counted in the real code; its store and its files are real.
"""

import os
import random
import shutil
import signal
import time
import traceback
import uuid
from pathlib import Path

import pytest

from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import VerificationFailed
from softprompt.release.care.init_channel import init_channel, publishing_key_file
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from softprompt.release.trust import load_trust_root
from tests.prompts import random_prompt_file

STORE_STEPS = ("get", "create", "put", "age_seconds")


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """One client for this process, and one whose connections only forked children open."""
    with embedded_s3(tmp_path_factory.mktemp("s3")) as server:
        yield s3_client(server.access), s3_client(server.access)


class Setting:
    """A store, a folder, and what is done with them."""

    def __init__(self, clients, folder):
        prefix = uuid.uuid4().hex
        self.store, self.childs_store = (S3Store("softprompt", prefix, client) for client in clients)
        self.folder = folder / prefix
        (self.folder / "environments" / "staging").mkdir(parents=True)
        (self.folder / "environments" / "staging" / "_policy.yaml").write_text(LAPTOP_POLICY)

    def begin(self, store):
        return init_channel("staging", store=store, keys_dir=self.folder / "keys", trust_root=self.folder / "root.json")

    def publish(self, store, seed=1, name="greeting", machine="machine"):
        return publish_prompt(
            prompt=prompt(seed),
            name=name,
            channel="staging",
            verdict="passed",
            evidence={"report.json": b"{}"},
            model_version="",
            numerics="float32",
            store=store,
            policy_dir=self.folder / "environments",
            trust_root=self.folder / "root.json",
            signing_key=publishing_key_file(self.folder / "keys", "staging"),
            state_dir=self.folder / machine,
        )

    def snapshot(self):
        trust = load_trust_root(self.folder / "root.json")
        return Reader(store=self.store, channel="staging", trust=trust, state_dir=self.folder / uuid.uuid4().hex).refresh()

    def generations(self):
        return [int(key[-17:-5]) for key in self.store.list("channels/")]


def prompt(seed):
    return random_prompt_file(seed, num_tokens=2, width=4)


class Killer:
    """Counts steps and kills its own process at one of them."""

    def __init__(self, at):
        self._left = at

    def step(self):
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def around(self, function):
        def stepping(*arguments, **options):
            self.step()
            result = function(*arguments, **options)
            self.step()
            return result

        return stepping


def killed_at(step, work, store):
    """Run `work` in a child that dies at a step; whether it died."""
    child = os.fork()
    if child == 0:
        try:
            killer = Killer(step)
            for name in STORE_STEPS:
                setattr(store, name, killer.around(getattr(store, name)))
            os.fsync = killer.around(os.fsync)
            Path.replace = killer.around(Path.replace)
            Path.unlink = killer.around(Path.unlink)
            work(store)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def test_a_publish_killed_at_any_step_is_old_or_new_and_converges(clients, tmp_path):
    outcomes, step = set(), 0
    while True:
        setting = Setting(clients, tmp_path)
        setting.begin(setting.store)
        died = killed_at(step, setting.publish, setting.childs_store)
        seen = setting.snapshot()
        assert seen.generation in (1, 2)
        assert seen.alarms == ()
        assert sorted(seen.prompts) == ([] if seen.generation == 1 else ["greeting"])
        again = setting.publish(setting.store)
        assert again.generation == 2
        outcomes.add((seen.generation, again.outcome))
        assert setting.generations() == [1, 2]
        assert setting.snapshot().load(prompt(1).digest) == prompt(1)
        assert setting.publish(setting.store).outcome == "unchanged"
        if not died:
            break
        step += 1
    assert step > 30, "the steps were counted"
    # Before the commit; after it, recognised by the journal; after that was taken away.
    assert outcomes == {(1, "published"), (2, "published"), (2, "unchanged")}


def test_an_init_killed_at_any_step_converges(clients, tmp_path):
    step = 0
    while True:
        setting = Setting(clients, tmp_path)
        died = killed_at(step, setting.begin, setting.childs_store)
        root = setting.folder / "root.json"
        before = root.read_bytes() if root.exists() else None
        outcome = setting.begin(setting.store)
        assert outcome.generation == 1
        assert before in (None, root.read_bytes())
        assert setting.generations() == [1]
        assert setting.publish(setting.store).outcome == "published"
        assert setting.snapshot().alarms == ()
        if not died:
            break
        step += 1
    assert step > 15, "the steps were counted"


def test_publishers_that_race_and_are_killed_publish_each_exactly_once(clients, tmp_path):
    setting = Setting(clients, tmp_path)
    setting.begin(setting.store)
    random.seed(1)
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            try:
                setting.publish(setting.childs_store, number, f"name-{number}", f"machine-{number}")
            finally:
                os._exit(0)
        children.append(child)
    for child in children[:4]:
        time.sleep(random.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    for number in range(6):
        assert setting.publish(setting.store, number, f"name-{number}", f"machine-{number}").outcome != "refused"
    assert setting.generations() == list(range(1, 8))
    assert sorted(setting.snapshot().prompts) == [f"name-{number}" for number in range(6)]


def test_a_node_killed_at_any_step_of_an_update_starts_again_with_old_or_new(clients, tmp_path):
    setting, step = Setting(clients, tmp_path), 0
    setting.begin(setting.store)
    setting.publish(setting.store, 1)
    trust = load_trust_root(setting.folder / "root.json")

    def follow(store, node):
        return Reader(store=store, channel="staging", trust=trust, state_dir=node)

    first = follow(setting.store, setting.folder / "template")
    first.refresh()
    setting.publish(setting.store, 2)
    while True:
        node = setting.folder / f"node-{step}"
        shutil.copytree(setting.folder / "template", node)
        store = S3Store("softprompt", setting.childs_store._prefix.rstrip("/"), setting.childs_store._client)
        died = killed_at(step, lambda store, node=node: follow(store, node).refresh(), store)
        alone = follow(Gone(), node)
        assert alone._high_water in (2, 3)
        assert alone._active is not None
        assert follow(setting.store, node).refresh().generation == 3
        if not died:
            break
        step += 1
    assert step > 8, "the steps were counted"


class Gone:
    """A store of nothing."""

    uri = "gone"

    def get(self, key, *, max_bytes):
        raise VerificationFailed("gone")
