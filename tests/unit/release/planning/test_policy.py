"""Policies and desired states, read strictly."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt.errors import InvalidRequest
from softprompt.release.planning.policy import (
    LAPTOP_POLICY,
    ChannelPolicy,
    Desired,
    DesiredShare,
    desired_yaml,
    read_desired,
    read_policy,
)

UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])
DIGESTS = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
SHARES = st.lists(
    st.builds(
        DesiredShare,
        prompt=DIGESTS,
        approval=DIGESTS,
        weight=st.integers(1, 10_000),
        model_version=st.text(max_size=20).filter(lambda text: text.isprintable()),
    ),
    min_size=1,
    max_size=2,
).map(tuple)


def write(folder, text, file="_policy.yaml"):
    (folder / "staging").mkdir(exist_ok=True)
    (folder / "staging" / file).write_text(text)
    return folder


def test_the_laptops_policy_lets_the_pipeline_sign(tmp_path):
    policy = read_policy(write(tmp_path, LAPTOP_POLICY), "staging")
    assert policy == ChannelPolicy(schema_version=1, authority="pipeline")
    assert not policy.allow_undecided


def test_every_key_can_be_given(tmp_path):
    text = f"""
schema_version: 1
authority: git
allow_undecided: true
review_required: true
bases: ["{"a" * 64}"]
kinds: [deep]
numerics: [bfloat16]
max_age_days: 30
names: ["team-*"]
gates_required: ["accuracy_*", fairness]
owners: {{"@acme/team": ["team-*"], someone@acme.example: ["team-a"]}}
revoked: ["{"b" * 64}"]
"""
    policy = read_policy(write(tmp_path, text), "staging")
    assert (policy.bases, policy.kinds, policy.max_age_days, policy.revoked) == (
        ("a" * 64,),
        ("deep",),
        30,
        ("b" * 64,),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("authority: git\n", "schema_version: is missing"),
        ("schema_version: 1\n", "authority: is missing"),
        ("schema_version: 2\nauthority: git\n", r"_policy.yaml:1: schema_version"),
        ("schema_version: 1\nauthority: me\n", r"_policy.yaml:2: authority"),
        ("schema_version: 1\nauthority: git\nundecided: true\n", r"_policy.yaml:3: undecided: unknown key"),
        ("schema_version: 1\nauthority: git\nallow_undecided: 'yes'\n", r"_policy.yaml:3: allow_undecided"),
        ("schema_version: 1\nauthority: git\nrevoked:\n- short\n", r"_policy.yaml:4: revoked.0"),
        ("schema_version: 1\nauthority: git\nmax_age_days: .nan\n", "max_age_days|JSON"),
        ("schema_version: 1\nauthority: git\nauthority: pipeline\n", r"not valid YAML|duplicate"),
        ("schema_version: 1\nauthority: &a git\nnames: [*a]\n", "aliases"),
        ("- a list\n", "mapping"),
        ("", "mapping"),
        ("schema_version: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        read_policy(write(tmp_path, text), "staging")
    assert "_policy.yaml" in str(caught.value)
    assert "ecipe" not in str(caught.value)


def test_every_problem_is_named_at_once(tmp_path):
    with pytest.raises(InvalidRequest) as caught:
        read_policy(write(tmp_path, "schema_version: 1\nauthority: me\nmore: 1\n"), "staging")
    assert "authority" in str(caught.value)
    assert "more" in str(caught.value)


@UNHURRIED
@given(
    st.one_of(
        st.just(Desired(schema_version=1, removed=True)),
        st.builds(
            Desired,
            schema_version=st.just(1),
            bases=st.dictionaries(DIGESTS, SHARES, min_size=1, max_size=2),
            shadow=st.one_of(st.just(()), SHARES),
            pinned=st.booleans(),
            pinnable=st.one_of(st.just(()), SHARES),
        ),
    )
)
def test_what_is_proposed_reads_back(tmp_path_factory, desired):
    folder = write(tmp_path_factory.mktemp("environments"), desired_yaml(desired), "greeting.yaml")
    assert read_desired(folder, "staging") == {"greeting": desired}


def test_digests_that_look_like_numbers_read_back(tmp_path):
    share = DesiredShare(prompt="1" * 64, approval="12e4" * 16)
    desired = Desired(schema_version=1, bases={"0" * 64: (share,)})
    assert read_desired(write(tmp_path, desired_yaml(desired), "greeting.yaml"), "staging")["greeting"] == desired


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema_version: 1\n", "at least one base model"),
        (f'schema_version: 1\nremoved: true\nbases: {{"{"a" * 64}": []}}\n', "at least one base model"),
        (
            f'schema_version: 1\nbases:\n  "{"a" * 64}":\n  - prompt: "{"b" * 64}"\n',
            r"greeting.yaml:4: .*approval: is missing",
        ),
    ],
)
def test_a_desired_state_that_says_nothing_is_refused(tmp_path, text, message):
    with pytest.raises(InvalidRequest, match=message):
        read_desired(write(tmp_path, text, "greeting.yaml"), "staging")


@pytest.mark.parametrize("file", ["Greeting.yaml", "greeting.yml", "notes.txt", "_other.yaml"])
def test_files_of_other_kinds_are_refused(tmp_path, file):
    with pytest.raises(InvalidRequest, match="holds something else"):
        read_desired(write(tmp_path, "schema_version: 1\nremoved: true\n", file), "staging")
