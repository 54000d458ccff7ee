"""A checkout of `environments/` and the channel that it has the authority over, with a real Git."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from softprompt.documents import canonical_json
from softprompt.errors import InvalidRequest, VerificationFailed
from softprompt.release.layout import RENEW_SECONDS, blob_key
from softprompt.release.planning.policy import Desired, DesiredShare, desired_yaml
from softprompt.release.promotion.reconciler import RESTATED, apply_channel, plan_channel

GIT_POLICY = "schema_version: 1\nauthority: git\n"
BASE = "ba5e" * 16


class Repository:
    """A Git repository with `environments/staging/`, and a channel that follows it."""

    def __init__(self, channel):
        self.channel, self.folder = channel, channel.folder / "repository"
        self.environments = self.folder / "environments"
        (self.environments / "staging").mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.commit(_policy=GIT_POLICY)
        channel.write_policy(GIT_POLICY)

    def git(self, *arguments):
        identity = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = ["git", "-C", str(self.folder), *arguments]
        done = subprocess.run(command, env=os.environ | identity, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, **files):
        for name, text in files.items():
            path = self.environments / "staging" / f"{name}.yaml"
            path.unlink() if text is None else path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")
        return self.git("rev-parse", "HEAD")

    def propose(self, prompt, **changes):
        """What the pipeline proposes, as the text of a file."""
        outcome = self.channel.publish(prompt, signing_key=None, **changes)
        assert outcome.outcome == "proposed"
        return outcome.proposal

    def plan(self, **changes):
        return plan_channel(self.environments, "staging", **(self._common() | changes))

    def apply(self, **changes):
        mine = {"signing_key": self.channel.signing_key, "state_dir": self.channel.folder / "journals"}
        return apply_channel(self.environments, "staging", **(self._common() | mine | changes))

    def _common(self):
        return {"store": self.channel.store, "trust_root": self.channel.trust_root, "clock": self.channel.clock}


@pytest.fixture
def repository(channel):
    return Repository(channel)


def test_a_merged_proposal_is_published_with_its_commit(any_channel, make_prompt):
    repository, prompt = Repository(any_channel), make_prompt()
    commit = repository.commit(greeting=repository.propose(prompt))
    plan = repository.plan()
    assert plan.outcome == "change"
    assert plan.differences[0] == f"greeting: (nothing) -> base {BASE[:12]}: {prompt.digest[:12]} (weight 1)"
    outcome = repository.apply()
    assert (outcome.outcome, outcome.generation) == ("published", 2)
    snapshot = any_channel.reader().refresh()
    assert snapshot.load(prompt.digest) == prompt
    assert snapshot.statement.git_commit == commit
    assert repository.plan().outcome == "unchanged"
    assert repository.apply().outcome == "unchanged"


def test_planning_writes_nothing(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt()))
    before = sorted(repository.channel.store.list(""))
    repository.plan()
    assert sorted(repository.channel.store.list("")) == before


def test_a_revert_rolls_back(repository, make_prompt):
    old, new = make_prompt(1), make_prompt(2)
    repository.commit(greeting=repository.propose(old))
    repository.apply()
    repository.commit(greeting=repository.propose(new))
    repository.apply()
    repository.git("revert", "--no-edit", "HEAD")
    assert repository.apply().generation == 4
    snapshot = repository.channel.reader().refresh()
    assert [share.prompt for share in snapshot.prompts["greeting"].bases[BASE]] == [old.digest]


def test_a_missing_file_unpublishes_nothing_and_removed_does(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt(1)), farewell=repository.propose(make_prompt(2), name="farewell"))
    repository.apply()
    repository.commit(greeting=None)
    assert repository.plan().outcome == "unchanged"
    repository.commit(greeting="schema_version: 1\nremoved: true\n")
    assert "greeting: base" in repository.plan().differences[0]
    assert repository.plan().differences[0].endswith("-> (nothing)")
    repository.apply()
    assert sorted(repository.channel.reader().refresh().prompts) == ["farewell"]


def test_one_refused_name_holds_back_all(repository, make_prompt):
    repository.channel.write_policy(GIT_POLICY + "allow_undecided: true\n")
    undecided = repository.propose(make_prompt(1), verdict="undecided")
    repository.commit(greeting=undecided, farewell=repository.propose(make_prompt(2), name="farewell"))
    outcome = repository.apply()
    assert (outcome.outcome, outcome.generation) == ("refused", 0)
    assert "greeting" in outcome.reasons[0]
    assert repository.channel.log.numbers() == [1]


def test_a_canary_is_two_prompts_with_weights(repository, make_prompt):
    texts = [repository.propose(make_prompt(seed)) for seed in (1, 2)]
    approvals = [text.split('approval: "')[1][:64] for text in texts]
    shares = tuple(
        DesiredShare(prompt=make_prompt(seed).digest, approval=approval, weight=weight)
        for seed, approval, weight in zip((1, 2), approvals, (9, 1), strict=True)
    )
    repository.commit(greeting=desired_yaml(Desired(schema_version=1, bases={BASE: shares}, pinned=True)))
    repository.apply()
    served = repository.channel.reader().refresh().prompts["greeting"]
    assert [share.weight for share in served.bases[BASE]] == [9, 1]
    assert served.pinned


class Registry:
    """Tags `review.status` of versions, and who asked for them."""

    def __init__(self, **tags):
        self.tags, self.asked = tags, []

    def __call__(self, name, version, prompt):
        self.asked.append((name, version, prompt))
        return self.tags.get(name, "")


REVIEWED = GIT_POLICY + "review_required: true\n"


def test_a_review_is_needed_where_the_policy_says_so(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt()), _policy=REVIEWED)
    assert "not reviewed" in repository.plan().reasons[0]
    assert "review.status is rejected" in repository.plan(review_status=Registry(greeting="rejected")).reasons[0]
    registry = Registry(greeting="approved")
    assert repository.plan(review_status=registry).outcome == "change"
    assert registry.asked == [("greeting", "greeting/1", make_prompt().digest)]


def test_a_prompt_under_two_names_needs_the_review_of_both(repository, make_prompt):
    """Version 1 of one name says nothing about version 1 of another."""
    farewell = repository.propose(make_prompt(), name="farewell", model_version="1")
    greeting = repository.propose(make_prompt(), model_version="1")
    repository.commit(greeting=greeting, farewell=farewell, _policy=REVIEWED)
    for approved in ("greeting", "farewell"):
        assert repository.plan(review_status=Registry(**{approved: "approved"})).outcome == "refused"
    assert repository.plan(review_status=Registry(greeting="approved", farewell="approved")).outcome == "change"


def test_what_was_served_lately_comes_back_without_a_registry(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt(1)), _policy=REVIEWED)
    repository.apply(review_status=Registry(greeting="approved"))
    repository.commit(greeting=repository.propose(make_prompt(2)))
    repository.apply(review_status=Registry(greeting="approved"))
    repository.git("revert", "--no-edit", "HEAD")
    registry = Registry()
    assert (repository.apply(review_status=registry).generation, registry.asked) == (4, [])


def test_without_such_a_policy_no_registry_is_asked(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt()))
    registry = Registry()
    assert (repository.plan(review_status=registry).outcome, registry.asked) == ("change", [])


def test_a_prompt_has_one_approval_in_a_channel(repository, make_prompt):
    repository.commit(
        greeting=repository.propose(make_prompt()),
        farewell=repository.propose(make_prompt(), evidence={"report.json": b"{}"}, name="farewell"),
    )
    with pytest.raises(InvalidRequest, match="two approvals"):
        repository.plan()


def test_old_evidence_comes_back_while_the_channel_has_served_it_lately(repository, make_prompt):
    evaluated = "2027-01-14T00:00:00Z"
    repository.commit(greeting=repository.propose(make_prompt(1), evaluated=evaluated), _policy=GIT_POLICY + "max_age_days: 3\n")
    repository.apply()
    repository.commit(greeting=repository.propose(make_prompt(2), evaluated=evaluated))
    repository.apply()
    repository.channel.clock.now += 20 * 24 * 3600
    repository.git("revert", "--no-edit", "HEAD")
    assert repository.apply().outcome == "published"


def test_what_the_channel_serves_already_is_not_read_again(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt()))
    repository.apply()
    read = []
    plain = repository.channel.store

    class Counting:
        def __getattr__(self, name):
            return getattr(plain, name)

        def get(self, key, *, max_bytes):
            read.append(key)
            return plain.get(key, max_bytes=max_bytes)

    assert repository.plan(store=Counting()).outcome == "unchanged"
    blobs = {key for key in read if key.startswith("blobs/")}
    assert len(blobs) == 2, "the approval and the manifest"


def test_a_gate_report_has_to_say_what_the_approval_says(repository, make_prompt):
    prompt = make_prompt()

    def evidence(**changes):
        report = {"verdict": "passed", "prompt": prompt.digest, "champion": "", "gates": []} | changes
        return {"gate_report.json": canonical_json(report)}

    for changes in ({"verdict": "rejected"}, {"prompt": "0" * 64}):
        with pytest.raises(VerificationFailed, match="does not say what its gate report says"):
            repository.propose(prompt, evidence=evidence(**changes))
    with pytest.raises(VerificationFailed, match="not a gate report"):
        repository.propose(prompt, evidence={"gate_report.json": b"[]"})
    gate = {"name": "accuracy_at_least_0.8", "kind": "metric", "status": "undecided"}
    repository.commit(
        greeting=repository.propose(prompt, evidence=evidence(gates=[gate], champion="c" * 64)),
        _policy=GIT_POLICY + 'gates_required: ["accuracy_*"]\n',
    )
    assert "did not pass the gate accuracy_at_least_0.8 (undecided)" in repository.plan().reasons[0]
    repository.commit(_policy=GIT_POLICY)
    assert "was compared with cccccccccccc" in repository.plan().warnings[0]


def test_owners_are_those_of_the_repositorys_codeowners(repository, make_prompt):
    policy = GIT_POLICY + 'owners: {"@acme/greeters": ["greet*"]}\n'
    repository.commit(greeting=repository.propose(make_prompt()), _policy=policy)
    assert "CODEOWNERS lets nobody approve" in repository.plan().reasons[0]
    owners = repository.folder / "CODEOWNERS"
    owners.write_text("* @acme/platform\n/environments/*/greeting.yaml @acme/greeters\n")
    repository.commit()
    assert repository.plan().outcome == "change"
    owners.write_text("/environments/*/greeting.yaml @acme/greeters\n* @acme/platform\n")
    repository.commit()
    assert "CODEOWNERS lets @acme/platform approve" in repository.plan().reasons[0]


def test_a_shallow_clone_is_refused_in_words(repository, make_prompt, tmp_path_factory):
    repository.commit(greeting=repository.propose(make_prompt()))
    shallow = tmp_path_factory.mktemp("shallow") / "clone"
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.folder}", str(shallow))
    for call in (repository.plan, repository.apply):
        repository.environments = shallow / "environments"
        with pytest.raises(InvalidRequest, match=r"(?s)shallow clone.*fetch-depth: 0"):
            call()


def test_names_that_are_served_without_a_file_are_told(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt(1)), farewell=repository.propose(make_prompt(2), name="farewell"))
    repository.apply()
    repository.commit(greeting=None)
    assert any("greeting: is served and has no file here; it stays" in line for line in repository.plan().warnings)


def test_two_applies_at_once_from_two_clones_make_one_generation(repository, make_prompt, tmp_path_factory):
    """Who loses the race plans again, finds nothing to do, and nothing is published twice."""
    repository.commit(greeting=repository.propose(make_prompt()))
    clones = [tmp_path_factory.mktemp("clone") / "repository" for _ in range(2)]
    for clone in clones:
        repository.git("clone", "-q", str(repository.folder), str(clone))

    def apply(clone):
        common = repository._common() | {"signing_key": repository.channel.signing_key, "state_dir": clone.parent / "journals"}
        return apply_channel(clone / "environments", "staging", **common)

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(outcome.outcome for outcome in pool.map(apply, clones))
    assert outcomes == ["published", "unchanged"]
    assert repository.channel.log.numbers() == [1, 2]


def test_a_proposal_is_made_before_the_review(repository, make_prompt):
    repository.channel.write_policy(GIT_POLICY + "review_required: true\n")
    outcome = repository.channel.publish(make_prompt(), signing_key=None)
    assert outcome.outcome == "proposed"
    assert "wants the version reviewed" in outcome.reasons[1]


def test_a_prompt_on_the_wrong_base_is_refused(repository, make_prompt):
    text = repository.propose(make_prompt()).replace(BASE, "f" * 64)
    repository.commit(greeting=text)
    assert "was trained on base ba5eba5eba5e, not on ffffffffffff" in repository.plan().reasons[0]


@pytest.mark.parametrize("which", ["manifest", "tensor", "approval", "evidence"])
@pytest.mark.parametrize("how", ["missing", "changed"])
def test_what_the_files_name_has_to_be_in_the_store_and_whole(repository, make_prompt, which, how):
    prompt = make_prompt()
    text = repository.propose(prompt)
    repository.commit(greeting=text)
    approval = text.split('approval: "')[1][:64]
    digest = {
        "manifest": prompt.digest,
        "tensor": prompt.manifest.parts[0].sha256,
        "approval": approval,
        "evidence": "",
    }[which]
    if which == "evidence":
        from softprompt.documents import sha256_hex

        digest = sha256_hex(b'{"accuracy":0.9}')
    store = repository.channel.store
    if how == "missing":
        store._client.delete_object(**store._address(blob_key(digest)))
    else:
        store.put(blob_key(digest), b"{}")
    with pytest.raises(VerificationFailed, match=digest):
        repository.plan()


def test_an_approval_of_another_prompt_or_version_is_refused(repository, make_prompt):
    first, second = repository.propose(make_prompt(1)), repository.propose(make_prompt(2))
    swapped = first.replace(first.split('approval: "')[1][:64], second.split('approval: "')[1][:64])
    repository.commit(greeting=swapped)
    with pytest.raises(VerificationFailed, match="not the one of this prompt"):
        repository.plan()
    repository.commit(greeting=first.replace('"greeting/1"', '"greeting/2"'))
    with pytest.raises(VerificationFailed, match="not the one of this prompt"):
        repository.plan()


def test_uncommitted_changes_are_not_published(repository, make_prompt):
    text = repository.propose(make_prompt())
    for name in ("greeting", "untracked"):
        (repository.environments / "staging" / f"{name}.yaml").write_text(text)
        with pytest.raises(InvalidRequest, match=r"(?s)in no commit.*yaml"):
            repository.apply()
        repository.commit()
        (repository.environments / "staging" / f"{name}.yaml").write_text(text + "pinned: true\n")
        with pytest.raises(InvalidRequest, match="in no commit"):
            repository.apply()
        repository.commit()


def test_an_older_commit_never_replaces_a_newer_ones_generation(repository, make_prompt):
    old = repository.commit(greeting=repository.propose(make_prompt(1)))
    repository.commit(greeting=repository.propose(make_prompt(2)))
    repository.apply()
    repository.git("checkout", "-q", old)
    for call in (repository.plan, repository.apply):
        with pytest.raises(InvalidRequest, match=r"(?s)commit that this checkout does not follow.*Update the checkout"):
            call()
    repository.git("checkout", "-q", "-b", "side", old)
    repository.commit(greeting=repository.propose(make_prompt(3)))
    with pytest.raises(InvalidRequest, match="does not follow"):
        repository.apply()
    assert repository.channel.log.numbers() == [1, 2]


def test_a_change_that_was_undone_since_cannot_be_published_late(repository, make_prompt):
    """The state is the same before and after, so nothing but the stated commit can tell that the one between is over."""
    repository.commit(greeting=repository.propose(make_prompt(1)))
    repository.apply()
    between = repository.commit(greeting=repository.propose(make_prompt(2)))
    repository.git("revert", "--no-edit", "HEAD")
    assert repository.plan().outcome == "unchanged"
    assert repository.apply().differences == (RESTATED,)
    assert repository.apply().outcome == "unchanged"
    repository.git("checkout", "-q", between)
    with pytest.raises(InvalidRequest, match="does not follow"):
        repository.apply()
    repository.git("checkout", "-q", "main")
    (repository.folder / "README.md").write_text("of no channel")
    repository.commit()
    assert repository.apply().outcome == "unchanged", "a commit about something else is not worth a generation"


def test_what_was_changed_and_undone_on_a_merged_branch_counts_too(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt(1)))
    repository.apply()
    repository.git("checkout", "-q", "-b", "side")
    repository.commit(greeting=repository.propose(make_prompt(2)))
    repository.git("revert", "--no-edit", "HEAD")
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    assert repository.apply().differences == (RESTATED,)


def test_an_apply_that_was_stopped_after_the_commit_is_recognised(repository, make_prompt, monkeypatch):
    repository.commit(greeting=repository.propose(make_prompt()))
    plain = repository.channel.store

    class Stopping:
        def __getattr__(self, name):
            return getattr(plain, name)

        def create(self, key, data):
            answer = plain.create(key, data)
            if key.startswith("channels/"):
                raise KeyboardInterrupt
            return answer

    with pytest.raises(KeyboardInterrupt):
        repository.apply(store=Stopping())
    assert (repository.apply().outcome, repository.channel.log.numbers()) == ("published", [1, 2])


def test_an_unchanged_state_is_signed_again_after_a_third_of_its_life(repository, make_prompt):
    repository.commit(greeting=repository.propose(make_prompt()))
    repository.apply()
    repository.channel.clock.now += RENEW_SECONDS - 1
    assert repository.apply().outcome == "unchanged"
    repository.channel.clock.now += 2
    assert repository.apply().outcome == "published"
    assert repository.channel.log.read(2).generation.state == repository.channel.log.read(3).generation.state


def test_git_without_authority_publishes_nothing(repository, make_prompt):
    repository.commit(_policy="schema_version: 1\nauthority: pipeline\n", greeting=repository.propose(make_prompt()))
    with pytest.raises(InvalidRequest, match="does not give Git the authority"):
        repository.apply()


def test_what_is_no_checkout_is_named(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    with pytest.raises(InvalidRequest, match="not a Git checkout"):
        plan_channel(folder, "staging", **repository._common())
