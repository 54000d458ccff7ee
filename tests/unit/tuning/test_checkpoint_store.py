"""A run's checkpoints, in a folder and in a real S3 server over HTTP: complete or passed over, and nobody else's."""

import pytest

from softprompt.errors import StoreUnavailable
from softprompt.tuning import checkpoint_store
from softprompt.tuning.checkpoint import save_checkpoint
from softprompt.tuning.checkpoint_store import CheckpointStore, number_of
from softprompt.tuning.population import PopulationState
from softprompt.tuning.ray_worker import _resume
from softprompt.tuning.workers import Workers


@pytest.fixture
def put(tmp_path):
    """A function: keeps checkpoint number `number`."""

    def keep(store, number):
        folder = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        save_checkpoint(folder, PopulationState(), {"number": number})
        return store.put(folder, number)

    return keep


def damage(store, name, how):
    """What a kill, or a copy in any order, may leave of a checkpoint."""
    folder = f"{store._folder}/{name}"
    if how == "cut tensors":
        path = f"{folder}/state.safetensors"
        with store.filesystem.open_input_file(path) as file:
            data = file.read()
        with store.filesystem.open_output_stream(path) as file:
            file.write(data[:-1])
    elif how == "cut manifest":
        with store.filesystem.open_output_stream(f"{folder}/state.json") as file:
            file.write(b'{"sha256": "')
    elif how == "empty folder":
        store.filesystem.delete_dir_contents(folder)
    else:
        store.filesystem.delete_file(f"{folder}/{how}")


def test_the_newest_is_taken_up_and_two_are_kept(storage, put):
    store = CheckpointStore(storage, "softprompt-a")
    assert _resume(store, Workers()) is None
    for number in range(1, 5):
        put(store, number)
    assert [number_of(name) for name in store.names()] == [4, 3]
    name, _, facts = _resume(store, Workers())
    assert (number_of(name), facts) == (4, {"number": 4})


@pytest.mark.parametrize("how", ["state.json", "state.safetensors", "cut tensors", "cut manifest", "empty folder"])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before_it(storage, put, how):
    store = CheckpointStore(storage, "softprompt-a")
    put(store, 1)
    put(store, 2)
    damage(store, put(store, 3), how)
    name, _, facts = _resume(store, Workers())
    assert (number_of(name), facts) == (2, {"number": 2})


def test_a_checkpoint_that_was_made_again_is_taken_and_its_torn_twin_is_not(storage, put):
    store = CheckpointStore(storage, "softprompt-a")
    damage(store, put(store, 1), "state.json")
    damage(store, put(store, 1), "state.json")
    whole = put(store, 1)
    assert len(store.names()) in (1, 3)  # S3 knows no empty folders, but these still hold tensors
    assert _resume(store, Workers())[0] == whole


def test_another_run_sees_nothing_of_it(storage, put):
    put(CheckpointStore(storage, "softprompt-a"), 1)
    assert CheckpointStore(storage, "softprompt-ab").names() == []
    assert _resume(CheckpointStore(storage, "softprompt-b"), Workers()) is None


def test_the_manifest_comes_last(tmp_path, put, monkeypatch):
    store, written = CheckpointStore(str(tmp_path / "storage"), "softprompt-a"), []
    real = checkpoint_store.write_whole
    noted = lambda system, path, content: (written.append(path.rsplit("/")[-1]), real(system, path, content))
    monkeypatch.setattr(checkpoint_store, "write_whole", noted)
    put(store, 1)
    assert written == ["state.safetensors", "state.json"]


def test_storage_that_does_not_answer_is_said_to(tmp_path, put, monkeypatch, s3_server):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    store = CheckpointStore("s3://no-such-bucket/checkpoints", "softprompt-a")
    with pytest.raises(StoreUnavailable, match="storage of checkpoints"):
        put(store, 1)


def test_keys_do_not_travel_with_the_storage(monkeypatch, s3_server):
    """Ray sends the file system to its workers; they have keys of their own."""
    import pickle

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-driver")
    filesystem, path = checkpoint_store.filesystem_of("s3://softprompt/a/b/")
    assert path == "softprompt/a/b"
    assert b"secret-of-the-driver" not in pickle.dumps(filesystem)
