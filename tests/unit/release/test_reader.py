"""A node's view: nothing bad gets in, nothing good gets lost, and it says when it does not know."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import InvalidRequest, SoftpromptError, StoreUnavailable, VerificationFailed
from softprompt.release import envelope
from softprompt.release.blobs import Blobs, prompt_blobs
from softprompt.release.care.init_channel import init_channel
from softprompt.release.layout import LIFE_SECONDS, blob_key, generation_key
from softprompt.release.s3_client import S3Access
from softprompt.release.statement import Approval, ChannelState, Generation, Served, format_time, to_statement
from softprompt.release.store import open_store
from softprompt.release.trust import load_signer, load_trust_root
from tests.reliability.memory_store import MemoryStore

GONE = open_store("s3://bucket", S3Access(endpoint_url="http://127.0.0.1:9", access_key_id="k", secret_access_key="s"))
DAY = 24 * 3600


def follow(channel, make_prompt, publishes=1):
    """A reader that has activated the newest of some generations."""
    for seed in range(publishes):
        channel.publish(make_prompt(seed))
    reader = channel.reader()
    assert reader.refresh().generation == publishes + 1
    return reader


def assert_kept(reader, generation, *reasons):
    """The last good one is still served, and an alarm says why not a newer one."""
    snapshot = reader.refresh()
    assert snapshot.generation == generation
    assert snapshot.stale
    for reason in reasons:
        assert any(reason in alarm for alarm in snapshot.alarms), snapshot.alarms
    for served in snapshot.prompts.values():
        for digest in served.digests:
            assert snapshot.load(digest).digest == digest


def next_generation(channel, /, **changes):
    """A signed envelope for the next generation, honest but for the changes."""
    head = channel.log.head().signed
    given = {
        "channel": "staging",
        "channel_id": head.generation.channel_id,
        "generation": head.generation.generation + 1,
        "state": head.generation.state,
        "publish_id": "e" * 32,
        "created": format_time(channel.clock.now),
        "expires": format_time(channel.clock.now + LIFE_SECONDS),
        "previous": head.digest,
    }
    generation = Generation(**(given | changes))
    return envelope.sign(to_statement(generation), load_signer(channel.signing_key))


def put_next(channel, data):
    channel.store.put(generation_key("staging", channel.log.head().signed.generation.generation + 1), data)


def test_the_helper_makes_what_a_reader_accepts(channel, make_prompt):
    reader = follow(channel, make_prompt)
    put_next(channel, next_generation(channel))
    assert reader.refresh().generation == 3


def test_it_follows(any_channel, make_prompt):
    reader = follow(any_channel, make_prompt)
    any_channel.publish(make_prompt(5))
    any_channel.publish(make_prompt(6))
    snapshot = reader.refresh()
    assert (snapshot.generation, snapshot.stale, snapshot.alarms) == (4, False, ())
    assert snapshot.load(make_prompt(6).digest) == make_prompt(6)
    assert (snapshot.created, snapshot.expires) == ("2027-01-15T08:00:00Z", "2027-01-22T08:00:00Z")


@pytest.mark.parametrize("which", ["manifest", "tensor"])
@pytest.mark.parametrize("how", ["flipped", "cut", "missing", "another prompt's"])
def test_a_bad_blob_is_not_activated(any_channel, make_prompt, which, how):
    reader = follow(any_channel, make_prompt)
    prompt, other = make_prompt(8), make_prompt(9)
    any_channel.publish(prompt)
    position = 0 if which == "manifest" else 1
    digest, data = list(prompt_blobs(prompt).items())[position]
    changed = {
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "cut": data[:-1],
        "another prompt's": list(prompt_blobs(other).values())[position],
    }.get(how)
    if changed is None:
        any_channel.store._client.delete_object(**any_channel.store._address(blob_key(digest)))
    else:
        any_channel.store.put(blob_key(digest), changed)
    assert_kept(reader, 2, "Generation 3 is not activated", digest)
    any_channel.store.put(blob_key(digest), data)
    assert reader.refresh().generation == 3


def test_a_changed_envelope_is_passed_over(any_channel, make_prompt):
    reader = follow(any_channel, make_prompt)
    any_channel.publish(make_prompt(8))
    key = generation_key("staging", 3)
    data = any_channel.store.get(key, max_bytes=10**6)
    any_channel.store.put(key, data.replace(b'"payload":"', b'"payload":"A', 1))
    snapshot = reader.refresh()
    assert snapshot.generation == 2
    assert "Generation 3 does not verify" in snapshot.alarms[0]
    any_channel.store.put(key, data)
    assert reader.refresh().generation == 3


def test_a_generation_signed_with_another_key_is_passed_over(channel, make_prompt):
    reader = follow(channel, make_prompt)
    payload = envelope.peek(next_generation(channel), source="here")
    put_next(channel, envelope.sign(payload, CryptoSigner.generate_ed25519()))
    assert "signature does not verify" in reader.refresh().alarms[0]
    assert reader.refresh().generation == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channel": "production"}, "another's place"),
        ({"channel_id": "0" * 32}, "another's place"),
        ({"generation": 4, "skipped": (3,)}, "another's place"),
        ({"previous": "0" * 64}, "follows another one"),
        ({"generation": 2}, "another's place"),
    ],
)
def test_what_belongs_elsewhere_is_passed_over(channel, make_prompt, changes, reason):
    reader = follow(channel, make_prompt)
    put_next(channel, next_generation(channel, **changes))
    snapshot = reader.refresh()
    assert snapshot.generation == 2
    assert reason in snapshot.alarms[0]


def test_another_channels_key_does_not_sign_this_one(channel, make_prompt):
    init_channel("production", store=channel.store, keys_dir=channel.folder / "keys", trust_root=channel.trust_root)
    reader = follow(channel, make_prompt)
    payload = envelope.peek(next_generation(channel), source="here")
    put_next(channel, envelope.sign(payload, load_signer(channel.folder / "keys" / "publish-production.pem")))
    assert "signature does not verify" in reader.refresh().alarms[0]


def test_another_channels_envelope_is_not_this_ones(channel, make_prompt):
    other = type(channel)(channel.store, channel.folder, name="production", clock=channel.clock)
    other.begin()
    other.write_policy()
    other.publish(make_prompt(3))
    other.publish(make_prompt(4))
    reader = follow(channel, make_prompt)
    channel.store.put(generation_key("staging", 3), channel.store.get(generation_key("production", 3), max_bytes=10**6))
    assert "signature does not verify" in reader.refresh().alarms[0]
    assert reader.refresh().generation == 2


def test_an_older_generation_under_a_new_number_is_passed_over(channel, make_prompt):
    reader = follow(channel, make_prompt, publishes=3)
    channel.store.put(generation_key("staging", 5), channel.store.get(generation_key("staging", 2), max_bytes=10**6))
    assert "another's place" in reader.refresh().alarms[0]
    assert reader.refresh().generation == 4


def test_one_bad_object_does_not_stop_the_next(channel, make_prompt):
    reader = follow(channel, make_prompt)
    channel.store.put(generation_key("staging", 3), b"stray")
    channel.publish(make_prompt(8))
    snapshot = reader.refresh()
    assert (snapshot.generation, snapshot.stale) == (4, False)
    assert "Generation 3 does not verify" in snapshot.alarms[0]


def test_an_oversized_object_is_passed_over_unread(channel, make_prompt, monkeypatch):
    reader = follow(channel, make_prompt)
    monkeypatch.setattr("softprompt.release.channel.MAX_ENVELOPE_BYTES", 100_000)
    channel.store.put(generation_key("staging", 3), b"x" * 100_001)
    assert "larger than it may be" in reader.refresh().alarms[0]
    assert reader.refresh().generation == 2


def test_an_expired_newest_is_not_activated(channel, make_prompt):
    reader = follow(channel, make_prompt)
    put_next(channel, next_generation(channel, expires=format_time(channel.clock.now + 60)))
    channel.clock.now += 60 + 5 * 60
    assert reader.refresh().generation == 3
    late = channel.reader("late-node")
    channel.clock.now += 1
    with pytest.raises(VerificationFailed, match=r"(?s)no generation that this node may serve.*expired"):
        late.refresh()


def test_what_expires_while_it_is_served_stays_and_alarms(channel, make_prompt):
    reader = follow(channel, make_prompt)
    channel.clock.now += LIFE_SECONDS + 5 * 60
    assert not reader.refresh().stale
    channel.clock.now += 1
    assert_kept(reader, 2, "expired at 2027-01-22")


def test_a_generation_from_the_future_is_not_activated(channel, make_prompt):
    reader = follow(channel, make_prompt)
    channel.clock.now += DAY
    channel.publish(make_prompt(8))
    channel.clock.now -= DAY
    assert_kept(reader, 2, "from the future")
    channel.clock.now += DAY - 4 * 60
    assert reader.refresh().generation == 3


def test_a_prompt_under_another_base_than_its_own_is_not_activated(channel, make_prompt):
    reader = follow(channel, make_prompt)
    state = channel.log.head().signed.generation.state
    moved = Served(bases={"f" * 64: state.prompts["greeting"].bases[make_prompt().manifest.base_fingerprint]})
    put_next(channel, next_generation(channel, state=state.model_copy(update={"prompts": {"greeting": moved}})))
    assert_kept(reader, 2, "under another base model")


def test_a_node_needs_only_what_its_own_base_needs(channel, make_prompt):
    mine, other = make_prompt(1), make_prompt(2, base="f" * 64)
    channel.publish(mine)
    channel.publish(other, name="farewell")
    channel.store.put(blob_key(other.digest), b"broken")
    snapshot = channel.reader(base_fingerprint=mine.manifest.base_fingerprint).refresh()
    assert snapshot.load(mine.digest) == mine
    with pytest.raises(VerificationFailed, match="no prompt for this node's base"):
        channel.reader("third", base_fingerprint="9" * 64).refresh()


def test_shadow_and_pinnable_prompts_are_checked_too(channel, make_prompt):
    reader = follow(channel, make_prompt)
    extra = make_prompt(9)
    state = channel.log.head().signed.generation.state
    served = state.prompts["greeting"].model_copy(update={"pinnable": (extra.digest,)})
    approval = Approval(prompt=extra.digest, verdict="passed", numerics="float32", model_version="", evidence={})
    changed = ChannelState(
        prompts={"greeting": served}, approvals=state.approvals | {extra.digest: approval}, numerics=state.numerics
    )
    put_next(channel, next_generation(channel, state=changed))
    assert_kept(reader, 2, extra.digest)
    for digest, data in prompt_blobs(extra).items():
        channel.store.put(blob_key(digest), data)
    assert reader.refresh().load(extra.digest) == extra


def test_it_starts_without_the_store_and_says_so(channel, make_prompt):
    follow(channel, make_prompt)
    restarted = channel.reader(store=GONE)
    assert_kept(restarted, 2, "store does not answer")
    restarted = channel.reader()
    assert not restarted.refresh().stale


def test_it_does_not_start_on_prompts_that_it_does_not_have(channel, make_prompt):
    follow(channel, make_prompt)
    shutil.rmtree(channel.folder / "node" / "blobs")
    with pytest.raises(StoreUnavailable):
        channel.reader(store=GONE).refresh()
    assert channel.reader().refresh().generation == 2


def test_without_state_and_without_the_store_there_is_nothing_to_serve(channel):
    with pytest.raises(StoreUnavailable):
        channel.reader("new-node", store=GONE).refresh()


def test_a_store_that_fails_while_it_runs_changes_nothing(proxy, proxied_channel, make_prompt):
    reader = follow(proxied_channel, make_prompt)
    for trouble in ("403", "500", "lose_reply"):
        proxy.do(trouble, "GET")
        assert_kept(reader, 2, "store does not answer")
    proxy.do("403", "GET", times=0)
    assert not reader.refresh().stale


def test_the_high_water_mark_survives_a_restart(channel, make_prompt):
    follow(channel, make_prompt, publishes=3)
    for number in (3, 4):
        channel.store._client.delete_object(**channel.store._address(generation_key("staging", number)))
    snapshot = channel.reader().refresh()
    assert snapshot.generation == 4
    assert channel.reader("new-node").refresh().generation == 2  # what the store says, to whom knows no better


def test_the_mark_counts_even_if_what_was_served_cannot_be_used_any_more(channel, make_prompt):
    follow(channel, make_prompt, publishes=3)
    state = channel.folder / "node" / "staging.active.json"
    remembered = json.loads(state.read_bytes())
    state.write_bytes(canonical_json(remembered | {"envelope": "broken"}))
    channel.store._client.delete_object(**channel.store._address(generation_key("staging", 4)))
    with pytest.raises(VerificationFailed, match=r"(?s)no generation.*What this node served last cannot be used"):
        channel.reader().refresh()
    channel.publish(make_prompt(8))  # takes number 4 again: the publisher saw only 3
    assert channel.reader().refresh().generation == 4


def test_a_history_that_was_exchanged_is_noticed(channel, make_prompt):
    reader = follow(channel, make_prompt, publishes=2)
    key = generation_key("staging", 3)
    channel.store._client.delete_object(**channel.store._address(key))
    channel.publish(make_prompt(7))
    channel.publish(make_prompt(8))
    snapshot = reader.refresh()
    assert snapshot.generation == 3
    assert "follows another one" in snapshot.alarms[0]


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"x" * 20_000_000])
def test_a_broken_state_file_is_named_and_replaced(channel, make_prompt, content):
    follow(channel, make_prompt)
    (channel.folder / "node" / "staging.active.json").write_bytes(content)
    reader = channel.reader()
    assert reader.refresh().generation == 2
    assert reader.refresh().alarms == ()


def test_kept_blobs_are_checked_and_fetched_again(channel, make_prompt):
    follow(channel, make_prompt)
    for blob in (channel.folder / "node" / "blobs").iterdir():
        blob.write_bytes(b"broken")
    snapshot = channel.reader().refresh()
    assert snapshot.load(make_prompt(0).digest) == make_prompt(0)


def test_blobs_are_on_the_disk_before_a_node_remembers_that_it_serves_them(channel, make_prompt, monkeypatch):
    channel.publish(make_prompt(0))
    plain, flushed = os.fsync, []

    def fsync(descriptor):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    channel.reader().refresh()
    kept = {path.name for path in (channel.folder / "node" / "blobs").iterdir()}
    remembered = next(position for position, name in enumerate(flushed) if name.startswith(".staging.active.json"))
    assert kept | {"blobs"} == set(flushed[:remembered])
    assert len(kept) == 2


def test_a_kept_blob_that_is_taken_away_before_it_is_flushed_stops_nothing(channel, make_prompt):
    reader = follow(channel, make_prompt)
    shutil.rmtree(channel.folder / "node" / "blobs")
    assert reader.refresh().load(make_prompt(0).digest) == make_prompt(0)
    shutil.rmtree(channel.folder / "node" / "blobs")
    channel.publish(make_prompt(1))
    assert reader.refresh().generation == 3


def test_a_new_generation_reads_only_what_is_new_or_not_kept_any_more(channel, make_prompt, monkeypatch):
    reader = follow(channel, make_prompt)
    channel.publish(make_prompt(1), name="farewell")
    read, real = [], Blobs.prompt
    monkeypatch.setattr(Blobs, "prompt", lambda blobs, digest: [real(blobs, digest), read.append(digest)][0])
    assert reader.refresh().generation == 3
    assert read == [make_prompt(1).digest]
    kept = channel.folder / "node" / "blobs"
    for seed, blob in ((0, make_prompt(0).manifest.parts[0].sha256), (1, make_prompt(1).digest)):
        (kept / blob).unlink()
        read.clear()
        channel.publish(make_prompt(9 - seed), name="third")
        reader.refresh()
        assert set(read) == {make_prompt(seed).digest, make_prompt(9 - seed).digest}
        assert (kept / blob).exists(), "it could not start without the store"


def test_nothing_below_the_roots_minimum_is_believed(channel, make_prompt):
    follow(channel, make_prompt, publishes=2)
    root = load_trust_root(channel.trust_root)
    raised = root.model_copy(
        update={"channels": {"staging": root.channels["staging"].model_copy(update={"minimum_generation": 4})}}
    )
    for node in ("node", "new-node"):
        with pytest.raises(VerificationFailed, match="no generation that this node may serve"):
            channel.reader(node, trust=raised).refresh()
    channel.publish(make_prompt(8))
    assert channel.reader("node", trust=raised).refresh().generation == 4


def test_a_key_that_was_taken_out_of_the_root_is_not_believed_from_the_state_either(channel, make_prompt):
    follow(channel, make_prompt)
    root = load_trust_root(channel.trust_root)
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        channel.reader(trust=root.model_copy(update={"publishing_keys": {}})).refresh()


def test_an_unknown_channel_is_named(channel):
    with pytest.raises(InvalidRequest, match="does not know this channel"):
        channel.reader(channel="elsewhere")


@pytest.fixture(scope="module")
def history(channel_type, make_prompt, tmp_path_factory):
    """A channel of four generations, and a node that has followed it to the second."""
    channel = channel_type(MemoryStore(), tmp_path_factory.mktemp("history"))
    channel.write_policy()
    channel.begin()
    follow(channel, make_prompt)
    for seed in (1, 2):
        channel.publish(make_prompt(seed))
    return channel


def tamper(objects, key, how, other, position, mask):
    """What somebody can do to an object who may write to the bucket, but has no key."""
    data = objects.get(key, b"")
    if how == "flip" and data:
        position %= len(data)
        objects[key] = data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
    elif how == "cut":
        objects[key] = data[: position % (len(data) + 1)]
    elif how == "delete":
        objects.pop(key, None)
    else:
        objects[key] = objects.get(other, b"")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
def test_whatever_is_done_to_the_store_a_node_serves_only_what_was_published(history, make_prompt, tmp_path_factory, data):
    objects = dict(history.store.objects)
    keys = [*sorted(objects), generation_key("staging", 5), generation_key("staging", 6)]
    for _ in range(data.draw(st.integers(1, 4))):
        how = data.draw(st.sampled_from(["flip", "cut", "delete", "copy"]))
        one, other = data.draw(st.sampled_from(keys)), data.draw(st.sampled_from(keys))
        tamper(objects, one, how, other, data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 255)))
    nodes = tmp_path_factory.mktemp("nodes")
    shutil.copytree(history.folder / "node", nodes / "old")
    published = {prompt.digest: prompt for prompt in map(make_prompt, range(3))}
    originals = {sha256_hex(history.store.objects[generation_key("staging", number)]) for number in (1, 2, 3, 4)}
    for node, least in (("old", 2), ("new", 1)):
        reader = history.reader(store=MemoryStore(objects), state_dir=nodes / node)
        try:
            snapshot = reader.refresh()
        except SoftpromptError:
            assert node == "new"
            continue
        assert snapshot.generation >= least
        assert reader._active.digest in originals
        for digest in snapshot.statement.state.digests:
            assert snapshot.load(digest) == published[digest]


def test_the_tampering_above_does_reach_the_reader(history, tmp_path):
    """Without any, the newest is activated; so the property above is not about a reader that never moves."""
    shutil.copytree(history.folder / "node", tmp_path / "old")
    assert history.reader(state_dir=tmp_path / "old").refresh().generation == 4
