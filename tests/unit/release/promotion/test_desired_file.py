"""Edits of a name's file: exactly the lines that have to change, read back by an independent YAML parser."""

import difflib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from softprompt.errors import InvalidRequest
from softprompt.release.planning.policy import DesiredShare
from softprompt.release.promotion.desired_file import Edit, edit_desired, remove_desired

BASE, OTHER = "b" * 64, "c" * 64
A, B, C, D = (digit * 64 for digit in "1234")

FILE = f"""\
# Owned by the support team; ask in #support before you touch it.
schema_version: 1

bases:
  # The 8 B model.
  "{BASE}":
    - prompt: "{A}"  # since March
      approval: "{B}"
      model_version: "3"
  "{OTHER}":
    - prompt: "{C}"
      approval: "{D}"

# Warm, since it is asked all day.
pinned: true
"""


def share(prompt=D, version="4"):
    return DesiredShare(prompt=prompt, approval="e" * 64, model_version=version)


def edit(text=FILE, **changes):
    given = {"share": share(), "base": BASE}
    return edit_desired(text, Edit(**(given | changes)), source="greeting.yaml")


def changed(before, after):
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_a_new_version_changes_three_lines_and_no_comment():
    lines = changed(FILE, edit())
    assert [line for line in lines if line[0] == "-"] == [
        f'-     - prompt: "{A}"  # since March',
        f'-       approval: "{B}"',
        '-       model_version: "3"',
    ]
    assert [line for line in lines if line[0] == "+"] == [
        f'+     - prompt: "{D}"  # since March',
        f'+       approval: "{"e" * 64}"',
        '+       model_version: "4"',
    ]


def test_the_same_again_changes_nothing():
    once = edit()
    assert edit(once) == once


def test_a_canary_is_added_beside_and_its_end_takes_the_other_away():
    canary = edit(role="canary", percent=10)
    shares = yaml.safe_load(canary)["bases"][BASE]
    assert [(one["prompt"], one["weight"]) for one in shares] == [(A, 90), (D, 10)]
    assert "# since March" in canary
    more = yaml.safe_load(edit(canary, role="canary", percent=50))["bases"][BASE]
    assert [(one["prompt"], one["weight"]) for one in more] == [(A, 50), (D, 50)]
    ended = edit(canary)
    assert yaml.safe_load(ended)["bases"][BASE] == [{"prompt": D, "approval": "e" * 64, "model_version": "4"}]
    back = edit(canary, share=DesiredShare(prompt=A, approval=B, model_version="3"))
    assert yaml.safe_load(back) == yaml.safe_load(FILE)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(1, 99))
def test_a_canary_gets_its_part_and_the_others_keep_their_proportions(weights, percent):
    entries = [f'{{prompt: "{number:064x}", approval: "{B}", weight: {weight}}}' for number, weight in enumerate(weights)]
    text = f'schema_version: 1\nbases: {{"{BASE}": [{", ".join(entries)}]}}\n'
    shares = yaml.safe_load(edit(text, role="canary", percent=percent))["bases"][BASE]
    *others, mine = [one.get("weight", 1) for one in shares]
    assert mine * 100 == percent * (sum(others) + mine)
    assert all(one * weights[0] == others[0] * weight for one, weight in zip(others, weights, strict=True))


def test_a_shadow_sees_and_a_promoted_shadow_is_none_any_more():
    shadow = edit(role="shadow")
    assert yaml.safe_load(shadow)["shadow"] == [{"prompt": D, "approval": "e" * 64, "model_version": "4"}]
    assert yaml.safe_load(shadow)["bases"] == yaml.safe_load(FILE)["bases"]
    assert "shadow" not in yaml.safe_load(edit(shadow))


def test_removing_keeps_the_comment_at_the_top_and_coming_back_is_a_new_file_with_it():
    removed = remove_desired(FILE, source="x")
    assert yaml.safe_load(removed) == {"schema_version": 1, "removed": True}
    assert removed.startswith("# Owned by the support team")
    again = edit(removed)
    assert yaml.safe_load(again) == {
        "schema_version": 1,
        "bases": {BASE: [{"prompt": D, "approval": "e" * 64, "model_version": "4"}]},
    }
    assert again.startswith("# Owned by the support team")


def test_a_name_without_a_file_gets_one():
    assert yaml.safe_load(edit("", pinned=True))["pinned"] is True
    assert yaml.safe_load(remove_desired("", source="x"))["removed"] is True


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("", {"role": "canary", "percent": 10}, "needs a prompt beside it"),
        ("", {"role": "shadow"}, "needs a prompt beside it"),
        (FILE, {"role": "canary", "percent": 10, "base": "d" * 64}, "needs a prompt beside it"),
        (FILE, {"role": "canary", "percent": 10, "share": share(A)}, "needs a prompt beside it"),
        (FILE, {"role": "shadow", "share": share(A)}, "its own shadow"),
        ("schema_version: 1\nbasis: {}\n", {}, "basis"),
    ],
)
def test_what_makes_no_sense_is_refused(text, changes, message):
    with pytest.raises(InvalidRequest, match=message):
        edit(text, **changes)


@pytest.mark.parametrize(
    "text",
    [
        f"schema_version: 1\nbases:\n    '{BASE}':\n    -   prompt: '{A}'\n        approval: {'a' * 64}\n",
        f"---\nschema_version: 1\nbases:\n  {BASE}:\n  - {{approval: {'f' * 64}, prompt: {'a' * 64}}}   # one line\n",
        f'schema_version: 1\nbases: {{"{BASE}": [{{prompt: "{A}", approval: "{B}"}}]}}\n',
    ],
    ids=["four spaces, single quotes", "no quotes, dash at the key", "one line"],
)
def test_other_peoples_style_stays(text):
    lines = changed(text, edit(text, pinned=True))
    assert [line for line in lines if line.startswith("+ pinned")] == ["+ pinned: true"]
    assert len(lines) <= 6
    assert yaml.safe_load(edit(text))["bases"] == {BASE: [{"prompt": D, "approval": "e" * 64, "model_version": "4"}]}
