"""A prompt's way to a channel and back, by the commands that people run: real Git, real S3, a real MLflow."""

import json

from softprompt.registry_release import review_lookup
from tests.promotion import GIT_POLICY, a_prompt


def propose_and_merge(place, version, *options):
    place.run("propose", "greeting", version, "--channel", "staging", "--repository", place.repository, *options)
    branch = place.git("for-each-ref", "--sort=-committerdate", "--format=%(refname:short)", "--count=1", "refs/heads/promote")
    commit = place.merge_to_main(branch)
    place.git("branch", "-q", "-D", branch)
    return commit


def apply(place, code=0, environments=None):
    return place.run("apply", "--channel", "staging", "--environments", environments or place.environments, code=code)


def test_to_production_and_back(place, tmp_path):
    first, second = a_prompt(1), a_prompt(2)
    one = place.register(1)
    commit = propose_and_merge(place, one)
    plan = place.run("plan", "--environments", place.environments, "--detailed-exitcode", code=10)
    assert "staging: would change, from generation 1" in plan.output
    result = apply(place)
    assert "published: staging generation 2" in result.output
    assert (place.serves(), place.head().git_commit) == ([(first.digest, 1)], commit)
    assert place.aliases() == {"staging": one}
    plan = place.run("plan", "--environments", place.environments, "--detailed-exitcode")
    assert plan.output == f"staging: nothing to do, from generation 2 to commit {commit[:12]}\n"

    # The second version, in a "pull request": the plan runs on the branch, compared with main.
    two = place.register(2)
    place.run("propose", "greeting", two, "--channel", "staging", "--repository", place.repository)
    place.git("checkout", "-q", f"promote/staging/greeting-{two}")
    files = {"json": tmp_path / "plan.json", "markdown": tmp_path / "plan.md"}
    options = ["--since", "origin/main", "--json", files["json"], "--markdown", files["markdown"], "--detailed-exitcode"]
    place.run("plan", "--environments", place.environments, *options, code=10)
    (found,) = json.loads(files["json"].read_text())["channels"]
    assert (found["outcome"], found["changes"][0]["action"], found["warnings"]) == ("change", "change", [])
    comment = files["markdown"].read_text()
    assert f"| `greeting` | base `{'ba5e' * 3}`: version {one} (`{first.digest[:12]}`) " in comment
    assert f"version {two} (`{second.digest[:12]}`) |" in comment
    place.git("checkout", "-q", "main")
    place.merge_to_main(f"promote/staging/greeting-{two}")
    apply(place)
    assert (place.serves(), place.aliases()) == ([(second.digest, 1)], {"staging": two})

    # Back: a new generation that names the old digest, though the policy has become strict meanwhile.
    place.write("staging/_policy", GIT_POLICY + "review_required: true\nmax_age_days: 1\ngates_required: [fairness]\n")
    place.merge_to_main()
    place.git("revert", "--no-edit", "-m", "1", "HEAD~1")
    place.git("push", "-q", "origin", "main")
    result = apply(place)
    assert place.head().generation == 4
    assert (place.serves(), place.aliases()) == ([(first.digest, 1)], {"staging": one})
    assert "published: staging generation 4" in result.output


def test_what_is_not_reviewed_is_refused_until_it_is(place):
    from softprompt.tracking import mlflow_client

    place.write("staging/_policy", GIT_POLICY + "review_required: true\n")
    place.merge_to_main()
    version = place.register(1, review="pending")
    propose_and_merge(place, version)
    plan = place.run("plan", "--environments", place.environments, "--detailed-exitcode", code=11)
    assert "refused: greeting: " in plan.output
    assert "review.status is pending, not approved" in plan.output
    assert "stays at generation 1" in apply(place, code=11).output
    mlflow_client(place.settings.tracking_uri).set_model_version_tag("greeting", version, "review.status", "approved")
    lookup = review_lookup(place.settings.tracking_uri)
    assert [lookup("greeting", version, a_prompt(seed).digest) for seed in (1, 2)] == ["approved", ""], "of this very prompt"
    assert lookup("greeting", "99", a_prompt(1).digest) == ""
    apply(place)
    assert place.serves() == [(a_prompt(1).digest, 1)]


def test_an_approved_version_of_another_prompt_vouches_for_nothing(place):
    """The tag of version 1 is about the prompt of version 1, whatever a file writes beside the digest of another one."""
    place.write("staging/_policy", GIT_POLICY + "review_required: true\n")
    place.merge_to_main()
    good, bad = place.register(1), place.register(2, review="pending")
    propose_and_merge(place, bad)
    text = (place.environments / "staging" / "greeting.yaml").read_text()
    place.write("staging/greeting", text.replace(f'model_version: "{bad}"', f'model_version: "{good}"'))
    place.merge_to_main()
    assert "not the one of this prompt and version" in apply(place, code=5).output


def test_a_truncated_checkout_unpublishes_nothing_and_removed_does(place):
    version = place.register(1)
    propose_and_merge(place, version)
    apply(place)
    (place.environments / "staging" / "greeting.yaml").unlink()
    place.merge_to_main()
    result = apply(place)
    assert "greeting: is served and has no file here; it stays" in result.stderr
    assert place.serves() == [(a_prompt(1).digest, 1)]
    place.git("revert", "--no-edit", "HEAD")
    place.git("push", "-q", "origin", "main")
    place.run("propose", "greeting", "--remove", "--channel", "staging", "--repository", place.repository)
    place.merge_to_main("promote/staging/greeting-remove")
    apply(place)
    assert (place.serves(), place.aliases()) == ([], {})


def test_late_shallow_and_dirty_applies_are_refused_in_words(place, tmp_path):
    old = propose_and_merge(place, place.register(1))
    propose_and_merge(place, place.register(2))
    apply(place)
    late = tmp_path / "late"
    place.git("clone", "-q", f"file://{place.remote}", str(late))
    place.git("checkout", "-q", old, folder=late)
    assert "commit that this checkout does not follow" in apply(place, code=2, environments=late / "environments").output
    shallow = tmp_path / "shallow"
    place.git("clone", "-q", "--depth", "1", f"file://{place.remote}", str(shallow))
    assert "shallow clone" in apply(place, code=2, environments=shallow / "environments").output
    place.write("staging/greeting", "schema_version: 1\nremoved: true\n")
    assert "in no commit" in apply(place, code=2).output
    assert place.head().generation == 2


def test_an_alias_that_could_not_be_set_fails_nothing_and_is_mended(place):
    propose_and_merge(place, place.register(1))
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    working = dict(place.environment)
    place.environment |= away
    result = apply(place)
    assert "published: staging generation 2" in result.output
    assert "alias staging not set: The MLflow tracking server does not answer." in result.stderr
    place.environment = working
    assert place.aliases() == {}
    assert "unchanged" in apply(place).output
    assert place.aliases() == {"staging": "1"}


def test_without_a_registry_what_needs_no_review_is_published_in_silence(place, tmp_path):
    here, nowhere = dict(place.environment), {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db"}
    propose_and_merge(place, place.register(1))
    place.environment |= nowhere
    result = apply(place)
    assert "published: staging generation 2" in result.output
    assert "alias" not in result.output + result.stderr
    place.environment = here
    place.write("staging/_policy", GIT_POLICY + "review_required: true\n")
    propose_and_merge(place, place.register(2))
    place.environment |= nowhere
    assert "this machine knows no registry to find it in" in apply(place, code=2).output
    assert place.serves() == [(a_prompt(1).digest, 1)]
    assert not (tmp_path / "none.db").exists()


def test_proposals_of_pipelines_are_listed_until_somebody_takes_them_over(place):
    version = place.register(1)
    result = apply(place)
    assert f"a pipeline proposes greeting version {version}" in result.output
    propose_and_merge(place, version)
    assert "proposes" not in apply(place).output
