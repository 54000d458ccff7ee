"""What a person says about a key that goes out of use, and what has to follow."""

import pytest
from securesystemslib.signer import CryptoSigner

from softprompt.errors import InvalidRequest
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.record import Judgement
from softprompt.release.audit.report import examine_audit
from softprompt.release.care.init_channel import allow_audit, audit_key_file
from softprompt.release.care.key_revocation import full_key_id, last_good_of, last_record_of, what_follows
from softprompt.release.care.root_changes import (
    change_trust_root,
    publish_trust_root,
    with_publishing_key,
    without_audit_key,
    without_publishing_key,
)
from softprompt.release.layout import root_key
from softprompt.release.trust import LastGood, PublicKey, load_signer, load_trust_root


@pytest.fixture
def root(channel, make_prompt):
    channel.publish(make_prompt(1))
    return load_trust_root(channel.trust_root)


def root_signer(channel):
    return load_signer(channel.folder / "keys" / "root.pem")


def test_the_last_good_generation_is_looked_up_or_said_whole(channel, root):
    head = channel.log.head().signed
    expected = {"staging": LastGood(generation=2, envelope=head.digest)}
    assert last_good_of(["staging=head"], root, channel.store) == expected
    assert last_good_of(["staging=2"], root, channel.store) == expected
    assert last_good_of([f"staging=2:{head.digest}"], root, None) == expected
    assert last_good_of(["staging=0"], root, None) == {"staging": LastGood(generation=0)}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("staging", "not a last good generation"),
        ("staging=-1", "not a last good generation"),
        ("elsewhere=1", "does not know this channel"),
        ("staging=9", "no such generation that is believed"),
    ],
)
def test_an_answer_that_says_nothing_is_refused(channel, root, answer, message):
    with pytest.raises(InvalidRequest, match=message):
        last_good_of([answer], root, channel.store)


def test_without_the_store_a_number_alone_is_not_enough(root):
    with pytest.raises(InvalidRequest, match=r"(?s)digest has to be said.*NUMBER:SHA256"):
        last_good_of(["staging=2"], root, None)


def test_a_key_is_named_by_its_first_digits(root):
    (key_id,) = root.publishing_keys
    assert full_key_id(root, key_id[:8]) == full_key_id(root, key_id) == key_id
    for wrong in (key_id[:7], "", "0" * 64):
        with pytest.raises(InvalidRequest, match="not one key of the trust root"):
            full_key_id(root, wrong)


def revoked(channel, root, last):
    (key_id,) = root.publishing_keys
    changed = change_trust_root(channel.trust_root, root_signer(channel), without_publishing_key(root, key_id, {"staging": last}))
    return "\n".join(what_follows(root, changed, key_id, channel.store))


def test_it_is_said_that_nobody_may_sign_and_that_the_head_falls(channel, root):
    said = revoked(channel, root, LastGood(generation=0))
    assert "root publish" in said
    assert "staging: no key may sign it now" in said
    assert "staging: its newest generation is not believed any more" in said


def test_after_an_orderly_change_only_publishing_the_root_is_left(channel, root):
    new = CryptoSigner.generate_ed25519().public_key
    changed = change_trust_root(
        channel.trust_root, root_signer(channel), with_publishing_key(root, new.keyid, PublicKey.of(new), ("staging",))
    )
    (last,) = last_good_of(["staging=head"], root, channel.store).values()
    old = next(key_id for key_id in changed.publishing_keys if key_id != new.keyid)
    after = change_trust_root(channel.trust_root, root_signer(channel), without_publishing_key(changed, old, {"staging": last}))
    assert "staging:" not in "\n".join(what_follows(changed, after, old, channel.store))


def test_an_audit_key_counts_up_to_its_last_good_decision(channel, root):
    allow_audit("staging", keys_dir=channel.folder / "keys", trust_root=channel.trust_root, holder="Ada")
    trusted = load_trust_root(channel.trust_root)
    (key_id,) = trusted.audit_keys
    signer = load_signer(audit_key_file(channel.folder / "keys", "staging"))
    for note in ("first", "second"):
        judged = Judgement(
            decision="approved", name="greeting", model_version="1", prompt="a" * 64, report="", reviewer="ada", note=note
        )
        AuditLog(channel.store, "staging", trusted).record(judged, signer, since=0, clock=channel.clock)
    with pytest.raises(InvalidRequest, match="up to which review decision"):
        without_audit_key(trusted, key_id, {})
    answers = last_record_of(["staging=1"], trusted)
    after = change_trust_root(channel.trust_root, root_signer(channel), without_audit_key(trusted, key_id, answers))
    report = examine_audit(AuditLog(channel.store, "staging", after))
    assert [entry.record.number for entry in report.entries] == [1]
    assert [problem.number for problem in report.problems] == [2]
    with pytest.raises(InvalidRequest, match="not the number of a review decision"):
        last_record_of(["staging=head"], trusted)


def test_a_change_that_was_killed_before_it_counted_is_made_again(channel, root, monkeypatch):
    """Between the version's own file and `root.json`."""
    from softprompt.release.care import root_changes

    def die(path, data):
        if path == channel.trust_root:
            raise KeyboardInterrupt
        write(path, data)

    write = root_changes.write_durably
    monkeypatch.setattr(root_changes, "write_durably", die)
    with pytest.raises(KeyboardInterrupt):
        change_trust_root(channel.trust_root, root_signer(channel), {})
    assert load_trust_root(channel.trust_root) == root
    assert publish_trust_root(channel.store, channel.trust_root) == (), "what does not count yet is not published"
    monkeypatch.setattr(root_changes, "write_durably", write)
    made = change_trust_root(channel.trust_root, root_signer(channel), {"expires": "2100-01-01T00:00:00Z"})
    assert publish_trust_root(channel.store, channel.trust_root) == (2,)
    assert channel.store.get(root_key(2), max_bytes=10**6) == channel.trust_root.read_bytes()
    assert load_trust_root(channel.trust_root) == made
