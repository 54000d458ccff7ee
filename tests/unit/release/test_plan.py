"""Plans, without any store: what changes, what stays, and what each rule of a policy refuses."""

import pytest

from softprompt.release.plan import Change, PromptFacts, plan_changes
from softprompt.release.policy import ChannelPolicy
from softprompt.release.statement import Approval, ChannelState, Served, Share

BASE, OTHER_BASE = "b" * 64, "c" * 64
NOW = 1_800_000_000.0


def fact(digest, **changes):
    given = {"prompt": digest, "verdict": "passed", "numerics": "float32", "model_version": "", "evidence": {}}
    approval = Approval(**(given | {key: value for key, value in changes.items() if key in Approval.model_fields}))
    return PromptFacts(digest, changes.get("kind", "shallow"), changes.get("base", BASE), approval, changes.get("review", ""))


def plan(changes, facts=(), state=None, policy=None, lately=()):
    return plan_changes(
        state or ChannelState(numerics=("bfloat16", "float32")),
        changes,
        {one.digest: one for one in facts},
        ChannelPolicy(schema_version=1, authority="git", **(policy or {})),
        now=NOW,
        served_lately=frozenset(lately),
    )


def served(*digests, base=BASE, **more):
    return Served(bases={base: tuple(Share(prompt=digest) for digest in digests)}, **more)


def state_with(**names):
    digests = {digest for one in names.values() for digest in one.digests}
    return ChannelState(
        prompts=names, approvals={digest: fact(digest).approval for digest in digests}, numerics=("bfloat16", "float32")
    )


A, B, C = "1" * 64, "2" * 64, "3" * 64


def test_nothing_to_do():
    state = state_with(greeting=served(A))
    assert plan([], state=state).outcome == "unchanged"
    assert plan([Change("greeting", served(A))], [fact(A)], state=state).outcome == "unchanged"
    assert plan([Change("absent", None)], state=state).outcome == "unchanged"


def test_a_new_name_is_added_and_others_stay():
    planned = plan([Change("farewell", served(B))], [fact(B)], state=state_with(greeting=served(A)))
    assert planned.outcome == "change"
    assert planned.state == state_with(greeting=served(A), farewell=served(B))
    assert planned.differences == (f"farewell: (nothing) -> base {BASE[:12]}: {B[:12]} (weight 1)",)


def test_approvals_of_what_is_not_served_any_more_go():
    planned = plan([Change("greeting", served(B))], [fact(B)], state=state_with(greeting=served(A)))
    assert planned.state.approvals.keys() == {B}


def test_a_policys_numerics_and_revocations_become_the_channels():
    planned = plan([], state=state_with(greeting=served(A)), policy={"numerics": ("float32",), "revoked": (C,)})
    assert (planned.state.numerics, planned.state.revoked) == (("float32",), (C,))
    assert len(planned.differences) == 2


def test_everything_that_changes_is_shown():
    new = served(A, B, shadow=(C,), pinned=True)
    (line,) = plan([Change("greeting", new)], map(fact, (A, B, C)), state=state_with(greeting=served(A))).differences
    assert line.endswith(f"{A[:12]} (weight 1), {B[:12]} (weight 1); shadow: {C[:12]}; pinned")


@pytest.mark.parametrize(
    ("policy", "change", "reason"),
    [
        ({}, {"verdict": "rejected"}, "rejected"),
        ({"allow_undecided": True}, {"verdict": "rejected"}, "rejected"),
        ({}, {"verdict": "undecided"}, "undecided"),
        ({"bases": (OTHER_BASE,)}, {}, "does not allow"),
        ({"kinds": ("deep",)}, {}, "shallow prompt"),
        ({"numerics": ("bfloat16",)}, {}, "float32"),
        ({"review_required": True}, {}, "not reviewed"),
        ({"max_age_days": 1}, {}, "does not say when"),
        ({"max_age_days": 1}, {"evaluated": "2027-01-14T07:59:59Z"}, "evidence of 1 days"),
        ({"names": ("team-*",)}, {}, "only names like"),
        ({"revoked": (A,)}, {}, "revoked"),
        ({}, {"base": OTHER_BASE}, "was trained on base"),
    ],
)
def test_each_rule_refuses_and_nothing_changes(policy, change, reason):
    planned = plan([Change("greeting", served(A))], [fact(A, **change)], policy=policy)
    assert planned.outcome == "refused"
    assert any(reason in one for one in planned.reasons)
    assert planned.state == ChannelState(numerics=("bfloat16", "float32"))


@pytest.mark.parametrize(
    ("policy", "change"),
    [
        ({"allow_undecided": True}, {"verdict": "undecided"}),
        ({"bases": (BASE,)}, {}),
        ({"kinds": ("shallow",)}, {}),
        ({"numerics": ("float32",)}, {}),
        ({"review_required": True}, {"review": "approved"}),
        ({"max_age_days": 1}, {"evaluated": "2027-01-14T08:00:00Z"}),
        ({"names": ("greet*",)}, {}),
        ({"revoked": (B,)}, {}),
    ],
)
def test_each_rule_allows_what_keeps_it(policy, change):
    assert plan([Change("greeting", served(A))], [fact(A, **change)], policy=policy).outcome == "change"


def test_shadow_and_pinnable_prompts_keep_the_rules_too():
    for more in ({"shadow": (B,)}, {"pinnable": (B,)}):
        planned = plan([Change("greeting", served(A, **more))], [fact(A), fact(B, verdict="rejected")])
        assert planned.outcome == "refused"


def test_coming_back_needs_no_review_and_no_youth_but_everything_else():
    policy = {"max_age_days": 1, "review_required": True}
    assert plan([Change("greeting", served(A))], [fact(A)], policy=policy, lately=[A]).outcome == "change"
    for stricter in ({"revoked": (A,)}, {"bases": (OTHER_BASE,)}):
        assert plan([Change("greeting", served(A))], [fact(A)], policy=policy | stricter, lately=[A]).outcome == "refused"
    assert plan([Change("greeting", served(A))], [fact(A, verdict="rejected")], policy=policy, lately=[A]).outcome == "refused"


def test_every_reason_is_given_at_once():
    facts = [fact(A, verdict="rejected", numerics="bfloat16"), fact(B, verdict="undecided")]
    planned = plan([Change("greeting", served(A)), Change("farewell", served(B))], facts, policy={"numerics": ("float32",)})
    assert len(planned.reasons) == 3
