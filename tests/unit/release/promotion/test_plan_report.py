"""Plans for people and programs: what a comment on a pull request says, and what it must not do."""

import pytest

from softprompt.errors import InvalidRequest
from softprompt.release.planning.plan import Plan
from softprompt.release.promotion.plan_report import (
    COMMENT_MARK,
    MOST_COMMENT_CHARACTERS,
    ChannelPlan,
    PlanReport,
    plan_lines,
    plan_markdown,
)
from softprompt.release.statement import Approval, ChannelState, Generation, Served, Share

BASE, A, B, C = (digit * 64 for digit in "b123")


def approval(digest, version):
    return Approval(prompt=digest, verdict="passed", numerics="float32", model_version=version, evidence={})


def state(**names):
    digests = {digest for served in names.values() for digest in served.digests}
    versions = {A: "1", B: "2", C: "3|<b>"}
    return ChannelState(prompts=names, approvals={digest: approval(digest, versions[digest]) for digest in digests})


def served(*shares, **more):
    return Served(bases={BASE: tuple(Share(prompt=digest, weight=weight) for digest, weight in shares)}, **more)


def plan_of(before, after, **more):
    head = Generation(
        channel="staging", channel_id="0" * 32, generation=1, state=before, publish_id="1" * 32,
        created="2026-11-21T14:00:00Z", expires="2026-11-28T14:00:00Z", previous="",
    )  # fmt: skip
    given = {"outcome": "change", "state": after}
    return ChannelPlan.of("staging", "c" * 40, head, Plan(**(given | more)))


def markdown(*plans):
    return plan_markdown(PlanReport(channels=plans))


BEFORE = state(stays=served((A, 1)), goes=served((A, 1)), moves=served((A, 1)))
AFTER = state(stays=served((A, 1)), comes=served((B, 1), pinned=True), moves=served((A, 90), (C, 10), shadow=(B,)))


def test_changes_are_listed_by_what_happens_to_each_name():
    plan = plan_of(BEFORE, AFTER)
    assert {change.name: change.action for change in plan.changes} == {"comes": "add", "goes": "remove", "moves": "change"}
    assert plan.changes[2].versions == {A: "1", B: "2", C: "3|<b>"}
    again = ChannelState(prompts=BEFORE.prompts, approvals={A: approval(A, "7")})
    assert {change.action for change in plan_of(BEFORE, again).changes} == {"evidence"}
    assert plan_of(BEFORE, BEFORE, outcome="refused").changes == ()


def test_the_comment_says_versions_digests_and_parts_of_the_requests():
    rows = [line for line in markdown(plan_of(BEFORE, AFTER)).splitlines() if line.startswith("| `")]
    one, two = f"version 1 (`{A[:12]}`)", f"version 2 (`{B[:12]}`)"
    three = f"version 3\\|\\<b\\> (`{C[:12]}`)"
    base = f"base `{BASE[:12]}`"
    assert rows == [
        f"| `comes` | nothing | {base}: {two}<br>pinned |",
        f"| `goes` | {base}: {one} | nothing |",
        f"| `moves` | {base}: {one} | {base}: {one} 90 %, {three} 10 %<br>shadow: {two} |",
    ]


def test_the_comment_calls_nobody_and_shows_no_markup_of_others():
    text = markdown(plan_of(BEFORE, BEFORE, outcome="refused", reasons=("@acme/team <img src=x> [a](b)\n# heading",)))
    assert "@acme" not in text
    assert "\\<img src=x\\> \\[a\\](b) \\# heading" in text
    assert "\n# heading" not in text


def test_a_comment_that_is_too_long_is_cut_and_says_so():
    text = markdown(plan_of(BEFORE, BEFORE, outcome="refused", reasons=tuple(f"reason {n} " + "x" * 100 for n in range(1000))))
    assert len(text) < MOST_COMMENT_CHARACTERS + 200
    assert text.endswith("*Cut off; the job's log has all of it.*\n")


def test_nothing_to_do_is_a_comment_too():
    assert markdown() == f"{COMMENT_MARK}\n## softprompt: what merging this would do\n\nNo channel changes.\n"


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["unchanged"], 0),
        (["unchanged", "change"], 10),
        (["change", "refused"], 11),
        (["refused", "unchanged"], 11),
    ],
)
def test_the_exit_code_is_that_of_the_worst(outcomes, code):
    report = PlanReport(channels=tuple(plan_of(BEFORE, BEFORE, outcome=outcome) for outcome in outcomes))
    assert (report.exit_code, report.error_code) == (code, 0)


def test_a_channel_that_cannot_be_planned_says_why_and_keeps_its_errors_code():
    failed = ChannelPlan.failure("staging", InvalidRequest("It is wrong.", where="greeting.yaml:3"))
    report = PlanReport(channels=(plan_of(BEFORE, AFTER), failed))
    assert (report.exit_code, report.error_code) == (11, 2)
    assert "greeting.yaml:3" in markdown(failed)
    assert PlanReport.from_bytes(report.to_bytes(), source="x") == report


def test_lines_for_a_terminal_are_marked_by_kind():
    lines = list(
        plan_lines(plan_of(BEFORE, AFTER, differences=("comes: x", "goes: y", "moves: z", "revoked: 0 -> 1"), warnings=("w",)))
    )
    assert [kind for kind, _ in lines] == ["title", "+", "-", "~", "~", "warning"]
    assert lines[0][1] == f"staging: would change, from generation 1 to commit {'c' * 12}"
