"""Review decisions: recorded once, chained, signed by keys of their own; everything that is wrong with a log is named."""

import base64
import json
import multiprocessing
from dataclasses import dataclass

import pytest
from securesystemslib.signer import CryptoSigner

from softprompt.documents import canonical_json, sha256_hex
from softprompt.errors import InvalidRequest, PublishUnknown, StoreUnavailable, VerificationFailed
from softprompt.release import envelope
from softprompt.release.audit.log import AuditLog
from softprompt.release.audit.record import STATEMENT, AuditRecord, Judgement
from softprompt.release.audit.report import examine_audit
from softprompt.release.care.init_channel import ROOT_KEY_FILE, allow_audit, audit_key_file
from softprompt.release.channel import verify_generation
from softprompt.release.layout import audit_key, generation_key
from softprompt.release.s3_client import s3_client
from softprompt.release.statement import format_time
from softprompt.release.store import S3Store
from softprompt.release.trust import ChannelTrust, TrustRoot, load_signer, load_trust_root, sign_trust_root
from tests.unit.release.conftest import NOW, Channel

MADE = NOW - 3600
"""When the version was."""


def judgement(**changes):
    given = {
        "decision": "approved",
        "name": "greeting",
        "model_version": "1",
        "prompt": "a" * 64,
        "report": "b" * 64,
        "reviewer": "Ada",
        "note": "looks right",
    }
    return Judgement(**(given | changes))


@dataclass
class Review:
    """A channel with an audit key."""

    channel: Channel

    @property
    def trust(self):
        return load_trust_root(self.channel.trust_root)

    @property
    def signer(self):
        return load_signer(audit_key_file(self.channel.folder / "keys", self.channel.name))

    @property
    def log(self):
        return AuditLog(self.channel.store, self.channel.name, self.trust)

    def record(self, signer=None, **changes):
        return self.log.record(judgement(**changes), signer or self.signer, since=MADE, clock=self.channel.clock)

    def record_three(self):
        return [self.record(model_version=str(version))[0] for version in (1, 2, 3)]

    def put(self, number, data):
        self.channel.store.put(audit_key(self.channel.name, number), data)

    def remove(self, number):
        store = self.channel.store
        store._client.delete_object(**store._address(audit_key(self.channel.name, number)))

    def problems(self):
        return [(problem.number, problem.what, problem.passed_over) for problem in examine_audit(self.log).problems]

    def sign(self, record, signer=None):
        return envelope.sign(STATEMENT.write(record), signer or self.signer)

    def change_root(self, **changes):
        root = TrustRoot.model_validate(dict(self.trust) | changes)
        self.channel.trust_root.write_bytes(sign_trust_root(root, load_signer(self.channel.folder / "keys" / ROOT_KEY_FILE)))


@pytest.fixture
def review(channel):
    return with_key(channel)


def with_key(channel):
    allow_audit(channel.name, keys_dir=channel.folder / "keys", trust_root=channel.trust_root, holder="Ada")
    return Review(channel)


def test_decisions_are_numbered_and_each_names_the_one_before(any_channel):
    review = with_key(any_channel)
    first, second, third = review.record_three()
    assert [recorded.record.number for recorded in (first, second, third)] == [1, 2, 3]
    assert [recorded.record.previous for recorded in (first, second, third)] == ["", first.digest, second.digest]
    report = examine_audit(review.log)
    assert report.whole
    assert [entry.record for entry in report.entries] == [first.record, second.record, third.record]
    assert {entry.holder for entry in report.entries} == {"Ada"}
    assert first.record.judgement == judgement()


def test_the_bytes_are_what_the_documentation_says(review):
    """Read with the standard library only."""
    recorded, _ = review.record()
    data = review.channel.store.get("audit/staging/000000000001.json", max_bytes=100_000)
    found = json.loads(data)
    statement = json.loads(base64.b64decode(found["payload"]))
    assert (found["payloadType"], statement["_type"]) == ("application/vnd.in-toto+json", "https://in-toto.io/Statement/v1")
    assert statement["predicateType"] == "urn:softprompt:review-decision:v1"
    assert statement["subject"] == [{"digest": {"sha256": "a" * 64}}]
    assert statement["predicate"]["judgement"]["note"] == "looks right"
    assert statement["predicate"]["decided"] == format_time(NOW)
    body = base64.b64decode(found["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(body), body)
    (signature,) = found["signatures"]
    review.signer._private_key.public_key().verify(bytes.fromhex(_hex(signature["sig"])), signed)
    assert recorded.digest == sha256_hex(data)


def _hex(signature):
    """DSSE carries base64."""
    return base64.b64decode(signature).hex()


def test_the_same_decision_again_is_no_second_one_and_another_is(review):
    first, made = review.record()
    again, made_again = review.record()
    assert (made, made_again, again.digest) == (True, False, first.digest)
    for change in ({"decision": "rejected"}, {}, {"note": "on second thoughts"}, {"reviewer": "Grace"}):
        assert review.record(**change)[1]
    assert [entry.record.judgement.decision for entry in examine_audit(review.log).entries] == ["approved", "rejected"] + [
        "approved"
    ] * 3


def test_a_decision_about_an_earlier_version_of_that_number_is_not_this_ones(review):
    """A registry that was made anew counts from 1 again."""
    first, _ = review.record()
    review.channel.clock.now += 3600
    again, made = review.log.record(judgement(), review.signer, since=review.channel.clock.now, clock=review.channel.clock)
    assert (made, again.record.previous) == (True, first.digest)


def test_a_lost_reply_is_recognised(proxy, proxied_channel):
    review = with_key(proxied_channel)
    review.record()
    log = review.log

    class LosesReplies:
        def __getattr__(self, name):
            return getattr(log.store, name)

        def create(self, key, data):
            if key.startswith("audit/"):
                proxy.do("lose_reply", "PUT", 1)
            return log.store.create(key, data)

    lossy = AuditLog(LosesReplies(), "staging", review.trust)
    recorded, made = lossy.record(judgement(model_version="2"), review.signer, since=MADE, clock=review.channel.clock)
    assert (made, recorded.record.number) == (True, 2)
    assert [entry.record.judgement.model_version for entry in examine_audit(review.log).entries] == ["1", "2"]


def test_what_nobody_can_say_is_said_and_doing_it_again_makes_one_record(review):
    plain = review.channel.store

    class Vanishes:
        def __getattr__(self, name):
            return getattr(plain, name)

        def create(self, key, data):
            answer = plain.create(key, data)
            if not key.startswith("audit/"):
                return answer
            self.gone = True
            return "unclear"

        def get(self, key, *, max_bytes):
            if getattr(self, "gone", False):
                raise StoreUnavailable("It does not answer.")
            return plain.get(key, max_bytes=max_bytes)

    with pytest.raises(PublishUnknown, match="Do the same again"):
        AuditLog(Vanishes(), "staging", review.trust).record(judgement(), review.signer, since=MADE, clock=review.channel.clock)
    assert review.record()[1] is False
    assert len(examine_audit(review.log).entries) == 1


def test_a_missing_decision_is_named(review):
    review.record_three()
    review.remove(2)
    assert review.problems() == [
        (2, "A review decision is missing.", False),
        (3, "A review decision follows another one than the one before it.", False),
    ]
    assert not examine_audit(review.log).whole
    assert review.record(model_version="4")[0].record.number == 4, "a hole is never filled"


def test_a_missing_first_decision_is_named(review):
    review.record_three()
    review.remove(1)
    assert [number for number, _, _ in review.problems()] == [1, 2]


def test_altered_bytes_are_named_and_so_is_the_break_in_the_chain(review):
    _, second, _ = review.record_three()
    content = json.loads(second.data)
    changed = replace_note(second.record, "bribed")
    content["payload"] = base64.b64encode(STATEMENT.write(changed)).decode()
    review.put(2, canonical_json(content))
    assert review.problems() == [
        (2, "A signature does not verify.", False),
        (3, "A review decision follows another one than the one before it.", False),
    ]
    review.put(2, second.data + b" ")
    assert review.problems()[0][1] == "A signed envelope is not in canonical form."


def replace_note(record, note):
    changed = record.judgement.model_copy(update={"note": note})
    return record.model_copy(update={"judgement": changed})


def test_a_record_that_its_signer_writes_anew_breaks_the_chain(review):
    """The key proves who, the chain that nothing before it was changed since."""
    _, second, _ = review.record_three()
    review.put(2, review.sign(replace_note(second.record, "bribed")))
    assert review.problems() == [(3, "A review decision follows another one than the one before it.", False)]


def test_a_record_in_anothers_place_is_named(review):
    _, second, third = review.record_three()
    review.put(3, second.data)
    assert review.problems() == [(3, "A review decision lies in another's place.", False)]
    review.put(3, third.data)
    for change in ({"channel": "production"}, {"channel_id": "c" * 32}):
        review.put(4, review.sign(AuditRecord(**(dict(third.record) | {"number": 4, "previous": third.digest} | change))))
        assert review.problems() == [(4, "A review decision lies in another's place.", False)]


def test_an_older_time_than_the_one_before_is_named(review):
    review.record_three()
    third = review.log.read(3)
    older = format_time(NOW - 7200)
    review.put(4, review.sign(AuditRecord(**(dict(third.record) | {"number": 4, "previous": third.digest, "decided": older}))))
    assert review.problems() == [(4, "A review decision is older than the one before it.", False)]


@pytest.mark.parametrize("whose", ["publish", "root", "stranger"])
def test_a_key_that_is_not_for_audit_signs_no_decision(review, whose):
    first, _ = review.record()
    keys = review.channel.folder / "keys"
    signer = {
        "publish": lambda: load_signer(review.channel.signing_key),
        "root": lambda: load_signer(keys / ROOT_KEY_FILE),
        "stranger": CryptoSigner.generate_ed25519,
    }[whose]()
    with pytest.raises(InvalidRequest, match="does not list this key for review decisions"):
        review.record(signer, model_version="2")
    forged = AuditRecord(**(dict(first.record) | {"number": 2, "previous": first.digest}))
    review.put(2, review.sign(forged, signer))
    assert review.problems() == [(2, "A review decision is signed by a key that may not sign it.", False)]
    (problem,) = examine_audit(review.log).problems
    assert ("a publishing key" if whose == "publish" else "unknown") in problem.facts["actual"]


def test_a_key_under_another_keys_id_is_no_use(review):
    stranger = CryptoSigner.generate_ed25519()
    stranger.public_key.keyid = review.signer.public_key.keyid
    with pytest.raises(InvalidRequest, match="does not list this key"):
        review.record(stranger)
    review.record()
    record = AuditRecord(**(dict(review.log.read(1).record) | {"number": 2, "previous": review.log.read(1).digest}))
    review.put(2, review.sign(record, stranger))
    assert review.problems() == [(2, "A signature does not verify.", False)]


def test_an_audit_key_signs_no_generation(review):
    """Whatever it says: neither in the channel nor as a statement in the log."""
    head = review.channel.log.head().signed
    from softprompt.release.statement import to_statement

    forged = head.generation.model_copy(update={"generation": 2, "previous": head.digest})
    data = envelope.sign(to_statement(forged), review.signer)
    with pytest.raises(VerificationFailed, match="signature does not verify"):
        verify_generation(data, number=2, channel="staging", trust=review.trust, source="here")
    review.channel.store.put(generation_key("staging", 2), data)
    assert review.channel.log.head().signed.generation.generation == 1
    review.put(1, data)
    assert review.problems() == [
        (1, "A signed statement is not about a review decision that this softprompt understands.", False)
    ]


def test_a_decision_signed_by_a_publishing_key_is_no_generation_either(review):
    recorded, _ = review.record()
    data = review.sign(recorded.record, load_signer(review.channel.signing_key))
    with pytest.raises(VerificationFailed, match="not about a generation"):
        verify_generation(data, number=1, channel="staging", trust=review.trust, source="here")


def test_a_key_that_went_out_of_use_leaves_its_decisions_and_makes_no_more(review):
    review.record_three()
    keys = {key_id: key.model_copy(update={"last_record": {"staging": 3}}) for key_id, key in review.trust.audit_keys.items()}
    review.change_root(audit_keys=keys, version=9)
    assert examine_audit(review.log).whole
    with pytest.raises(InvalidRequest, match="does not list this key"):
        review.record(model_version="4")
    third = review.log.read(3)
    review.put(4, review.sign(AuditRecord(**(dict(third.record) | {"number": 4, "previous": third.digest}))))
    (problem,) = examine_audit(review.log).problems
    assert "whose last record here is number 3" in problem.facts["actual"]


def test_a_key_for_another_channel_signs_nothing_here(review):
    keys = {key_id: key.model_copy(update={"channels": ("other",)}) for key_id, key in review.trust.audit_keys.items()}
    channels = review.trust.channels | {"other": ChannelTrust(id="d" * 32)}
    review.record()
    review.change_root(audit_keys=keys, channels=channels)
    with pytest.raises(InvalidRequest, match="does not list this key"):
        review.record(model_version="2")
    assert "for other channels" in examine_audit(review.log).problems[0].facts["actual"]


@pytest.mark.parametrize("stray", [b"", b"{}", b"x" * 1000], ids=["empty", "json", "text"])
def test_an_object_that_does_not_verify_is_passed_over_by_name(review, stray):
    first, _ = review.record()
    review.put(2, stray)
    recorded, _ = review.record(model_version="2")
    assert (recorded.record.number, recorded.record.skipped, recorded.record.previous) == (3, (2,), first.digest)
    report = examine_audit(review.log)
    assert report.whole, "nothing that was decided is in doubt"
    assert [(problem.number, problem.passed_over) for problem in report.problems] == [(2, True)]


def test_a_stray_object_at_the_last_number_costs_nothing(review):
    review.record()
    review.put(10**12 - 1, b"stray")
    assert review.record(model_version="2")[0].record.number == 2
    assert [number for number, _, _ in review.problems()] == [10**12 - 1]


def test_passing_over_a_decision_that_verifies_is_named(review):
    first, second, _ = review.record_three()
    record = dict(second.record) | {"number": 4, "skipped": (2, 3), "previous": first.digest}
    review.put(4, review.sign(AuditRecord(**record)))
    assert review.problems() == [(4, "A review decision passes over others that verify.", False)]


def test_a_clock_that_is_behind_is_refused_and_a_little_behind_is_not(review):
    review.record()
    review.channel.clock.now -= 60
    assert review.record(model_version="2")[0].record.decided == format_time(NOW)
    review.channel.clock.now -= 3600
    with pytest.raises(InvalidRequest, match="clock is behind"):
        review.record(model_version="3")


def test_an_empty_log_is_whole(review):
    report = examine_audit(review.log)
    assert (report.whole, report.entries, report.problems) == (True, (), ())


def _decide(access, prefix, folder, barrier, process):
    """In a process of its own: ten decisions of its own, and one that all make."""
    channel = Channel(S3Store("softprompt", prefix, s3_client(access)), folder)
    review = Review(channel)
    barrier.wait()
    review.record(model_version="shared")
    for number in range(10):
        review.record(model_version=f"{process}-{number}")


def test_reviewers_at_the_same_time_make_one_chain(review, ministack):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    store = review.channel.store
    arguments = (ministack, store._prefix.rstrip("/"), review.channel.folder, barrier)
    processes = [context.Process(target=_decide, args=(*arguments, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    report = examine_audit(review.log)
    assert report.whole
    assert not report.problems
    versions = [entry.record.judgement.model_version for entry in report.entries]
    assert sorted(versions) == sorted(["shared", *(f"{p}-{n}" for p in range(2) for n in range(10))])


def test_a_store_that_is_away_is_said(review, tmp_path):
    away = replace_store(review)
    with pytest.raises(StoreUnavailable):
        examine_audit(away)


def replace_store(review):
    from softprompt.release.s3_client import S3Access

    access = S3Access(endpoint_url="http://127.0.0.1:9", region="us-east-1", access_key_id="k", secret_access_key="s")
    return AuditLog(S3Store("softprompt", "", s3_client(access)), "staging", review.trust)
