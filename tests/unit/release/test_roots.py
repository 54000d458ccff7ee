"""The chain of trust roots: followed link by link by whoever was away, and by nobody who has no key."""

import dataclasses

import pytest
from securesystemslib.signer import CryptoSigner

from softprompt.documents import sha256_hex
from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.release.care.root_changes import (
    change_trust_root,
    expiry,
    publish_trust_root,
    with_minimum,
    with_publishing_key,
    without_publishing_key,
)
from softprompt.release.layout import root_key
from softprompt.release.roots import RootChain, current_trust_root
from softprompt.release.statement import format_time
from softprompt.release.trust import LastGood, PublicKey, TrustRoot, load_signer, load_trust_root, sign_trust_root

DAY = 24 * 3600


class Ceremony:
    """The holder of a channel's root key."""

    def __init__(self, channel):
        self.channel, self.path = channel, channel.trust_root
        self.root_signer = load_signer(channel.folder / "keys" / "root.pem")
        self.begun = load_trust_root(self.path)

    @property
    def root(self):
        return load_trust_root(self.path)

    def change(self, changes, **options):
        return change_trust_root(self.path, self.root_signer, changes, **options)

    def renew(self, days=365):
        return self.change(expiry(self.channel.clock(), days))

    def rotate(self):
        new = CryptoSigner.generate_ed25519()
        self.change({}, new_signer=new)
        self.root_signer = new

    def allow(self, signer, channels=("staging",)):
        key = signer.public_key
        self.change(with_publishing_key(self.root, key.keyid, PublicKey.of(key), channels))

    def revoke(self, key_id, **last_good):
        self.change(without_publishing_key(self.root, key_id, last_good))

    def publish(self):
        return publish_trust_root(self.channel.store, self.path)


@pytest.fixture
def ceremony(channel):
    return Ceremony(channel)


def put_root(channel, version, data):
    channel.store.put(root_key(version), data)


def test_a_machine_that_was_away_follows_every_link(ceremony, channel, tmp_path):
    ceremony.renew()
    ceremony.rotate()
    ceremony.rotate()
    ceremony.allow(CryptoSigner.generate_ed25519())
    assert ceremony.publish() == (2, 3, 4, 5)
    chain = RootChain(ceremony.begun, tmp_path / "links")
    assert chain.follow(channel.store) == ceremony.root
    assert ceremony.root.version == 5
    assert ceremony.root.root_key_id != ceremony.begun.root_key_id


def test_links_that_expired_since_lead_on_to_the_one_that_has_not(ceremony, channel):
    ceremony.renew(days=1)
    ceremony.renew(days=2)
    ceremony.renew(days=400)
    ceremony.publish()
    later = channel.clock() + 30 * DAY
    sleeper = channel.folder / "mounted.json"
    sleeper.write_bytes(sign_trust_root(ceremony.begun, ceremony.root_signer))
    assert current_trust_root(sleeper, channel.store, folder=None, now=later).version == 4
    with pytest.raises(InvalidRequest, match=r"(?s)trust root has expired.*version 4.*root renew"):
        current_trust_root(sleeper, channel.store, folder=None, now=later + 400 * DAY)


def test_what_was_followed_needs_no_store_and_is_never_forgotten(ceremony, channel, tmp_path):
    ceremony.rotate()
    ceremony.publish()
    RootChain(ceremony.begun, tmp_path / "links").follow(channel.store)
    assert RootChain(ceremony.begun, tmp_path / "links").root == ceremony.root
    empty = dataclasses.replace(channel, store=type(channel.store)("softprompt", "another", channel.store._client)).store
    again = RootChain(ceremony.begun, tmp_path / "links")
    assert again.follow(empty) == ceremony.root


def test_a_machine_whose_links_are_lost_does_not_fall_back(ceremony, channel, tmp_path):
    ceremony.rotate()
    ceremony.rotate()
    ceremony.publish()
    RootChain(ceremony.begun, tmp_path / "links").follow(channel.store)
    for link in (tmp_path / "links").glob("*2.json"):
        link.write_bytes(b"half")
    empty = type(channel.store)("softprompt", "another", channel.store._client)
    chain = RootChain(ceremony.begun, tmp_path / "links")
    with pytest.raises(VerificationFailed, match=r"(?s)followed the trust root to a newer version.*version 3.*version 1"):
        chain.follow(empty)
    assert chain.newest_known == 3
    assert chain.follow(channel.store) == ceremony.root, "the store still has the lost link"


def test_links_that_somebody_puts_into_the_folder_introduce_nobody(ceremony, channel, tmp_path):
    thief = CryptoSigner.generate_ed25519()
    forged = TrustRoot.model_validate(
        dict(ceremony.begun) | {"version": 2, "root_key_id": thief.public_key.keyid, "root_key": PublicKey.of(thief.public_key)}
    )
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "000000000002.json").write_bytes(sign_trust_root(forged, thief))
    assert RootChain(ceremony.begun, tmp_path / "links").root == ceremony.begun


def forged_by_the_publisher(ceremony):
    signer = load_signer(ceremony.channel.signing_key)
    return sign_trust_root(next_of(ceremony.begun), signer)


def signed_by_the_new_key_only(ceremony):
    new = CryptoSigner.generate_ed25519()
    return sign_trust_root(next_of(ceremony.begun, root_key_id=new.public_key.keyid, root_key=PublicKey.of(new.public_key)), new)


def signed_by_the_old_key_only(ceremony):
    new = CryptoSigner.generate_ed25519().public_key
    return sign_trust_root(next_of(ceremony.begun, root_key_id=new.keyid, root_key=PublicKey.of(new)), ceremony.root_signer)


def next_of(root, **changes):
    return TrustRoot.model_validate(dict(root) | {"version": root.version + 1} | changes)


REFUSED = {
    "signed by a publishing key": (forged_by_the_publisher, "signature does not verify"),
    "a new root key signed by itself": (signed_by_the_new_key_only, "signature does not verify"),
    "a new root key that has not signed": (signed_by_the_old_key_only, "signature does not verify"),
    "a version left out": (
        lambda ceremony: sign_trust_root(next_of(next_of(ceremony.begun)), ceremony.root_signer),
        "not the next version",
    ),
    "the same version again": (lambda ceremony: sign_trust_root(ceremony.begun, ceremony.root_signer), "not the next version"),
    "no envelope": (lambda ceremony: b"{}", "not a valid _Form"),
    "nothing": (lambda ceremony: b"", "not strict JSON"),
}


@pytest.mark.parametrize("forgery", REFUSED)
def test_a_link_that_does_not_verify_is_refused_with_its_reason(ceremony, channel, forgery):
    make, reason = REFUSED[forgery]
    put_root(channel, 2, make(ceremony))
    chain = RootChain(ceremony.begun, None)
    with pytest.raises(VerificationFailed, match=reason):
        chain.follow(channel.store)
    assert chain.root == ceremony.begun
    reader = channel.reader()
    snapshot = reader.refresh()
    assert snapshot.generation == 1
    assert "newer trust root is not believed" in snapshot.alarms[0]
    with pytest.raises(VerificationFailed, match=reason):
        current_trust_root(channel.trust_root, channel.store, folder=None, now=channel.clock())


def test_an_object_in_the_next_versions_place_stops_publishing_until_it_is_taken_away(ceremony, channel, make_prompt):
    channel.publish(make_prompt(1))
    following = channel.reader()
    following.refresh()
    put_root(channel, 2, b"junk")
    snapshot = following.refresh()
    assert (snapshot.generation, [alarm.reason for alarm in snapshot.alarms]) == (2, ["root"])
    with pytest.raises(VerificationFailed, match="strict JSON"):
        channel.publish(make_prompt(2))
    ceremony.renew()
    with pytest.raises(InvalidRequest, match="another trust root of this version"):
        ceremony.publish()
    channel.store.delete(root_key(2), version="")
    ceremony.publish()
    assert channel.publish(make_prompt(2)).outcome == "published"
    assert following.refresh().alarms == ()


def test_publishing_the_root_twice_writes_nothing_more(ceremony):
    ceremony.renew()
    assert ceremony.publish() == (2,)
    assert ceremony.publish() == ()


def test_of_two_changes_of_one_version_the_first_stays(ceremony, channel, tmp_path):
    """Two machines that both have the root key."""
    copy = tmp_path / "other"
    (copy / "roots").mkdir(parents=True)
    (copy / "root.json").write_bytes(channel.trust_root.read_bytes())
    ceremony.renew()
    ceremony.publish()
    change_trust_root(copy / "root.json", ceremony.root_signer, expiry(channel.clock(), 9))
    with pytest.raises(InvalidRequest, match="another trust root of this version"):
        publish_trust_root(channel.store, copy / "root.json")
    assert channel.store.get(root_key(2), max_bytes=100_000) == ceremony.path.read_bytes()


def test_a_lost_version_is_not_passed_over(ceremony):
    ceremony.renew()
    ceremony.renew()
    ceremony.renew()
    (ceremony.path.parent / root_key(3)).unlink()
    with pytest.raises(InvalidRequest, match="version of the trust root is lost"):
        ceremony.publish()


def test_a_root_key_that_is_not_the_roots_changes_nothing(ceremony):
    before = ceremony.path.read_bytes()
    with pytest.raises(InvalidRequest, match="root key is not the trust root's"):
        change_trust_root(ceremony.path, CryptoSigner.generate_ed25519(), {})
    assert ceremony.path.read_bytes() == before


def test_a_minimum_never_falls(ceremony):
    ceremony.change(with_minimum(ceremony.root, "staging", 4))
    with pytest.raises(InvalidRequest, match="never falls"):
        with_minimum(ceremony.root, "staging", 3)


def test_a_publish_uses_the_newest_root(ceremony, channel, make_prompt):
    """Its key counts since a version that its own file does not have."""
    new = CryptoSigner.generate_ed25519()
    (channel.folder / "new.pem").write_bytes(new.private_bytes)
    mounted = channel.folder / "mounted.json"
    mounted.write_bytes(channel.trust_root.read_bytes())
    ceremony.allow(new)
    with pytest.raises(InvalidRequest, match="does not allow this key"):
        channel.publish(make_prompt(), trust_root=mounted, signing_key=channel.folder / "new.pem")
    ceremony.publish()
    assert channel.publish(make_prompt(), trust_root=mounted, signing_key=channel.folder / "new.pem").outcome == "published"
    assert channel.reader().refresh().generation == 2


def test_nobody_publishes_by_a_root_that_has_expired(ceremony, channel, make_prompt):
    ceremony.renew(days=1)
    channel.clock.now += 2 * DAY
    with pytest.raises(InvalidRequest, match="trust root has expired"):
        channel.publish(make_prompt())


# What a node does.


def test_a_node_that_runs_follows_a_new_publishing_key(ceremony, channel, make_prompt):
    reader = channel.reader()
    assert reader.refresh().generation == 1
    new = CryptoSigner.generate_ed25519()
    (channel.folder / "new.pem").write_bytes(new.private_bytes)
    ceremony.rotate()
    ceremony.allow(new)
    ceremony.publish()
    channel.publish(make_prompt(), signing_key=channel.folder / "new.pem")
    snapshot = reader.refresh()
    assert (snapshot.generation, snapshot.alarms, snapshot.stale) == (2, (), False)


def test_an_expired_root_lets_nothing_new_in_and_nothing_good_out(ceremony, channel, make_prompt):
    ceremony.renew(days=1)
    ceremony.publish()
    reader = channel.reader()
    assert reader.refresh().alarms == ()
    channel.publish(make_prompt())
    channel.clock.now += 2 * DAY
    snapshot = reader.refresh()
    assert (snapshot.generation, snapshot.stale) == (1, True)
    assert any(f"expired at {ceremony.root.expires}" in alarm for alarm in snapshot.alarms)
    with pytest.raises(VerificationFailed, match=r"(?s)no generation that this node may serve.*trust root, version 2, expired"):
        channel.reader("fresh").refresh()
    ceremony.renew(days=30)
    ceremony.publish()
    assert reader.refresh().generation == 2
    assert channel.reader("fresh").refresh().generation == 2


def rotated(ceremony, channel, make_prompt):
    """A channel at generation 3, signed by a new key; the old key signed 1 and 2. Returns the old key's id and the new file."""
    old = load_signer(channel.signing_key).public_key.keyid
    channel.publish(make_prompt(1))
    new = CryptoSigner.generate_ed25519()
    (channel.folder / "new.pem").write_bytes(new.private_bytes)
    ceremony.allow(new)
    ceremony.publish()
    channel.publish(make_prompt(2), signing_key=channel.folder / "new.pem")
    return old, channel.folder / "new.pem"


def last_good(channel, number):
    from softprompt.release.layout import generation_key

    data = channel.store.get(generation_key("staging", number), max_bytes=10**7)
    return LastGood(generation=number, envelope=sha256_hex(data))


def test_after_an_orderly_change_of_keys_nobody_notices_that_the_old_one_is_gone(ceremony, channel, make_prompt):
    old, new = rotated(ceremony, channel, make_prompt)
    running, sleeper = channel.reader(), channel.reader("sleeper")
    assert running.refresh().generation == 3
    ceremony.revoke(old, staging=last_good(channel, 3))
    ceremony.publish()
    for reader in (running, sleeper, channel.reader("fresh"), channel.reader()):
        snapshot = reader.refresh()
        assert (snapshot.generation, snapshot.alarms, snapshot.stale) == (3, (), False)
    with pytest.raises(InvalidRequest, match="does not allow this key"):
        channel.publish(make_prompt(3))
    assert channel.publish(make_prompt(3), signing_key=new).generation == 4
    assert len(list(channel.log.walk())) == 4, "history before the revocation stays readable"


def leaked(ceremony, channel, make_prompt):
    """Generations 2 (good) and 3 (the thief's), both by the leaked key, which is revoked; a new one may sign."""
    old = load_signer(channel.signing_key).public_key.keyid
    channel.publish(make_prompt(1))
    channel.publish(make_prompt(66))
    new = CryptoSigner.generate_ed25519()
    (channel.folder / "new.pem").write_bytes(new.private_bytes)
    ceremony.allow(new)
    ceremony.revoke(old, staging=last_good(channel, 2))
    return channel.folder / "new.pem"


def test_what_a_leaked_key_signed_is_believed_by_nobody_new_and_the_last_good_stays(ceremony, channel, make_prompt):
    behind, ahead = channel.reader("behind"), channel.reader("ahead")
    channel.publish(make_prompt(0))
    assert behind.refresh().generation == 2
    new = leaked_after(ceremony, channel, make_prompt)
    assert ahead.refresh().generation == 4
    ceremony.publish()
    seen = behind.refresh()
    assert seen.generation == 3, "the pinned one, though its key is revoked"
    assert any("signed by a key that was revoked" in alarm for alarm in seen.alarms)
    served = ahead.refresh()
    assert (served.generation, served.stale) == (4, True)
    assert any("served and not believed any more: publish again" in alarm for alarm in served.alarms)
    assert channel.reader("fresh").refresh().generation == 3
    again = channel.publish(make_prompt(3), signing_key=new)
    assert again.generation == 5
    assert channel.log.head().signed.generation.skipped == (4,)
    for reader in (behind, ahead, channel.reader("fresh too")):
        snapshot = reader.refresh()
        assert (snapshot.generation, snapshot.stale) == (5, False)


def leaked_after(ceremony, channel, make_prompt):
    old = load_signer(channel.signing_key).public_key.keyid
    channel.publish(make_prompt(1))
    channel.publish(make_prompt(66))
    new = CryptoSigner.generate_ed25519()
    (channel.folder / "new.pem").write_bytes(new.private_bytes)
    ceremony.allow(new)
    ceremony.revoke(old, staging=last_good(channel, 3))
    return channel.folder / "new.pem"


def test_a_node_that_restarts_on_what_is_not_believed_any_more_is_not_ready_until_it_is_published_again(
    ceremony, channel, make_prompt
):
    reader = channel.reader()
    new = leaked(ceremony, channel, make_prompt)
    assert reader.refresh().generation == 3
    ceremony.publish()
    reader.refresh()
    with pytest.raises(VerificationFailed, match=r"(?s)What this node served last cannot be used.*revoked"):
        channel.reader().refresh()
    channel.publish(make_prompt(3), signing_key=new)
    assert channel.reader().refresh().generation == 4


def test_with_the_leaked_key_nobody_can_put_another_generation_in_the_place_of_the_last_good(ceremony, channel, make_prompt):
    from softprompt.release import envelope
    from softprompt.release.layout import generation_key
    from softprompt.release.statement import to_statement

    leaked(ceremony, channel, make_prompt)
    ceremony.publish()
    log = channel.log
    good = log.head().signed.generation
    assert good.generation == 2
    thief = load_signer(channel.signing_key)
    forged = good.model_copy(update={"publish_id": "f" * 32})
    channel.store.put(generation_key("staging", 2), envelope.sign(to_statement(forged), thief))
    with pytest.raises(VerificationFailed, match=r"(?s)no generation that this node may serve.*key that was revoked"):
        channel.reader("fresh").refresh()


def test_prompts_of_generations_that_are_not_believed_may_not_come_back_without_review(ceremony, channel, make_prompt):
    new = leaked(ceremony, channel, make_prompt)
    ceremony.publish()
    channel.publish(make_prompt(3), signing_key=new)
    served = channel.log.served_since(0)
    assert make_prompt(1).digest in served
    assert make_prompt(66).digest not in served


def test_a_key_can_be_revoked_for_everything_it_ever_signed(ceremony, channel, make_prompt):
    old, new = rotated(ceremony, channel, make_prompt)
    ceremony.revoke(old, staging=LastGood(generation=0))
    ceremony.publish()
    assert [signed.generation.generation for signed in channel.log.walk()] == [3]
    assert channel.reader("fresh").refresh().generation == 3
    assert channel.publish(make_prompt(3), signing_key=new).generation == 4


def test_revoking_asks_up_to_where_the_key_is_believed(ceremony, channel):
    key_id = load_signer(channel.signing_key).public_key.keyid
    with pytest.raises(InvalidRequest, match=r"(?s)up to which generation.*--last-good staging=NUMBER"):
        ceremony.revoke(key_id)


def test_a_revoked_key_does_not_come_back(ceremony, channel):
    signer = load_signer(channel.signing_key)
    ceremony.revoke(signer.public_key.keyid, staging=LastGood(generation=0))
    with pytest.raises(InvalidRequest, match="was revoked; make a new one"):
        ceremony.allow(signer)


def test_a_store_that_hides_the_roots_is_told_from_one_that_has_no_newer(ceremony, proxied_channel, proxy):
    reader = proxied_channel.reader()
    reader.refresh()
    proxy.do("403", "GET")
    snapshot = reader.refresh()
    assert snapshot.stale
    assert "AccessDenied" in snapshot.alarms[0]
    with pytest.raises(StoreUnavailable):
        current_trust_root(proxied_channel.trust_root, proxied_channel.store, folder=None, now=0)


def test_times_of_a_root_are_for_people(ceremony, channel):
    assert ceremony.renew(days=10).expires == format_time(channel.clock() + 10 * DAY)
