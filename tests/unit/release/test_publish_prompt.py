"""One prompt, from the pipeline's last step to a node that serves it; on both servers."""

import time

import pytest

from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.layout import RENEW_SECONDS, blob_key, generation_key
from softprompt.release.planning.policy import Desired, read_desired

GIT = "schema_version: 1\nauthority: git\n"
DAY = 24 * 3600


def test_a_published_prompt_reaches_a_node(any_channel, make_prompt):
    prompt = make_prompt()
    outcome = any_channel.publish(prompt)
    assert (outcome.outcome, outcome.generation, outcome.prompt_digest) == ("published", 2, prompt.digest)
    snapshot = any_channel.reader().refresh()
    assert snapshot.generation == 2
    assert [share.prompt for share in snapshot.prompts["greeting"].bases[prompt.manifest.base_fingerprint]] == [prompt.digest]
    assert snapshot.load(prompt.digest) == prompt
    assert (snapshot.stale, snapshot.alarms) == (False, ())
    with pytest.raises(InvalidRequest, match="does not serve"):
        snapshot.load("0" * 64)


def test_publishing_what_is_served_writes_nothing(any_channel, make_prompt):
    any_channel.publish(make_prompt())
    before = sorted(any_channel.store.list(""))
    any_channel.clock.now += DAY
    again = any_channel.publish(make_prompt())
    assert (again.outcome, again.generation) == ("unchanged", 2)
    assert sorted(any_channel.store.list("")) == before


@pytest.mark.parametrize("authority", ["pipeline", "git"])
def test_publishing_what_is_served_puts_lost_blobs_back(channel, make_prompt, authority):
    prompt = make_prompt()
    channel.publish(prompt)
    lost, changed = prompt.digest, prompt.manifest.parts[0].sha256
    channel.store.delete(blob_key(lost), version="")
    channel.store.put(blob_key(changed), b"other bytes")
    with pytest.raises(VerificationFailed, match=r"(?s)does not verify|missing.*Publish the same prompt again"):
        channel.reader("bad").refresh()
    channel.write_policy(f"schema_version: 1\nauthority: {authority}\n")
    assert channel.publish(prompt).outcome == "unchanged"
    assert channel.reader("good").refresh().load(prompt.digest) == prompt


def test_other_evidence_is_another_generation_of_the_same_prompt(channel, make_prompt):
    channel.publish(make_prompt())
    outcome = channel.publish(make_prompt(), evidence={"report.json": b'{"accuracy":0.8}'})
    assert (outcome.outcome, outcome.generation) == ("published", 3)
    assert "other evidence" in outcome.differences[0]


def test_rolling_back_is_a_new_generation_with_the_old_digest(any_channel, make_prompt):
    old, new = make_prompt(1), make_prompt(2)
    generations = [any_channel.publish(prompt).generation for prompt in (old, new, old)]
    assert generations == [2, 3, 4]
    assert any_channel.reader().refresh().load(old.digest) == old


def test_a_state_older_than_a_third_of_its_life_is_signed_again(channel, make_prompt):
    channel.publish(make_prompt())
    channel.clock.now += RENEW_SECONDS + 1
    outcome = channel.publish(make_prompt())
    assert (outcome.outcome, outcome.generation) == ("published", 3)
    assert "signed again" in outcome.reasons[0]
    assert channel.log.read(2).generation.state == channel.log.read(3).generation.state


def test_an_expired_channel_can_be_published_to(channel, make_prompt):
    channel.publish(make_prompt(1))
    channel.clock.now += 30 * DAY
    assert channel.publish(make_prompt(2)).outcome == "published"
    assert channel.reader().refresh().generation == 3


def test_prompts_of_other_names_and_bases_stay(channel, make_prompt):
    first, other_base = (
        make_prompt(1),
        make_prompt(2, base="0ther".replace("t", "a").replace("h", "b").replace("r", "c") * 12 + "abcd"),
    )
    channel.publish(first)
    channel.publish(other_base)
    channel.publish(make_prompt(3), name="farewell")
    prompts = channel.reader().refresh().prompts
    assert sorted(prompts) == ["farewell", "greeting"]
    assert {share.prompt for shares in prompts["greeting"].bases.values() for share in shares} == {
        first.digest,
        other_base.digest,
    }


def test_evidence_is_in_the_store_and_named_by_the_generation(channel, make_prompt):
    prompt = make_prompt()
    channel.publish(prompt, evidence={"report.json": b"{}", "metrics.json": b"[]"}, model_version="greeting/7")
    approval = channel.log.head().signed.generation.state.approvals[prompt.digest]
    assert approval.model_version == "greeting/7"
    for digest in approval.evidence.values():
        assert channel.store.get(f"blobs/sha256/{digest}", max_bytes=100) in (b"{}", b"[]")
    assert channel.store.get(f"blobs/sha256/{approval.digest}", max_bytes=4096) == approval.to_bytes()


@pytest.mark.parametrize(
    ("policy", "changes", "reason"),
    [
        ("", {"verdict": "rejected"}, "rejected by the evaluation gates"),
        ("", {"verdict": "undecided"}, "left undecided"),
        ("numerics: [bfloat16]", {}, "measured in float32"),
        (
            "numerics: [float32, int8]",
            {"numerics": "bfloat16"},
            "measured in bfloat16; the channel's fleet uses float32 and int8",
        ),
        ("", {"numerics": "int8"}, "measured in int8; the channel's fleet uses float32 and bfloat16"),
        ("kinds: [deep]", {}, "is a shallow prompt"),
        (f'bases: ["{"1" * 64}"]', {}, "which the policy does not allow"),
        ("names: [team-*]", {}, "only names like team-"),
        ("review_required: true", {}, "review.status is not set"),
        ("review_required: true", {"review_status": "rejected"}, "review.status is rejected"),
        ("max_age_days: 3", {}, "does not say when it was evaluated"),
        ("max_age_days: 3", {"evaluated": "2027-01-01T00:00:00Z"}, "was evaluated at 2027-01-01"),
    ],
)
def test_the_policy_refuses_and_nothing_is_written(channel, make_prompt, policy, changes, reason):
    channel.write_policy(f"schema_version: 1\nauthority: pipeline\n{policy}\n")
    before = sorted(channel.store.list(""))
    outcome = channel.publish(make_prompt(), **changes)
    assert (outcome.outcome, outcome.generation) == ("refused", 0)
    assert reason in outcome.reasons[0]
    assert sorted(channel.store.list("")) == before


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ("allow_undecided: true", {"verdict": "undecided"}),
        ("names: [greet*]", {}),
        ("review_required: true", {"review_status": "approved"}),
        ("max_age_days: 3", {"evaluated": "2027-01-14T00:00:00Z"}),  # the tests' clock: 2027-01-15T08:00:00Z
    ],
)
def test_the_policy_allows(channel, make_prompt, policy, changes):
    channel.write_policy(f"schema_version: 1\nauthority: pipeline\n{policy}\n")
    assert channel.publish(make_prompt(), **changes).outcome == "published"


def test_a_revoked_prompt_is_refused_and_blocks_until_it_is_out_of_every_name(channel, make_prompt):
    bad = make_prompt(1)
    channel.publish(bad)
    channel.write_policy(f'schema_version: 1\nauthority: pipeline\nrevoked: ["{bad.digest}"]\n')
    assert "is revoked" in channel.publish(bad).reasons[0]
    assert "take it out of this name" in channel.publish(make_prompt(2), name="farewell").reasons[0]
    assert channel.publish(make_prompt(2)).outcome == "published"
    assert channel.log.head().signed.generation.state.revoked == (bad.digest,)


def test_what_was_served_lately_may_come_back_without_review_and_age_limit(channel, make_prompt):
    old = make_prompt(1)
    channel.publish(old, evaluated="2027-01-14T00:00:00Z")
    channel.publish(make_prompt(2), evaluated="2027-01-14T00:00:00Z")
    channel.write_policy("schema_version: 1\nauthority: pipeline\nmax_age_days: 3\nreview_required: true\n")
    channel.clock.now += 20 * DAY
    assert channel.publish(old, evaluated="2027-01-14T00:00:00Z").outcome == "published"
    assert channel.publish(make_prompt(3), evaluated="2027-01-14T00:00:00Z").outcome == "refused"
    channel.publish(make_prompt(4), evaluated="2027-02-04T00:00:00Z", review_status="approved")
    channel.clock.now += 100 * DAY
    assert channel.publish(old, evaluated="2027-01-14T00:00:00Z").outcome == "refused"


def test_where_git_is_the_authority_it_proposes_and_signs_nothing(any_channel, make_prompt, tmp_path):
    any_channel.write_policy(GIT)
    prompt = make_prompt()
    outcome = any_channel.publish(prompt, signing_key=None)
    assert (outcome.outcome, outcome.generation) == ("proposed", 0)
    assert list(any_channel.store.list("channels/")) == [generation_key("staging", 1)]
    assert any_channel.store.get(outcome.proposal_key, max_bytes=4096) == outcome.proposal.encode()
    assert any_channel.store.get(f"blobs/sha256/{prompt.digest}", max_bytes=4096) == prompt.manifest.to_bytes()

    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "greeting.yaml").write_text(outcome.proposal)
    desired = read_desired(tmp_path, "staging")["greeting"]
    assert isinstance(desired, Desired)
    assert desired.bases[prompt.manifest.base_fingerprint][0].prompt == prompt.digest
    assert desired.bases[prompt.manifest.base_fingerprint][0].model_version == "greeting/1"


def test_a_refused_prompt_is_not_proposed(channel, make_prompt):
    channel.write_policy(GIT)
    outcome = channel.publish(make_prompt(), verdict="undecided")
    assert (outcome.outcome, outcome.proposal) == ("refused", "")
    assert not list(channel.store.list("proposals/"))


def test_a_channel_without_policy_names_the_missing_file(channel, make_prompt):
    (channel.folder / "environments" / "staging" / "_policy.yaml").unlink()
    with pytest.raises(InvalidRequest, match=r"(?s)no policy.*environments/staging/_policy.yaml"):
        channel.publish(make_prompt())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Not A Name"}, "not a name"),
        ({"channel": "../production"}, "not a channel"),
        ({"evidence": {"../report.json": b"{}"}}, "evidence cannot be stored"),
        ({"evaluated": "yesterday"}, "evidence cannot be stored"),
        ({"signing_key": None}, "no signing key"),
    ],
)
def test_impossible_requests_are_named(channel, make_prompt, changes, message):
    before = sorted(channel.store.list(""))
    with pytest.raises(InvalidRequest, match=message):
        channel.publish(make_prompt(), **changes)
    assert sorted(channel.store.list("")) == before


def test_a_channel_that_was_never_begun_is_refused(channel, make_prompt, tmp_path, store):
    channel.write_policy()
    other = type(channel)(type(store)("softprompt", "empty-prefix", store._client), channel.folder)
    with pytest.raises(InvalidRequest, match="no generation that verifies"):
        other.publish(make_prompt())


def test_publishing_takes_little_time(channel, make_prompt):
    channel.publish(make_prompt(1))
    start = time.perf_counter()
    channel.publish(make_prompt(2))
    assert time.perf_counter() - start < 2.0
