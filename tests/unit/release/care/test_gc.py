"""Garbage collection takes what nothing names, and nothing else, whatever happens meanwhile."""

import dataclasses

import pytest

from softprompt.documents import sha256_hex
from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.release import envelope
from softprompt.release.care.gc import collect_garbage
from softprompt.release.layout import blob_key, generation_key
from softprompt.release.s3_client import s3_client
from softprompt.release.store import S3Store
from softprompt.release.trust import load_signer, load_trust_root

DAY = 24 * 3600


class Aged:
    """A store whose objects are as old as a test says, and in which something happens before each look at an object."""

    def __init__(self, store, age_days=30.0):
        self._store, self.age_days, self.meanwhile = store, age_days, lambda key: None
        self.after_listing = lambda: None
        self.deleted = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def sizes(self, prefix):
        yield from self._store.sizes(prefix)
        self.after_listing()

    def find(self, key):
        self.meanwhile(key)
        found = self._store.find(key)
        return found and dataclasses.replace(found, age_seconds=self.age_days * DAY)

    def delete(self, key, *, version):
        self.deleted.append(key)
        self._store.delete(key, version=version)


def collect(channel, store, **options):
    given = {"delete": True, "kept_generations": 1, "kept_seconds": 0, "clock": channel.clock}
    return collect_garbage(store, load_trust_root(channel.trust_root), **(given | options))


@pytest.fixture
def garbage(channel, make_prompt):
    """A channel whose first prompt nothing names any more, and its store a month later."""
    channel.publish(make_prompt(1))
    channel.clock.now += 30 * DAY
    channel.publish(make_prompt(2))
    return Aged(channel.store)


def blobs_of(prompt):
    return {prompt.digest, prompt.manifest.parts[0].sha256}


def there(channel):
    return {key.rpartition("/")[2] for key in channel.store.list("blobs/")}


def test_what_nothing_names_goes_and_what_is_served_stays(channel, garbage, make_prompt):
    before = there(channel)
    said = collect(channel, garbage, delete=False)
    assert there(channel) == before
    assert garbage.deleted == []
    done = collect(channel, garbage)
    assert (set(done.collected), done.collected_bytes) == (set(said.collected), said.collected_bytes)
    assert blobs_of(make_prompt(1)) < set(done.collected)
    assert there(channel) == before - set(done.collected)
    assert channel.reader("fresh").refresh().load(make_prompt(2).digest) == make_prompt(2)
    again = collect(channel, garbage)
    assert (again.collected, again.num_blobs) == ((), len(before) - len(done.collected))


def test_bytes_are_counted(channel, garbage):
    done = collect(channel, garbage, delete=False)
    sizes = {key.rpartition("/")[2]: size for key, size in channel.store.sizes("blobs/")}
    assert done.num_bytes == sum(sizes.values())
    assert done.collected_bytes == sum(sizes[digest] for digest in done.collected) > 0


@pytest.mark.parametrize("options", [{"kept_generations": 2}, {"kept_seconds": 60 * DAY}, {"age": 6.9}])
def test_generations_and_blobs_within_their_bounds_are_kept(channel, garbage, options):
    garbage.age_days = options.pop("age", 30.0)
    assert collect(channel, garbage, **options).collected == ()


def test_only_blobs_are_deleted(channel, garbage):
    others = [key for key in channel.store.list("") if not key.startswith("blobs/")]
    collect(channel, garbage)
    assert all(key.startswith("blobs/sha256/") for key in garbage.deleted)
    assert [key for key in channel.store.list("") if not key.startswith("blobs/")] == others


def test_a_prompt_that_comes_back_while_garbage_is_collected_stays(channel, garbage, make_prompt):
    """A rollback between the first look at the channel and the first delete."""
    garbage.after_listing = lambda: channel.publish(make_prompt(1))
    collect(channel, garbage)
    assert channel.reader("fresh").refresh().load(make_prompt(1).digest) == make_prompt(1)


def test_another_channels_blobs_are_kept_even_of_one_that_the_trust_root_does_not_know(channel, make_prompt, tmp_path):
    other = dataclasses.replace(channel, name="production")
    other.begin()
    other.write_policy()
    other.publish(make_prompt(7))
    store = Aged(channel.store)
    channel.trust_root.write_bytes((channel.trust_root.parent / "roots" / "000000000001.json").read_bytes())
    assert "production" not in load_trust_root(channel.trust_root).channels
    assert blobs_of(make_prompt(7)).isdisjoint(collect(channel, store).collected)


def test_what_an_open_proposal_names_is_kept(channel, make_prompt):
    channel.write_policy("schema_version: 1\nauthority: git\n")
    assert channel.publish(make_prompt(9)).outcome == "proposed"
    assert collect(channel, Aged(channel.store)).collected == ()


def test_an_object_that_is_no_generation_neither_keeps_nor_stops_anything(channel, garbage):
    channel.store.put(generation_key("staging", 4), b"garbage")
    assert collect(channel, garbage).collected != ()


def test_a_generation_of_a_newer_softprompt_stops_it(channel, garbage):
    """It names blobs that this one cannot know of."""
    signer = load_signer(channel.signing_key)
    channel.store.put(generation_key("staging", 4), envelope.sign(b'{"predicateType":"urn:softprompt:generation:v2"}', signer))
    with pytest.raises(VerificationFailed, match=r"(?s)not about a generation.*Update softprompt"):
        collect(channel, garbage)
    assert garbage.deleted == []


def test_an_empty_store_is_refused(channel, store):
    empty = S3Store("softprompt", f"{store._prefix}nothing", store._client)
    with pytest.raises(InvalidRequest, match="everything would be garbage"):
        collect(channel, empty)


@pytest.mark.parametrize("options", [{"grace_seconds": 6 * DAY}, {"kept_generations": 0}])
def test_a_grace_that_publishers_do_not_count_on_is_refused(channel, garbage, options):
    with pytest.raises(InvalidRequest, match="Publishers count on"):
        collect(channel, garbage, **options)


def test_two_at_once_and_one_that_was_stopped_do_no_harm(channel, garbage, make_prompt):
    def stop(key):
        raise KeyboardInterrupt

    left = iter([lambda key: None, stop])

    def count(key):
        next(left)(key)

    garbage.meanwhile = count
    with pytest.raises(KeyboardInterrupt):
        collect(channel, garbage)
    garbage.meanwhile = lambda key: channel.store.delete(key, version="")  # somebody else is faster each time
    collect(channel, garbage)
    assert blobs_of(make_prompt(1)).isdisjoint(there(channel))
    assert channel.reader("fresh").refresh().load(make_prompt(2).digest) == make_prompt(2)


# Where the bucket keeps versions.


@pytest.fixture
def versioned(versitygw, channel, tmp_path):
    """A begun channel in a bucket that keeps versions, with Object Lock."""
    client = s3_client(versitygw, read_timeout_seconds=5)
    bucket = f"versions-{tmp_path.name[-20:].replace('_', '-').lower()}"
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    mine = dataclasses.replace(channel, store=S3Store(bucket, "", client), folder=tmp_path / "versioned")
    mine.write_policy()
    mine.begin()
    return mine


def test_a_blob_that_is_put_again_at_the_moment_of_its_deletion_stays(versioned, make_prompt):
    """Between the last look and the delete: only the version that was looked at goes."""
    data = b"nobody names this yet"
    digest = sha256_hex(data)
    versioned.store.put(blob_key(digest), data)
    store = Aged(versioned.store)
    delete = store.delete

    def put_again(key, *, version):
        assert version
        versioned.store.put(blob_key(digest), data)
        delete(key, version=version)

    store.delete = put_again
    assert collect(versioned, store).collected == (digest,)
    assert versioned.store.get(blob_key(digest), max_bytes=100) == data
    store.delete = delete
    assert collect(versioned, store).collected == (digest,)
    assert versioned.store.get(blob_key(digest), max_bytes=100) is None


def test_a_locked_blob_is_left_alone_and_counted(versioned):
    from datetime import UTC, datetime, timedelta

    data = b"locked"
    versioned.store.put(blob_key(sha256_hex(data)), data)
    until = datetime.now(UTC) + timedelta(days=1)
    client, bucket = versioned.store._client, versioned.store._bucket
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    client.put_object_retention(Bucket=bucket, Key=blob_key(sha256_hex(data)), Retention=retention)
    done = collect(versioned, Aged(versioned.store))
    assert (done.num_locked, done.collected) == (1, ())


def test_a_store_that_refuses_to_delete_is_an_error(channel, proxied_channel, proxy, make_prompt):
    store = Aged(proxied_channel.store)
    data = b"nobody names this"
    store.put(blob_key(sha256_hex(data)), data)
    proxy.do("403", "DELETE")
    with pytest.raises(StoreUnavailable, match=r"(?s)did not delete an object.*AccessDenied"):
        collect(proxied_channel, store)
