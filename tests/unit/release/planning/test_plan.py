"""Plans, without any store: what changes, what stays, and what each rule of a policy refuses."""

import pytest

from softprompt.release.planning.facts import Change, Gate, GateFacts, PromptFacts
from softprompt.release.planning.plan import plan_changes
from softprompt.release.planning.policy import ChannelPolicy
from softprompt.release.statement import Approval, ChannelState, Served, Share

BASE, OTHER_BASE = "b" * 64, "c" * 64
NOW = 1_800_000_000.0


def fact(digest, **changes):
    given = {"prompt": digest, "verdict": "passed", "numerics": "float32", "model_version": "", "evidence": {}}
    approval = Approval(**(given | {key: value for key, value in changes.items() if key in Approval.model_fields}))
    gates = tuple(Gate(name, kind, status) for name, kind, status in changes.get("gates", ()))
    evaluation = GateFacts(gates, changes.get("champion", "")) if {"gates", "champion"} & changes.keys() else None
    kind, base, review = changes.get("kind", "shallow"), changes.get("base", BASE), changes.get("review", "")
    return PromptFacts(digest, kind, base, approval, review, evaluation)


def plan(changes, facts=(), state=None, policy=None, lately=()):
    return plan_changes(
        state or ChannelState(numerics=("bfloat16", "float32")),
        changes,
        {one.digest: one for one in facts},
        ChannelPolicy(schema_version=1, authority="git", **(policy or {})),
        now=NOW,
        served_lately=lambda: frozenset(lately),
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
        ({"owners": {"@acme/other": ("other-*",)}}, {}, "lets nobody have this name"),
        ({"gates_required": ("accuracy_*",)}, {}, "has no gate accuracy_*"),
        ({"gates_required": ("accuracy_*",)}, {"gates": [("must_pass", "must_pass", "passed")]}, "has no gate accuracy_*"),
        (
            {"gates_required": ("fairness",)},
            {"gates": [("gap", "fairness", "undecided")]},
            "did not pass the gate gap (undecided)",
        ),
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
        ({"owners": {"@acme/other": ("other-*",), "@acme/greeters": ("greet*",)}}, {}),
        ({"gates_required": ("accuracy_*",)}, {"gates": [("accuracy_at_least_0.8", "metric", "passed")]}),
        ({"gates_required": ("fairness",)}, {"gates": [("gap", "fairness", "passed"), ("x", "metric", "rejected")]}),
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
    policy |= {"gates_required": ("fairness",)}
    assert plan([Change("greeting", served(A))], [fact(A)], policy=policy, lately=[A]).outcome == "change"
    assert plan([Change("greeting", served(A))], [fact(A, verdict="undecided")], policy=policy, lately=[A]).outcome == "change"
    for stricter in ({"revoked": (A,)}, {"bases": (OTHER_BASE,)}):
        assert plan([Change("greeting", served(A))], [fact(A)], policy=policy | stricter, lately=[A]).outcome == "refused"
    assert plan([Change("greeting", served(A))], [fact(A, verdict="rejected")], policy=policy, lately=[A]).outcome == "refused"


def test_every_reason_is_given_at_once():
    facts = [fact(A, verdict="rejected", numerics="bfloat16"), fact(B, verdict="undecided")]
    planned = plan([Change("greeting", served(A)), Change("farewell", served(B))], facts, policy={"numerics": ("float32",)})
    assert len(planned.reasons) == 3


@pytest.mark.parametrize(
    ("in_file", "reason"),
    [(("@acme/greeters",), ""), (("@acme/others",), "CODEOWNERS lets @acme/others approve"), ((), "CODEOWNERS lets nobody")],
)
def test_the_files_owners_have_to_be_the_policys(in_file, reason):
    policy = {"owners": {"@acme/greeters": ("greet*",), "@acme/others": ("other-*",)}}
    planned = plan([Change("greeting", served(A), in_file)], [fact(A)], policy=policy)
    assert planned.outcome == ("refused" if reason else "change")
    assert reason in "".join(planned.reasons)


def test_history_is_read_only_where_it_decides():
    asked = []

    def lately():
        asked.append(True)
        return frozenset([A])

    policy = ChannelPolicy(schema_version=1, authority="git", review_required=True)
    changes = [Change("greeting", served(A))]
    state = state_with(greeting=served(A))
    for facts, expected in (({A: fact(A, review="approved")}, 0), ({A: fact(A)}, 1)):
        plan_changes(ChannelState(), changes, facts, policy, now=NOW, served_lately=lately)
        assert len(asked) == expected
    plan_changes(state, changes, {A: fact(A)}, policy, now=NOW, served_lately=lately)
    assert len(asked) == 1, "what is served now needs no history"


def warnings(*changes, facts, state=None, policy=None):
    planned = plan(changes, facts, state=state, policy=policy)
    assert planned.outcome in ("change", "unchanged")
    return planned.warnings


FRESH = {"evaluated": "2027-01-15T07:00:00Z"}


def test_a_champion_that_changed_since_the_evaluation_is_told():
    state = state_with(greeting=served(B))
    new = Change("greeting", served(A))
    (line,) = warnings(new, facts=[fact(A, champion=C, **FRESH)], state=state)
    assert line.startswith(f"greeting: {A[:12]} was compared with {C[:12]}; the channel serves {B[:12]} now")
    (line,) = warnings(new, facts=[fact(A, champion="", **FRESH)], state=state)
    assert "compared with no champion" in line
    assert not warnings(new, facts=[fact(A, champion=B, **FRESH)], state=state)
    assert not warnings(new, facts=[fact(A, **FRESH)], state=state), "no report says anything"
    canary = Change("greeting", Served(bases={BASE: (Share(prompt=B, weight=90), Share(prompt=A, weight=10))}))
    assert not warnings(canary, facts=[fact(A, champion=B, **FRESH), fact(B, champion=C, **FRESH)], state=state)


def test_the_champion_is_the_one_on_the_same_base():
    state = state_with(greeting=Served(bases={BASE: (Share(prompt=B),), OTHER_BASE: (Share(prompt=C),)}))
    new = Change("greeting", Served(bases={BASE: (Share(prompt=A),), OTHER_BASE: (Share(prompt=C),)}))
    assert not warnings(new, facts=[fact(A, champion=B, **FRESH)], state=state)


def test_names_that_a_base_lacks_are_listed():
    state = state_with(farewell=served(B))
    new = Change("greeting", served(A, base=OTHER_BASE))
    assert warnings(new, facts=[fact(A, base=OTHER_BASE, **FRESH)], state=state) == (
        f"base {BASE[:12]} has no prompt for greeting",
        f"base {OTHER_BASE[:12]} has no prompt for farewell",
    )
    fleet = {"bases": (BASE, OTHER_BASE)}
    (line,) = warnings(Change("farewell", served(B)), facts=[fact(B)], state=state, policy=fleet)
    assert line == f"base {OTHER_BASE[:12]} has no prompt for farewell"
    many = state_with(**{f"n{number}": served(f"{number:064x}") for number in range(20)})
    (line,) = warnings(facts=[], state=many, policy=fleet)
    assert line.endswith("n15 and 12 more")


@pytest.mark.parametrize(
    ("policy", "change", "text"),
    [
        ({}, {"evaluated": "2026-12-01T00:00:00Z"}, "was evaluated 45 days ago"),
        ({"max_age_days": 60}, {"evaluated": "2026-12-01T00:00:00Z"}, "45 days ago"),
        ({}, {}, "does not say when"),
        ({"allow_undecided": True}, FRESH | {"verdict": "undecided"}, "left undecided"),
    ],
)
def test_weak_evidence_is_told(policy, change, text):
    (line,) = warnings(Change("greeting", served(A)), facts=[fact(A, **change)], policy=policy)
    assert text in line


def test_a_weight_of_a_prompt_alone_and_a_shadow_on_no_base_are_told():
    alone = Change("greeting", Served(bases={BASE: (Share(prompt=A, weight=10),)}))
    (line,) = warnings(alone, facts=[fact(A, **FRESH)])
    assert "is alone on base" in line
    shadow = Change("greeting", served(A, shadow=(B,)))
    (line,) = warnings(shadow, facts=[fact(A, **FRESH), fact(B, base=OTHER_BASE, **FRESH)])
    assert "no node will load it" in line


def test_what_does_not_change_is_not_warned_about():
    state = state_with(greeting=served(A))
    assert not warnings(Change("greeting", served(A)), facts=[fact(A, champion=C)], state=state)
