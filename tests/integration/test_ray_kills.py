"""A training that loses a worker, the first one, the controller or a whole Ray node ends with the bits of one that does not.

Real kills (SIGKILL) in a Ray cluster of three nodes on this machine; tests/ray_kills.py says how a moment is met. Each victim is
killed four times in one training, once at each moment.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from softprompt.data.validate import validate_dataset
from softprompt.resolve import ResolvedRecipe, resolve_recipe
from softprompt.tuning.ray_train import train_on_ray
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.ray_kills import Assassin, Kill, Spy, Watch
from tests.variations import resolved_with

VICTIMS = ("rank 0", "rank 1", "controller", "node")
MOMENTS = ("start", "while writing", "mid-step", "right after")
TRAINING = "num_workers: 2, steps: 600, validate_every_steps: 10"
pytestmark = pytest.mark.slow


@dataclass
class Place:
    """A cluster and a recipe to train in it."""

    folder: Path
    resolved: ResolvedRecipe
    cluster: object

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    def add_node(self):
        """A node with room for one worker. Only the training waits for it: one that was killed is long taken for alive."""
        try:
            self.cluster.add_node(wait=False, num_cpus=1, object_store_memory=80 * 2**20)
        except Exception as error:  # it is up later: Ray gives a node 30 s to start, whatever the machine is busy with
            print(f"waiting for a node: {error}")

    def train(self, run_id, sink, resolved):
        elastic = isinstance(resolved.recipe.training.num_workers, tuple)
        with pytest.MonkeyPatch.context() as patch:
            # A busy machine is slow to start workers. An elastic training waits so long for a node that is gone, too, before it
            # takes those that are left.
            patch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20" if elastic else "600")
            patch.setenv("OMP_NUM_THREADS", "1")  # fixed threads: sums in one order
            storage = str(self.folder / "storage")
            return train_on_ray(resolved, self.dataset, sink, run_id=run_id, storage=storage)


@dataclass
class Story:
    """A training and what was done to it."""

    spy: Spy
    kills: list[Kill] = field(default_factory=list)
    values: np.ndarray | None = None
    num_workers: int = 0
    errors: list[BaseException] = field(default_factory=list)


@pytest.fixture(scope="module")
def place(tmp_path_factory, llama_directory):
    """The head has room for no worker, each other node for one: two workers are two nodes."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_CACHE", str(folder / "cache"))
        patch.setenv("RAY_worker_register_timeout_seconds", "600")
        rows = write_jsonl(folder / "rows.jsonl", colour_rows())
        recipe = write_recipe(folder / "recipe.yaml", llama_directory, rows)
        recipe.write_text(recipe.read_text().replace("steps: 6", TRAINING).replace("validate_every_steps: 3", ""))
        resolved = resolve_recipe(str(recipe))
        validate_dataset(resolved, folder / "dataset", folder / "report.html")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        place = Place(folder, resolved, cluster)
        ray.init(address=cluster.address)
        place.add_node()
        place.add_node()
        yield place
        ray.shutdown()
        cluster.shutdown()


def tell_story(place, run_id, victim=None, moments=(), resolved=None) -> Story:
    """Train in a thread; kill in this one."""
    story = Story(Spy(place.folder / f"spy-{run_id}"))
    watch = Watch(place.folder / "storage" / f"softprompt-{run_id}")

    def train():
        try:
            state, facts = place.train(run_id, story.spy, resolved or place.resolved)
            story.values, story.num_workers = state.winner.loop.best_values.numpy(), facts["num_workers"]
        except BaseException as error:
            story.errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    assassin = Assassin(story.spy, watch, lambda: not thread.is_alive())
    try:
        for moment in moments:
            story.kills.append(assassin.strike(victim, moment))
            print(story.kills[-1].line(), flush=True)
            if victim == "node" and resolved is None:
                place.add_node()
    finally:
        thread.join()
        watch.close()
    assert not story.errors, story.errors
    return story


@pytest.fixture(scope="module")
def undisturbed(place):
    return tell_story(place, "undisturbed")


@pytest.fixture(scope="module")
def stories(place):
    """Victim -> its story, told once."""
    told: dict[str, Story] = {}

    def story_of(victim):
        if victim not in told:
            told[victim] = tell_story(place, victim.replace(" ", "-"), victim, MOMENTS)
        return told[victim]

    return story_of


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_training_goes_on_after_a_kill(stories, victim, moment):
    story = stories(victim)
    killed = next(kill for kill in story.kills if kill.moment == moment)
    assert killed.pids
    assert killed.torn_before == (moment == "while writing")
    assert killed.complete_before > 0 or moment in ("start", "while writing")
    later = [note for note in story.spy.notes("looks") if note["points"][-1][0] > 10 * killed.complete_before]
    assert later, "somebody took further steps"


@pytest.mark.parametrize("victim", VICTIMS)
def test_it_ends_with_the_same_bits(stories, undisturbed, victim):
    assert np.array_equal(stories(victim).values, undisturbed.values)
    assert stories(victim).spy.losses() == undisturbed.spy.losses()


def test_an_elastic_training_goes_on_with_those_that_are_left_and_ends_with_the_same_bits(place, undisturbed):
    """At the default rate, at which one worker whose sums are added up in another order ends with another prompt.

    The last test here: the node that is killed does not come back.
    """
    story = tell_story(place, "elastic", "node", ("mid-step",), resolved_with(place.resolved, num_workers=(1, 2)))
    assert story.num_workers == 1
    assert np.array_equal(story.values, undisturbed.values)
    assert story.spy.losses() == undisturbed.spy.losses()
