"""Statements: what is written is read back, and nothing else is."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt.documents import canonical_json
from softprompt.errors import VerificationFailed
from softprompt.release.statement import (
    Approval,
    ChannelState,
    Generation,
    Served,
    Share,
    format_time,
    from_statement,
    parse_time,
    to_statement,
)

UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])
DIGESTS = st.integers(0, 7).map(lambda number: f"{number:064x}")
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
SHARES = st.lists(DIGESTS, min_size=1, max_size=3, unique=True).flatmap(
    lambda digests: st.tuples(*(st.builds(Share, prompt=st.just(one), weight=st.integers(1, 10_000)) for one in digests))
)
SERVED = st.builds(
    Served,
    bases=st.dictionaries(DIGESTS, SHARES, min_size=1, max_size=2),
    shadow=st.lists(DIGESTS, max_size=1).map(tuple),
    pinned=st.booleans(),
    pinnable=st.lists(DIGESTS, max_size=2).map(tuple),
)


@st.composite
def states(draw):
    prompts = draw(st.dictionaries(NAMES, SERVED, max_size=3))
    in_use = frozenset().union(*(served.digests for served in prompts.values()))
    approvals = {digest: approval(digest, verdict=draw(st.sampled_from(["passed", "undecided"]))) for digest in in_use}
    return ChannelState(prompts=prompts, approvals=approvals, revoked=("f" * 64,), numerics=("float32",))


def approval(digest, **changes):
    given = {
        "prompt": digest,
        "verdict": "passed",
        "numerics": "float32",
        "model_version": "a/1",
        "evidence": {"a.json": "e" * 64},
    }
    return Approval(**(given | changes))


def generation(**changes):
    given = {
        "channel": "staging",
        "channel_id": "c" * 32,
        "generation": 5,
        "state": ChannelState(),
        "publish_id": "d" * 32,
        "created": "2026-11-21T14:00:00Z",
        "expires": "2026-11-28T14:00:00Z",
        "previous": "a" * 64,
        "skipped": (3, 4),
    }
    return Generation(**(given | changes))


@UNHURRIED
@given(states(), st.integers(0, 2**33))
def test_a_statement_reads_back_as_what_was_written(state, created):
    written = generation(state=state, created=format_time(created), expires=format_time(created + 1))
    data = to_statement(written)
    assert from_statement(data, source="here") == written
    assert to_statement(from_statement(data, source="here")) == data


@UNHURRIED
@given(states(), st.data())
def test_no_other_bytes_are_a_statement(state, data):
    written = to_statement(generation(state=state))
    position = data.draw(st.integers(0, len(written) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = written[:position] + bytes([byte]) + written[position + 1 :]
    try:
        read = from_statement(changed, source="here")
    except VerificationFailed:
        return
    assert to_statement(read) == changed


@UNHURRIED
@given(st.integers(0, 2**33))
def test_times_read_back(seconds):
    assert parse_time(format_time(seconds)) == seconds


def test_it_is_an_in_toto_statement_about_the_prompts():
    digest = "1" * 64
    served = {"greeting": Served(bases={"b" * 64: (Share(prompt=digest),)})}
    statement = json.loads(to_statement(generation(state=ChannelState(prompts=served, approvals={digest: approval(digest)}))))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"digest": {"sha256": digest}}]
    assert statement["predicateType"] == "urn:softprompt:generation:v1"
    assert statement["predicate"]["generation"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(predicateType="urn:softprompt:generation:v2"), "Update softprompt"),
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "not about a generation"),
        (lambda s: s.update(more=1), "not in the one form"),
        (lambda s: s["subject"].append({"digest": {"sha256": "1" * 64}}), "not in the one form"),
        (lambda s: s["predicate"].update(more=1), "key more"),
        (lambda s: s["predicate"].update(schema_version=2), "schema_version"),
        (lambda s: s["predicate"].update(generation="5"), "key generation"),
        (lambda s: s["predicate"].pop("state"), "key state"),
        (lambda s: s.pop("predicate"), "Generation document"),
    ],
)
def test_what_is_not_such_a_statement_is_refused_by_name(change, message):
    statement = json.loads(to_statement(generation()))
    change(statement)
    with pytest.raises(VerificationFailed, match=message):
        from_statement(canonical_json(statement), source="here")


def test_bytes_that_are_not_canonical_are_refused():
    statement = json.loads(to_statement(generation()))
    with pytest.raises(VerificationFailed, match="not in the one form"):
        from_statement(json.dumps(statement).encode(), source="here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skipped": (2, 4)}, "skipped"),
        ({"skipped": (1, 2, 3, 4, 5)}, "skipped"),
        ({"previous": ""}, "previous"),
        ({"generation": 1, "skipped": ()}, "previous"),
        ({"generation": 0, "skipped": ()}, "generation"),
        ({"expires": "2026-11-21T14:00:00Z"}, "expires"),
        ({"created": "2026-11-21 14:00:00"}, "created"),
        ({"created": "2026-11-21T14:00:00+00:00"}, "created"),
        ({"git_commit": "main"}, "git_commit"),
        ({"publish_id": "x"}, "publish_id"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        generation(**changes)


def test_the_first_generation_has_no_predecessor_even_after_strays():
    assert generation(generation=1, skipped=(), previous="").predecessor == 0
    assert generation(generation=3, skipped=(1, 2), previous="").predecessor == 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"approvals": {}}, "approvals"),
        ({"approvals": {"1" * 64: approval("1" * 64), "2" * 64: approval("2" * 64)}}, "approvals"),
        ({"approvals": {"1" * 64: approval("2" * 64)}}, "about another prompt"),
        ({"revoked": ("1" * 64,)}, "revoked"),
        ({"prompts": {"greeting": {"bases": {"b" * 64: ()}}}}, "at least one prompt"),
        ({"prompts": {"greeting": {"bases": {}}}}, "at least 1 item"),
        ({"prompts": {"Greeting": {"bases": {"b" * 64: (Share(prompt="1" * 64),)}}}}, "pattern"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(state, message):
    good = {
        "prompts": {"greeting": Served(bases={"b" * 64: (Share(prompt="1" * 64),)})},
        "approvals": {"1" * 64: approval("1" * 64)},
    }
    assert ChannelState(**good).digests == {"1" * 64}
    with pytest.raises(ValueError, match=message):
        ChannelState(**(good | state))


def test_one_prompt_may_not_be_listed_twice_on_a_base():
    with pytest.raises(ValueError, match="none twice"):
        Served(bases={"b" * 64: (Share(prompt="1" * 64), Share(prompt="1" * 64, weight=2))})
