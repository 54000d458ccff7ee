"""`release init`: once, twice, at the same time, and not over somebody else's channel."""

import dataclasses
import stat
import threading

import pytest

from softprompt.errors import InvalidRequest
from softprompt.release.care.init_channel import allow_audit, audit_key_file, init_channel
from softprompt.release.layout import generation_key, root_key
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.trust import load_signer, load_trust_root, verify_successor, verify_trust_root


def test_it_makes_keys_root_and_an_empty_generation_one(any_channel):
    head = any_channel.log.head().signed.generation
    root = load_trust_root(any_channel.trust_root)
    assert (head.generation, head.previous, head.state.prompts) == (1, "", {})
    assert head.channel_id == root.channels["staging"].id
    key = load_signer(any_channel.signing_key).public_key
    assert root.publishing_keys[key.keyid].channels == ("staging",)
    assert root.root_key_id == load_signer(any_channel.folder / "keys" / "root.pem").public_key.keyid
    assert root.root_key_id != key.keyid


def test_private_keys_are_their_owners_only(channel):
    for path in (channel.folder / "keys").glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [path for path in (channel.folder / "keys").iterdir() if path.suffix == ".part"]


def test_the_second_time_it_changes_nothing(channel):
    before = {path: path.read_bytes() for path in channel.folder.rglob("*") if path.is_file()}
    objects = sorted(channel.store.list(""))
    again = channel.begin()
    assert (again.created, again.generation, again.trust_root_version) == (False, 1, 1)
    assert {path: path.read_bytes() for path in channel.folder.rglob("*") if path.is_file()} == before
    assert sorted(channel.store.list("")) == objects


def test_two_at_once_make_one_channel(store, tmp_path):
    barrier, results = threading.Barrier(2), []

    def run():
        barrier.wait()
        results.append(init_channel("staging", store=store, keys_dir=tmp_path / "keys", trust_root=tmp_path / "root.json"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.created for result in results) == [False, True]
    assert len({result.channel_id for result in results}) == 1


def test_another_channel_is_added_to_the_root_with_a_key_of_its_own(channel):
    first = load_trust_root(channel.trust_root)
    outcome = init_channel(
        "production",
        store=channel.store,
        keys_dir=channel.folder / "keys",
        trust_root=channel.trust_root,
        clock=channel.clock,
    )
    root = load_trust_root(channel.trust_root)
    assert (outcome.created, root.version) == (True, 2)
    assert root.channels["staging"] == first.channels["staging"]
    assert {key.keyid for key in root.keys_for("staging")}.isdisjoint(key.keyid for key in root.keys_for("production"))


def test_a_store_of_another_trust_root_is_left_alone(channel, tmp_path):
    with pytest.raises(InvalidRequest, match="store has another trust root of this version"):
        init_channel("staging", store=channel.store, keys_dir=tmp_path / "other", trust_root=tmp_path / "other.json")
    assert list(channel.store.list("channels/")) == [generation_key("staging", 1)]


def test_somebody_who_was_faster_with_another_root_is_left_alone_too(channel, tmp_path, store):
    """Between looking and creating."""
    theirs = channel.store.get(generation_key("staging", 1), max_bytes=10_000)
    empty = type(store)("softprompt", f"{store._prefix}empty", store._client)

    class Racing:
        def __getattr__(self, name):
            return getattr(empty, name)

        def create(self, key, data):
            if key == generation_key("staging", 1):
                empty.put(key, theirs)
            return empty.create(key, data)

    with pytest.raises(InvalidRequest, match="none of them verifies with this trust root"):
        init_channel("staging", store=Racing(), keys_dir=tmp_path / "other", trust_root=tmp_path / "other.json")
    assert empty.get(generation_key("staging", 1), max_bytes=10_000) == theirs


@pytest.mark.parametrize(("lost", "asked"), [("root.pem", "production"), ("publish-staging.pem", "staging")])
def test_a_lost_key_is_not_replaced_in_silence(channel, lost, asked):
    (channel.folder / "keys" / lost).unlink()
    with pytest.raises(InvalidRequest, match=r"(?s)private key that the trust root relies on is missing.*backup"):
        dataclasses.replace(channel, name=asked).begin()


def test_a_channel_that_the_root_knows_takes_no_root_key(channel):
    (channel.folder / "keys" / "root.pem").unlink()
    assert channel.begin().created is False


def test_the_trust_root_is_in_the_store_version_by_version(channel):
    dataclasses.replace(channel, name="production").begin()
    versions = [channel.store.get(root_key(version), max_bytes=100_000) for version in (1, 2)]
    assert versions[1] == channel.trust_root.read_bytes()
    first = verify_trust_root(versions[0], source="1")
    assert verify_successor(versions[1], first, source="2") == load_trust_root(channel.trust_root)


def test_a_root_key_that_is_not_the_roots_adds_no_channel(channel):
    keys = channel.folder / "keys"
    (keys / "root.pem").write_bytes((keys / "publish-staging.pem").read_bytes())
    with pytest.raises(InvalidRequest, match="root key is not the trust root's"):
        init_channel("production", store=channel.store, keys_dir=keys, trust_root=channel.trust_root)


def test_what_is_no_name_is_refused(store, tmp_path):
    with pytest.raises(InvalidRequest, match="not a channel's name"):
        init_channel("../x", store=store, keys_dir=tmp_path, trust_root=tmp_path / "root.json")


def test_an_unreachable_store_leaves_something_to_go_on_with(channel, make_prompt, store, tmp_path):
    from softprompt.errors import StoreUnavailable
    from softprompt.release.s3_client import S3Access
    from softprompt.release.store import open_store

    other = type(channel)(
        open_store("s3://b", S3Access(endpoint_url="http://127.0.0.1:9", access_key_id="k", secret_access_key="s")),
        tmp_path / "new",
    )
    with pytest.raises(StoreUnavailable):
        other.begin()
    root = load_trust_root(other.trust_root)
    other.store = type(store)("softprompt", f"{store._prefix}new", store._client)
    assert other.begin().created
    assert load_trust_root(other.trust_root) == root
    other.write_policy(LAPTOP_POLICY)
    assert other.publish(make_prompt()).outcome == "published"


def allow(channel, **changes):
    given = {"keys_dir": channel.folder / "keys", "trust_root": channel.trust_root, "holder": "Ada"}
    allow_audit("staging", **(given | changes))


def test_a_key_for_decisions_is_made_and_listed_once_and_a_new_channel_keeps_it(channel):
    before = load_trust_root(channel.trust_root)
    allow(channel)
    allow(channel)
    root = load_trust_root(channel.trust_root)
    path = audit_key_file(channel.folder / "keys", "staging")
    (key,) = root.audit_keys_for("staging", 1)
    assert key.keyid == load_signer(path).public_key.keyid
    assert root.audit_keys[key.keyid].holder == "Ada"
    assert (root.version, root.publishing_keys) == (2, before.publishing_keys)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    init_channel("production", store=channel.store, keys_dir=channel.folder / "keys", trust_root=channel.trust_root)
    assert load_trust_root(channel.trust_root).audit_keys == root.audit_keys


def test_a_publishing_key_does_not_become_an_audit_key(channel):
    audit_key_file(channel.folder / "keys", "staging").write_bytes(channel.signing_key.read_bytes())
    with pytest.raises(InvalidRequest, match="publishing key may not sign review decisions"):
        allow(channel)


def test_an_audit_key_for_no_channel_is_not_made(channel):
    with pytest.raises(InvalidRequest, match="does not know this channel"):
        allow_audit("elsewhere", keys_dir=channel.folder / "keys", trust_root=channel.trust_root, holder="")
