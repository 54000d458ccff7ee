"""Who may call what is exactly what is configured."""

import hashlib
import os
import secrets
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softprompt.errors import InvalidRequest
from softprompt.serving.access import Access


def sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def two(name: str, token: str) -> str:
    return f'{{name: {name}, sha256: "{sha(token)}", prompts: []}}'


def write(path, tokens: dict[str, list[str]], operators=()) -> None:
    lines = ["schema_version: 1", "tokens:" if tokens else "tokens: []"]
    for number, (token, prompts) in enumerate(tokens.items()):
        lines += [f"  - name: holder{number}", f'    sha256: "{sha(token)}"', f"    prompts: {prompts}"]
        lines += ["    operator: true"] if token in operators else []
    path.write_text("\n".join(lines))


def test_fifty_tokens_and_fifty_prompts_each_pair_as_it_is_written(tmp_path):
    draw = __import__("random").Random(5)
    names = [f"prompt-{number}" for number in range(50)]
    tokens = {secrets.token_hex(32): [f'"{name}"' for name in names if draw.random() < 0.3] for _ in range(50)}
    write(tmp_path / "tokens.yaml", {token: "[" + ", ".join(allowed) + "]" for token, allowed in tokens.items()})
    access = Access(tmp_path / "tokens.yaml")
    checked = 0
    for token, allowed in tokens.items():
        caller = access.caller(f"Bearer {token}")
        for name in names:
            assert caller.may_ask(name) == (f'"{name}"' in allowed)
            checked += 1
    assert checked == 2500


@given(st.text("ab*?-", min_size=1, max_size=5), st.text("ab-", min_size=1, max_size=5))
def test_patterns_mean_what_the_shell_means(tmp_path_factory, pattern, name):
    path = tmp_path_factory.mktemp("t") / "tokens.yaml"
    write(path, {"t": f'["{pattern}"]'})
    assert Access(path).caller("Bearer t").may_ask(name) == fnmatchcase(name, pattern)


def test_no_pattern_means_the_bare_base(tmp_path):
    write(tmp_path / "tokens.yaml", {"all": '["*"]', "named": '["base:8b"]'})
    access = Access(tmp_path / "tokens.yaml", base_name="base:8b")
    assert not access.caller("Bearer all").may_ask("base:8b")
    assert access.caller("Bearer all").may_ask("anything")
    assert access.caller("Bearer named").may_ask("base:8b")
    assert not access.caller("Bearer named").may_ask("anything")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic right", "right", "Bearer rightt", "Bearer righ"]
)
def test_nobody_else_is_known(tmp_path, header):
    write(tmp_path / "tokens.yaml", {"right": '["*"]'})
    access = Access(tmp_path / "tokens.yaml")
    assert access.caller(header) is None
    assert access.caller("bearer right").name == "holder0"


def test_the_file_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "tokens.yaml"
    write(path, {"old": '["a"]'})
    access = Access(path)
    write(tmp_path / "new.yaml", {"new": '["b"]'})
    os.replace(tmp_path / "new.yaml", path)
    assert access.caller("Bearer old") is None
    assert access.caller("Bearer new").may_ask("b")


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("tokens: ["), lambda path: path.unlink()], ids=["broken", "gone"])
def test_a_file_that_goes_wrong_while_the_node_runs_locks_nobody_out(tmp_path, spoil):
    path = tmp_path / "tokens.yaml"
    write(path, {"right": '["a"]'})
    access = Access(path)
    spoil(path)
    assert access.caller("Bearer right").may_ask("a")
    assert access.is_broken
    write(path, {"other": '["a"]'})
    assert access.caller("Bearer right") is None
    assert not access.is_broken


@pytest.mark.parametrize(
    "text",
    [
        "schema_version: 2\ntokens: []",
        "schema_version: 1",
        'schema_version: 1\ntokens: [{name: a, sha256: "abc", prompts: []}]',
        f'schema_version: 1\ntokens: [{{name: a, sha256: "{sha("x")}", prompts: ["*"], token: x}}]',
        f"schema_version: 1\ntokens: [{two('a', 'x')}, {two('b', 'x')}]",
        f"schema_version: 1\ntokens: [{two('a', 'x')}, {two('a', 'y')}]",
    ],
)
def test_a_wrong_file_is_refused_at_the_start(tmp_path, text):
    (tmp_path / "tokens.yaml").write_text(text)
    with pytest.raises(InvalidRequest):
        Access(tmp_path / "tokens.yaml")


def test_without_a_file_everybody_may_ask_everything():
    caller = Access(None, base_name="base:8b").caller(None)
    assert caller.may_ask("anything")
    assert caller.may_ask("base:8b")
    assert caller.is_operator
