"""A revoked prompt is served by nobody, at once, and does not come back."""

import pytest

from softprompt.errors import InvalidRequest
from softprompt.release import envelope
from softprompt.release.care.revoke import edits_to_revoke, revoke_and_publish
from softprompt.release.layout import blob_key, generation_key
from softprompt.release.planning.policy import POLICY_FILE, read_policy
from softprompt.release.statement import to_statement
from softprompt.release.trust import load_signer

POLICY = "# the platform's\nschema_version: 1\nauthority: pipeline   # ours\n"


@pytest.fixture
def serving(channel, make_prompt):
    channel.write_policy(POLICY)
    channel.publish(make_prompt(1))
    channel.publish(make_prompt(2), name="farewell")
    return channel


def revoke(channel, prompt):
    return revoke_and_publish(
        channel.log,
        channel.folder / "environments",
        prompt.digest,
        signer=load_signer(channel.signing_key),
        state_dir=channel.folder / "journals",
        clock=channel.clock,
    )


def test_it_is_published_without_the_prompt_and_the_policy_remembers(serving, make_prompt):
    reader = serving.reader()
    reader.refresh()
    done = revoke(serving, make_prompt(1))
    assert (done.outcome, done.generation) == ("published", 4)
    snapshot = reader.refresh()
    assert sorted(snapshot.prompts) == ["farewell"]
    assert snapshot.statement.state.revoked == (make_prompt(1).digest,)
    text = (serving.folder / "environments" / "staging" / POLICY_FILE).read_text()
    assert text == f'{POLICY}revoked:\n  - "{make_prompt(1).digest}"\n'
    assert serving.publish(make_prompt(1)).outcome == "refused"
    assert serving.publish(make_prompt(3)).outcome == "published"
    assert reader.refresh().statement.state.revoked == (make_prompt(1).digest,), "publishing again does not forget it"


def test_twice_it_does_nothing_more(serving, make_prompt):
    revoke(serving, make_prompt(1))
    again = revoke(serving, make_prompt(1))
    assert (again.outcome, again.generation) == ("unchanged", 4)
    revoke(serving, make_prompt(2))
    assert read_policy(serving.folder / "environments", "staging").revoked == (make_prompt(1).digest, make_prompt(2).digest)


def test_a_canarys_other_prompt_stays(serving, make_prompt):
    head = serving.log.head().signed.generation
    served = head.state.prompts["greeting"]
    share = served.bases[make_prompt(1).manifest.base_fingerprint][0]
    both = served.model_copy(update={"bases": {"ba5e" * 16: (share, share.model_copy(update={"prompt": make_prompt(2).digest}))}})
    assert both.without({make_prompt(2).digest}) == served
    assert both.without({make_prompt(1).digest, make_prompt(2).digest}) is None


def test_where_git_has_the_authority_nothing_is_published(serving, make_prompt):
    serving.write_policy("schema_version: 1\nauthority: git\n")
    with pytest.raises(InvalidRequest, match="Git has the authority"):
        revoke(serving, make_prompt(1))
    edits = edits_to_revoke(serving.folder / "environments", "staging", make_prompt(1).digest)
    assert [edit.path.name for edit in edits] == [POLICY_FILE]


def test_a_node_refuses_a_revoked_prompt_even_where_the_new_generation_cannot_be_activated(serving, make_prompt):
    """The next generation revokes one prompt and brings another, whose blob has not arrived."""
    reader = serving.reader()
    assert sorted(reader.refresh().prompts) == ["farewell", "greeting"]
    serving.publish(make_prompt(3), name="third")
    revoke(serving, make_prompt(1))
    serving.store.delete(blob_key(make_prompt(3).digest), version="")
    snapshot = reader.refresh()
    assert (snapshot.generation, sorted(snapshot.prompts), snapshot.stale) == (3, ["farewell"], True)
    assert any("revokes, so it is refused" in alarm for alarm in snapshot.alarms)
    with pytest.raises(InvalidRequest, match="prompt is revoked"):
        snapshot.load(make_prompt(1).digest)
    again = serving.reader().refresh()
    assert (again.generation, sorted(again.prompts)) == (3, ["farewell"]), "after a restart, too"


def test_a_node_that_restarts_without_the_store_still_refuses_it(serving, make_prompt, tmp_path):
    test_a_node_refuses_a_revoked_prompt_even_where_the_new_generation_cannot_be_activated(serving, make_prompt)

    class Away:
        uri = "nowhere"

        def __getattr__(self, name):
            from softprompt.errors import StoreUnavailable

            raise StoreUnavailable("away")

    snapshot = serving.reader(store=Away()).refresh()
    assert sorted(snapshot.prompts) == ["farewell"]


def test_a_stranger_revokes_nothing(serving, make_prompt):
    from securesystemslib.signer import CryptoSigner

    reader = serving.reader()
    head = serving.log.head().signed
    state = head.generation.state.model_copy(update={"prompts": {}, "approvals": {}, "revoked": (make_prompt(1).digest,)})
    forged = head.generation.model_copy(update={"generation": 4, "previous": head.digest, "state": state})
    serving.store.put(generation_key("staging", 4), envelope.sign(to_statement(forged), CryptoSigner.generate_ed25519()))
    assert sorted(reader.refresh().prompts) == ["farewell", "greeting"]
