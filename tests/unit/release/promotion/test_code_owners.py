"""Who has to approve a file, as GitHub documents it."""

import pytest

from softprompt.errors import InvalidRequest
from softprompt.release.promotion.code_owners import PLACES, file_owners

# The examples of https://docs.github.com/repositories/.../about-code-owners, in their order there.
DOCUMENTED = """
*       @global-owner1 @global-owner2
*.js    @js-owner #This is an inline comment.
*.go docs@example.com
*.txt @octo-org/octocats
/build/logs/ @doctocat
docs/* docs@example.com
apps/ @octocat
/docs/ @doctocat
/scripts/ @doctocat @octocat
**/logs @octocat
/apps/ @octocat
/apps/github
"""


def owners(tmp_path, text, file, place="CODEOWNERS"):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(text)
    return file_owners(tmp_path, file)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("README.md", ("@global-owner1", "@global-owner2")),
        ("src/deep/app.js", ("@js-owner",)),
        ("main.go", ("docs@example.com",)),
        ("build/logs/today/x", ("@octocat",)),
        ("build/other", ("@global-owner1", "@global-owner2")),
        ("docs/getting-started.md", ("@doctocat",)),
        ("docs/build-app/troubleshooting.md", ("@doctocat",)),
        ("other/docs/a.md", ("@global-owner1", "@global-owner2")),
        ("scripts/a/b.sh", ("@doctocat", "@octocat")),
        ("deeply/nested/logs", ("@octocat",)),
        ("deeply/nested/logs/a", ("@octocat",)),
        ("apps/other/a", ("@octocat",)),
        ("apps/github/a", ()),
    ],
)
def test_the_documented_examples(tmp_path, file, expected):
    assert owners(tmp_path, DOCUMENTED, file) == expected


def test_a_pattern_without_slash_fits_anywhere_and_one_with_slash_only_there(tmp_path):
    assert owners(tmp_path, "greeting.yaml @a", "environments/staging/greeting.yaml") == ("@a",)
    assert owners(tmp_path, "staging/greeting.yaml @a", "environments/staging/greeting.yaml") == ()
    assert owners(tmp_path, "/environments/*/team-*.yaml @a", "environments/staging/team-x.yaml") == ("@a",)
    assert owners(tmp_path, "/environments/*/team-*.yaml @a", "environments/staging/other/team-x.yaml") == ()


def test_the_first_place_that_has_one_counts(tmp_path):
    for place in reversed(PLACES):
        assert owners(tmp_path, f"* @{place}", "a", place) == (f"@{place}",)


def test_without_a_file_nobody_owns_anything(tmp_path):
    assert file_owners(tmp_path, "a") == ()


@pytest.mark.parametrize("line", ["!a @b", "[Section] @b", "^[Optional] @b", "\\#a @b"])
def test_what_is_not_read_is_refused_by_line(tmp_path, line):
    with pytest.raises(InvalidRequest, match="CODEOWNERS:2"):
        owners(tmp_path, f"* @a\n{line}\n", "a")
