"""Publishing when replies get lost, others are faster, and runs are stopped half way."""

import threading

import pytest
from securesystemslib.signer import CryptoSigner

from softprompt.errors import InvalidRequest, PublishUnknown, StoreUnavailable
from softprompt.release.layout import GC_GRACE_SECONDS, blob_key, generation_key
from softprompt.release.publisher import Publisher
from softprompt.release.store import PROBE_KEY


class Hooked:
    """A store whose operations a test can watch and disturb."""

    def __init__(self, store, before=None, after=None):
        self._store, self.calls = store, []
        self._before, self._after = before or (lambda *_: None), after or (lambda *_: None)

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in ("get", "create", "put", "age_seconds", "list"):
            return found

        def call(key, *arguments, **options):
            self.calls.append((name, key))
            self._before(name, key)
            result = found(key, *arguments, **options)
            changed = self._after(name, key)
            return result if changed is None else changed

        return call


def is_commit(name, key):
    return name == "create" and key.startswith("channels/")


def stop_after_the_commit(name, key):
    if is_commit(name, key):
        raise KeyboardInterrupt


def journals(channel):
    return sorted(path.name for path in (channel.folder / "journals").glob("*.journal.json"))


@pytest.mark.parametrize("what", ["lose_reply", "lose_request", "409", "500"])
def test_a_commit_without_an_answer_is_resolved_by_reading(proxy, proxied_channel, make_prompt, what):
    proxied_channel.publish(make_prompt(1))
    plain, commits = proxied_channel.store, 0

    def disturb(name, key):
        nonlocal commits
        if is_commit(name, key):
            commits += 1
            proxy.do(what, "PUT", times=1 if commits == 1 else 0)

    proxied_channel.store = Hooked(plain, before=disturb)
    outcome = proxied_channel.publish(make_prompt(2))
    assert (outcome.outcome, outcome.generation) == ("published", 3)
    assert commits == (1 if what == "lose_reply" else 2)
    assert list(plain.list("channels/")) == [generation_key("staging", number) for number in (1, 2, 3)]
    assert proxied_channel.reader().refresh().load(make_prompt(2).digest) == make_prompt(2)
    assert journals(proxied_channel) == []


def test_the_same_bytes_are_sent_again_also_when_signatures_differ_each_time(channel, make_prompt):
    """ECDSA: signing again would make another envelope, and a lost first one would look like another publisher's."""
    sent, plain = [], channel.store

    class Recording(Hooked):
        def create(self, key, data):
            if key == PROBE_KEY:
                return plain.create(key, data)
            sent.append(data)
            return "unclear" if len(sent) == 1 else plain.create(key, data)

    channel.store = Recording(plain)
    assert channel.publish(make_prompt()).outcome == "published"
    assert len(sent) == 2
    assert sent[0] == sent[1]


def test_what_cannot_be_resolved_is_unknown_and_recognised_by_the_next_run(channel, make_prompt):
    plain, down = channel.store, False

    def before(name, key):
        if down:
            raise StoreUnavailable("down", actual="down")

    def after(name, key):
        nonlocal down
        if is_commit(name, key):
            down = True
            return "unclear"
        return None

    channel.store = Hooked(plain, before, after)
    with pytest.raises(PublishUnknown, match=r"(?s)000000000002.json.*Run the same publish again"):
        channel.publish(make_prompt())
    assert journals(channel) == ["staging.journal.json"]

    channel.store = plain
    before_objects = sorted(plain.list(""))
    outcome = channel.publish(make_prompt())
    assert (outcome.outcome, outcome.generation) == ("published", 2)
    assert "earlier run" in outcome.reasons[0]
    assert sorted(plain.list("")) == before_objects
    assert journals(channel) == []
    assert channel.publish(make_prompt()).outcome == "unchanged"


def test_an_unknown_publish_that_did_not_take_effect_is_made_by_the_next_run(channel, make_prompt):
    plain, down = channel.store, False

    class Lost(Hooked):
        def create(self, key, data):
            nonlocal down
            if key == PROBE_KEY:
                return plain.create(key, data)
            down = True
            return "unclear"

    def before(name, key):
        if down:
            raise StoreUnavailable("down", actual="down")

    channel.store = Lost(plain, before)
    with pytest.raises(PublishUnknown):
        channel.publish(make_prompt())
    channel.store = plain
    outcome = channel.publish(make_prompt())
    assert (outcome.outcome, outcome.generation) == ("published", 2)
    assert "earlier run" in outcome.reasons[0]


def test_an_unknown_publish_is_recognised_although_others_have_published_since(channel, make_prompt):
    """Running it again must not undo what came after it."""
    plain = channel.store
    channel.store = Hooked(plain, after=stop_after_the_commit)
    with pytest.raises(KeyboardInterrupt):
        channel.publish(make_prompt(1))
    channel.store = plain
    assert channel.publish(make_prompt(2), state_dir=channel.folder / "elsewhere").generation == 3
    outcome = channel.publish(make_prompt(1))
    assert (outcome.outcome, outcome.generation) == ("published", 2)
    assert channel.reader().refresh().generation == 3


def test_a_journal_of_another_publish_does_not_stand_in_the_way(channel, make_prompt):
    plain = channel.store
    channel.store = Hooked(plain, after=stop_after_the_commit)
    with pytest.raises(KeyboardInterrupt):
        channel.publish(make_prompt(1))
    channel.store = plain
    outcome = channel.publish(make_prompt(2), name="farewell")
    assert (outcome.outcome, outcome.generation) == ("published", 3)
    assert sorted(channel.reader().refresh().prompts) == ["farewell", "greeting"]


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_journal_that_nobody_can_read_is_dropped(channel, make_prompt, content):
    (channel.folder / "journals").mkdir()
    (channel.folder / "journals" / "staging.journal.json").write_bytes(content)
    assert channel.publish(make_prompt()).outcome == "published"
    assert journals(channel) == []


def test_a_certain_failure_is_not_called_unknown(channel, make_prompt):
    def before(name, key):
        if is_commit(name, key):
            raise StoreUnavailable("no right", actual="AccessDenied")

    plain = channel.store
    channel.store = Hooked(plain, before)
    with pytest.raises(StoreUnavailable, match="no right"):
        channel.publish(make_prompt())
    channel.store = plain
    assert channel.publish(make_prompt()).generation == 2


def test_the_order_is_probe_blobs_journal_commit(channel, make_prompt):
    seen = []

    def before(name, key):
        if is_commit(name, key):
            seen.extend(journals(channel))

    channel.store = Hooked(channel.store, before)
    prompt = make_prompt()
    channel.publish(prompt)
    writes = [(name, key) for name, key in channel.store.calls if name in ("put", "create")]
    assert writes[0] == ("create", PROBE_KEY)
    assert ("put", blob_key(prompt.digest)) in writes[1:-1]
    assert ("put", blob_key(prompt.manifest.parts[0].sha256)) in writes[1:-1]
    assert len(writes[1:-1]) == 4  # manifest, tensor, report, approval
    assert writes[-1] == ("create", generation_key("staging", 2))
    assert seen == ["staging.journal.json"]


def test_a_store_that_ignores_conditions_is_not_published_to(proxy, proxied_channel, make_prompt):
    if proxy.access.access_key_id != "softprompt":
        pytest.skip("the other server would notice the changed request by its signature")
    proxy.do("ignore_condition", "PUT")
    before = sorted(proxied_channel.store.list(""))
    with pytest.raises(StoreUnavailable, match="does not honour conditional writes"):
        proxied_channel.publish(make_prompt())
    assert sorted(proxied_channel.store.list("")) == before


@pytest.mark.parametrize(("age", "again"), [(GC_GRACE_SECONDS / 2 - 60, False), (GC_GRACE_SECONDS / 2 + 60, True)])
def test_blobs_are_put_again_when_they_are_old(channel, make_prompt, age, again):
    prompt = make_prompt()
    channel.publish(prompt)
    channel.publish(make_prompt(2))
    channel.store = Hooked(channel.store, after=lambda name, key: age if name == "age_seconds" else None)
    channel.publish(prompt)
    assert (("put", blob_key(prompt.digest)) in channel.store.calls) == again


def test_of_publishers_that_race_each_gets_a_number_of_its_own(any_channel, make_prompt):
    barrier, outcomes = threading.Barrier(4), []

    def publish(number):
        barrier.wait()
        outcomes.append(
            any_channel.publish(make_prompt(number), name=f"name-{number}", state_dir=any_channel.folder / f"machine-{number}")
        )

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.generation for outcome in outcomes) == [2, 3, 4, 5]
    snapshot = any_channel.reader().refresh()
    assert sorted(snapshot.prompts) == [f"name-{number}" for number in range(4)]
    assert snapshot.alarms == ()


def test_publishers_on_one_machine_share_a_journal_safely(channel, make_prompt):
    outcomes = []

    def publish(number):
        outcomes.append(channel.publish(make_prompt(number), name=f"name-{number}"))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.generation for outcome in outcomes) == [2, 3, 4, 5]
    assert len(channel.reader().refresh().prompts) == 4


def test_a_loser_plans_again_from_what_the_winner_made(channel, make_prompt):
    plain, interfered = channel.store, []

    def before(name, key):
        if is_commit(name, key) and not interfered:
            interfered.append(key)
            other = type(channel)(plain, channel.folder, clock=channel.clock)
            other.publish(make_prompt(7), name="farewell", state_dir=channel.folder / "elsewhere")

    channel.store = Hooked(plain, before)
    assert channel.publish(make_prompt(1)).generation == 3
    assert sorted(channel.reader().refresh().prompts) == ["farewell", "greeting"]


def test_strays_are_skipped_and_named(channel, make_prompt):
    reader = channel.reader()
    assert reader.refresh().generation == 1
    for number, content in ((2, b"stray"), (3, b""), (999_999_999_999, b"far away")):
        channel.store.put(generation_key("staging", number), content)
    outcome = channel.publish(make_prompt())
    assert outcome.generation == 4
    assert "(2, 3)" in outcome.reasons[0]
    assert channel.log.head().signed.generation.skipped == (2, 3)
    assert channel.publish(make_prompt(2)).generation == 5
    snapshot = reader.refresh()
    assert snapshot.generation == 5
    assert [alarm.split(" ")[1] for alarm in snapshot.alarms] == ["2", "3", "999999999999"]
    # A new node looks from above: what lies below a good generation is no news to it.
    assert [alarm.split(" ")[1] for alarm in channel.reader("new-node").refresh().alarms] == ["999999999999"]


def test_keys_of_other_forms_are_not_generations(channel, make_prompt):
    for key in (
        "000000000007.json.tmp",
        "7.json",
        "latest",
        "000000000000.json",
        "0000000000008.json",
        "x/000000000009.json",
    ):
        channel.store.put(f"channels/staging/{key}", b"x")
    assert channel.log.numbers() == [1]
    assert channel.publish(make_prompt()).generation == 2


def test_a_clock_that_is_behind_refuses(channel, make_prompt):
    channel.publish(make_prompt(1))
    channel.clock.now -= 5 * 60 + 1
    with pytest.raises(InvalidRequest, match=r"(?s)clock is behind.*Set the clock"):
        channel.publish(make_prompt(2))
    channel.clock.now += 2
    assert channel.publish(make_prompt(2)).generation == 3
    assert channel.log.read(3).generation.created >= channel.log.read(2).generation.created


def test_a_key_that_the_root_does_not_allow_is_refused_before_anything_is_written(channel, make_prompt):
    stranger = CryptoSigner.generate_ed25519()
    (channel.folder / "stranger.pem").write_bytes(stranger.private_bytes)
    before = sorted(channel.store.list(""))
    with pytest.raises(InvalidRequest, match="does not allow this key"):
        channel.publish(make_prompt(), signing_key=channel.folder / "stranger.pem")
    same_id = CryptoSigner.generate_ed25519(keyid=channel.log.trust.keys_for("staging")[0].keyid)
    with pytest.raises(InvalidRequest, match="does not allow this key"):
        Publisher(log=channel.log, signer=same_id, state_dir=channel.folder)
    assert sorted(channel.store.list("")) == before


def test_every_publish_has_an_id_of_its_own_and_names_the_one_before(channel, make_prompt):
    for number in range(3):
        channel.publish(make_prompt(number))
    signed = [channel.log.read(number) for number in (1, 2, 3, 4)]
    assert len({one.generation.publish_id for one in signed}) == 4
    assert [one.generation.previous for one in signed[1:]] == [one.digest for one in signed[:-1]]


def test_a_publisher_that_always_loses_gives_up(channel, make_prompt):
    class Losing(Hooked):
        def create(self, key, data):
            return "refused"

    def theirs(name, key):
        return b"theirs" if (name, key) == ("get", generation_key("staging", 2)) else None

    channel.store = Losing(channel.store, after=theirs)
    with pytest.raises(StoreUnavailable, match="Other publishers were faster"):
        channel.publish(make_prompt())
