"""Removes each check of the release protocol once, and names those whose absence no test notices.

    python -m tests.mutation.release [WORD ...]

WORD: only checks whose name holds it. Each check is taken out of the source text as a fork of this process imports it (no file
changes), and the tests named beside it run there; first they run with nothing taken out. Exit code 1: a check is missed by no
test, its text is not in the source any more, or the tests fail as they are.
"""

import importlib.machinery
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "softprompt" / "release"
TAMPERING = "tests/reliability/test_tampering.py"
INVARIANTS = "tests/reliability/test_invariants.py"
RECOVERY = "tests/reliability/test_recovery.py"
ORDERS = "tests/reliability/test_interleavings.py"
UNIT = "tests/unit/release/"
AUDIT = UNIT + "audit/test_log.py"


class Control(NamedTuple):
    """One check, and what becomes of it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


CONTROLS = (
    # Envelope and statement
    Control(
        "the signature",
        "envelope.py",
        "accepted = envelope.verify(list(keys), 1)",
        "accepted = dict(envelope.signatures)",
        (TAMPERING,),
    ),
    Control(
        "the payload's type",
        "envelope.py",
        "if envelope.payload_type != payload_type:",
        "if False:",
        (UNIT + "test_envelope.py",),
    ),
    Control(
        "the envelope's canonical form",
        "envelope.py",
        "if canonical_json(envelope.to_dict()) != data:",
        "if False:",
        (TAMPERING,),
    ),
    Control(
        "one signature and no more",
        "channel.py",
        "if opened.num_signatures != 1:",
        "if False:",
        (TAMPERING,),
    ),
    Control("the statement's type", "in_toto.py", "if kind != self.predicate_type:", "if False:", (TAMPERING,)),
    Control(
        "the statement's canonical form and subjects",
        "in_toto.py",
        "if written != data:",
        "if False:",
        (TAMPERING,),
    ),
    Control(
        "approvals cover the prompts in use",
        "statement.py",
        "if self.approvals.keys() != self.digests:",
        "if False:",
        (TAMPERING,),
    ),
    Control(
        "an approval is about its prompt",
        "statement.py",
        "if any(approval.prompt != digest for digest, approval in self.approvals.items()):",
        "if False:",
        (TAMPERING,),
    ),
    Control("no revoked prompt is in use", "statement.py", "if self.digests & set(self.revoked):", "if False:", (TAMPERING,)),
    Control(
        "what is skipped comes just before",
        "statement.py",
        "if self.skipped != tuple(range(self.generation - len(self.skipped), self.generation)):",
        "if False:",
        (TAMPERING,),
    ),
    Control(
        "only the first has no predecessor",
        "statement.py",
        'if self.predecessor < 0 or (self.predecessor == 0) != (self.previous == ""):',
        "if False:",
        (TAMPERING,),
    ),
    Control(
        "it expires after it was made",
        "statement.py",
        "if parse_time(self.created) >= parse_time(self.expires):",
        "if False:",
        (TAMPERING,),
    ),
    # Place and chain
    Control("channel, id and number", "channel.py", "if expected != actual:", "if False:", (TAMPERING,)),
    Control(
        "the root's minimum",
        "channel.py",
        "if number < trusted.minimum_generation:",
        "if False:",
        (UNIT + "test_reader.py::test_nothing_below_the_roots_minimum_is_believed",),
    ),
    Control(
        "the link to the one before", "channel.py", "digest = known.get(before) or", "return\n        digest =", (TAMPERING,)
    ),
    Control(
        "a revoked key counts up to its last good generation",
        "channel.py",
        "_check_revoked(opened.key_ids, number",
        "(lambda *_, **__: None)(opened.key_ids, number",
        (UNIT + "test_roots.py", UNIT + "test_reader.py"),
    ),
    Control(
        "a key counts for its own channels",
        "trust.py",
        "for key_id, key in self.publishing_keys.items() if channel in key.channels)",
        "for key_id, key in self.publishing_keys.items())",
        (TAMPERING,),
    ),
    Control(
        "the trust root's own signature",
        "trust.py",
        "payload = envelope.verify(data, [key], source=source, payload_type=ROOT_PAYLOAD)",
        "payload = envelope.peek(data, source=source)",
        (UNIT + "test_trust.py",),
    ),
    Control("a bad object reads so twice", "channel.py", "if readings == before:", "if True:", (RECOVERY,)),
    Control(
        "readings that differ stop a publisher",
        "channel.py",
        'raise StoreUnavailable(\n            f"A generation reads differently',
        'raise VerificationFailed(\n            f"A generation reads differently',
        (RECOVERY,),
    ),
    Control(
        "a missing envelope stops a publisher",
        "channel.py",
        "except Missing as error:",
        "except ZeroDivisionError as error:",
        (RECOVERY,),
    ),
    Control(
        "a missing envelope makes a node say stale",
        "reader.py",
        "missing = max(missing, number) if isinstance(error, Missing) else missing",
        "missing = 0",
        (RECOVERY,),
    ),
    # Blobs
    Control("a blob's sha256", "blobs.py", "if data is None or actual != digest:", "if data is None:", (TAMPERING,)),
    Control(
        "a kept blob's sha256",
        "blobs.py",
        "if kept is not None and sha256_hex(kept) == digest:",
        "if kept is not None:",
        (TAMPERING,),
    ),
    Control(
        "an old blob is put again",
        "blobs.py",
        "if age is None or age > GC_GRACE_SECONDS / 2:",
        "if age is None:",
        (UNIT + "test_publisher.py",),
    ),
    Control(
        "blobs that are not named are put",
        "publisher.py",
        "put_blobs(self._log.store, blobs, kept=kept)",
        "put_blobs(self._log.store, {}, kept=kept)",
        (RECOVERY,),
    ),
    # What a node activates
    Control("expiry", "reader.py", "if now > parse_time(generation.expires) + CLOCK_SKEW_SECONDS:", "if False:", (TAMPERING,)),
    Control(
        "not from the future",
        "reader.py",
        "if now < parse_time(generation.created) - CLOCK_SKEW_SECONDS:",
        "if False:",
        (TAMPERING,),
    ),
    Control("a prompt's own base", "reader.py", "if base and trained_on != base:", "if False:", (TAMPERING,)),
    Control(
        "something for the node's base",
        "reader.py",
        "if self._base and prompts and not any(",
        "if False and not any(",
        (UNIT + "test_reader.py",),
    ),
    Control(
        "every prompt's tensor is checked",
        "reader.py",
        "manifest = self._blobs.prompt(digest).manifest",
        "import softprompt.artifact as a; manifest = a.read_manifest(self._blobs.read(digest, max_bytes=10**6), source='')",
        (TAMPERING,),
    ),
    Control(
        "what was checked and is gone is read again",
        "reader.py",
        "if found and {digest, found.tensor} <= kept}",
        "if found}",
        (UNIT + "test_reader.py",),
    ),
    Control(
        "shadow and pinnable prompts are checked",
        "reader.py",
        "for digest in (*served.shadow, *served.pinnable)}",
        "for digest in ()}",
        (UNIT + "test_reader.py",),
    ),
    Control(
        "never an older generation",
        "reader.py",
        "after=max(self._floor(), self._high_water - (self._active is None))",
        "after=self._floor()",
        (INVARIANTS + "::test_i4_a_nodes_generation_never_falls", UNIT + "test_reader.py"),
    ),
    Control(
        "the high-water mark survives",
        "reader.py",
        "self._high_water = remembered.generation",
        "pass",
        (UNIT + "test_reader.py",),
    ),
    Control(
        "the high-water mark is written",
        "reader.py",
        "write_durably(self._file, remembered.to_bytes())",
        "pass",
        (UNIT + "test_reader.py",),
    ),
    Control(
        "a bad update never evicts the good one",
        "reader.py",
        "except SoftpromptError as error:  # a bad update",
        "except ZeroDivisionError as error:  # a bad update",
        (INVARIANTS + "::test_i10_a_bad_update_never_evicts_the_good_one",),
    ),
    Control(
        "stale is said",
        "reader.py",
        "stale = expired or not newest_active or bool(self._disbelieved)",
        "stale = False",
        (INVARIANTS + "::test_i8_a_node_serves_the_newest_or_says_that_it_may_be_stale",),
    ),
    Control(
        "expired is said",
        "reader.py",
        "stale = expired or not newest_active",
        "stale = not newest_active",
        (INVARIANTS + "::test_i8_a_node_serves_the_newest_or_says_that_it_may_be_stale", UNIT + "test_reader.py"),
    ),
    Control(
        "only what is named is loaded",
        "snapshot.py",
        "if digest not in self.statement.state.digests:",
        "if False:",
        (UNIT + "test_reader.py", UNIT + "test_publish_prompt.py"),
    ),
    Control(
        "blobs are on the disk before a node remembers them",
        "reader.py",
        "self._blobs.flush()",
        "pass",
        (UNIT + "test_reader.py::test_blobs_are_on_the_disk_before_a_node_remembers_that_it_serves_them",),
    ),
    # The publisher
    Control(
        "lost blobs are put back",
        "publisher.py",
        "mend_blobs(self._log.store, blobs)",
        "pass",
        (UNIT + "test_publish_prompt.py::test_publishing_what_is_served_puts_lost_blobs_back",),
    ),
    Control(
        "lost blobs are put back where Git is the authority",
        "publish_prompt.py",
        "mend_blobs(log.store, blobs)",
        "pass",
        (UNIT + "test_publish_prompt.py::test_publishing_what_is_served_puts_lost_blobs_back",),
    ),
    Control(
        "the key is the channel's",
        "publisher.py",
        "if allowed.get(key.keyid) != PublicKey.of(key):",
        "if False:",
        (UNIT + "test_publisher.py",),
    ),
    Control(
        "the clock is not behind",
        "publisher.py",
        "if now < created - CLOCK_SKEW_SECONDS:",
        "if False:",
        (UNIT + "test_publisher.py",),
    ),
    Control("times never go back", "publisher.py", "created=max(now, created)", "created=now", (UNIT + "test_publisher.py",)),
    Control(
        "the probe",
        "store.py",
        'if answer == "created":\n            raise',
        "if False:\n            raise",
        (UNIT + "test_store.py",),
    ),
    Control(
        "the probe is asked",
        "publisher.py",
        "                    probe_conditional_writes(self._log.store)\n                    kept",
        "                    kept",
        (UNIT + "test_publisher.py",),
    ),
    Control(
        "the journal is written",
        "publisher.py",
        "write_durably(self._journal, journal.to_bytes())",
        "pass",
        (UNIT + "test_publisher.py",),
    ),
    Control(
        "the journal is read",
        "publisher.py",
        "done = self._recover(decide, git_commit)",
        "done = None",
        (UNIT + "test_publisher.py",),
    ),
    Control(
        "the journal is of this commit", "publisher.py", "return left.git_commit == git_commit and not", "return not", (RECOVERY,)
    ),
    Control(
        "the journal is of these days",
        "publisher.py",
        "return left.git_commit == git_commit and not self._is_old(left)",
        "return left.git_commit == git_commit",
        (RECOVERY,),
    ),
    Control(
        "the journal's bytes are sent again",
        "publisher.py",
        "if found is None and self._follows_head(left.generation, decide):",
        "if False:",
        (RECOVERY,),
    ),
    Control(
        "... only where they follow the head",
        "publisher.py",
        "return left.previous == head.signed.digest and plan",
        "return plan",
        (RECOVERY,),
    ),
    Control(
        "the journal's state is what is asked for",
        "publisher.py",
        'return found == left.data and decide(left.generation).outcome == "unchanged"',
        "return found == left.data",
        (UNIT + "test_publisher.py",),
    ),
    Control("the lowest free number", "publisher.py", "if number not in head.taken)", ")", (TAMPERING,)),
    Control(
        "an old signature is renewed",
        "publisher.py",
        'if plan.outcome == "unchanged" and not self._is_old(head.signed.generation):',
        'if plan.outcome == "unchanged":',
        (UNIT + "test_publish_prompt.py", UNIT + "test_publisher.py", UNIT + "promotion/test_reconciler.py"),
    ),
    Control(
        "a refused plan is not published",
        "publisher.py",
        'if plan.outcome == "refused":',
        "if False:",
        (UNIT + "test_publish_prompt.py",),
    ),
    # The commit
    Control("a create is conditional", "store.py", ', IfNoneMatch="*")', ")", (UNIT + "test_store.py",)),
    Control(
        "a refusal may be for our own success", "commit.py", "return found == data", "return False", (UNIT + "test_publisher.py",)
    ),
    Control("another's bytes are not ours", "commit.py", "return found == data", "return True", (ORDERS,)),
    Control(
        "another's bytes read so twice",
        "commit.py",
        "found == ours or found in readings:",
        "True:",
        (
            INVARIANTS + "::test_i7_what_is_acknowledged_is_there_once_and_what_is_not_known_is_called_unknown",
            RECOVERY,
            "tests/reliability/test_commit.py",
        ),
    ),
    Control(
        "a certain failure is one",
        "commit.py",
        "if attempt == 1:\n                raise",
        "if False:\n                raise",
        (UNIT + "test_publisher.py",),
    ),
    Control(
        "unknown is said",
        "commit.py",
        "raise _unknown(store, key, error.actual, hint) from None\n        if answer",
        "return False\n        if answer",
        (
            INVARIANTS + "::test_i7_what_is_acknowledged_is_there_once_and_what_is_not_known_is_called_unknown",
            "tests/reliability/test_commit.py",
        ),
    ),
    # The store
    Control("an object's size", "store.py", "if length > max_bytes:", "if False:", (UNIT + "test_store.py",)),
    Control(
        "a write's checksum",
        "store.py",
        ', "ChecksumSHA256": _checksum(data)}',
        "}",
        (UNIT + "test_store.py", "tests/reliability/test_store_checks.py"),
    ),
    Control(
        "a missing bucket is no missing object",
        "store.py",
        'if error_code(error) == "NoSuchKey":',
        "if http_status(error) == 404:",
        (UNIT + "test_store.py",),
    ),
    Control(
        "an unclear create is said to be unclear",
        "s3_client.py",
        "status not in (408, 409, 429))",
        "True)",
        (UNIT + "test_store.py",),
    ),
    Control(
        "the order of commits",
        "promotion/checkout.py",
        "if before and not checkout.follows(before, now):",
        "if False:",
        (INVARIANTS + "::test_i11_a_later_commit_is_never_replaced_by_an_earlier_one",),
    ),
    Control(
        "a lock",
        "publisher.py",
        "with file_lock(self._lock):\n            done",
        "if True:\n            done",
        (RECOVERY,),
    ),
    # Review decisions
    Control(
        "an audit key is one of the trust root's",
        "audit/record.py",
        "key = next((allowed[key_id] for key_id in named if key_id in allowed), None)",
        "key = next((one for one in (*allowed.values(), *trust.keys_for(channel)) if one.keyid in named), None)",
        (AUDIT + "::test_a_key_that_is_not_for_audit_signs_no_decision",),
    ),
    Control(
        "an audit key's channels and its last record",
        "trust.py",
        "return channel in self.channels and number <= self.last_record.get(channel, number)",
        "return True",
        (AUDIT + "::test_a_key_for_another_channel_signs_nothing_here",),
    ),
    Control(
        "the signature of a review decision",
        "audit/record.py",
        "record = STATEMENT.read(envelope.verify(data, [key], source=source), source=source)",
        "record = STATEMENT.read(envelope.peek(data, source=source), source=source)",
        (AUDIT + "::test_altered_bytes_are_named_and_so_is_the_break_in_the_chain",),
    ),
    Control(
        "a review decision's channel and number",
        "audit/record.py",
        "if expected != actual:",
        "if False:",
        (AUDIT + "::test_a_record_in_anothers_place_is_named",),
    ),
    Control(
        "the kind of statement",
        "in_toto.py",
        "if kind != self.predicate_type:",
        "if False:",
        (AUDIT + "::test_an_audit_key_signs_no_generation",),
    ),
    Control(
        "the link to the review decision before",
        "audit/report.py",
        "if digest != record.previous:",
        "if False:",
        (AUDIT + "::test_a_record_that_its_signer_writes_anew_breaks_the_chain",),
    ),
    Control(
        "the order of review decisions in time",
        "audit/report.py",
        "if parse_time(record.decided) < parse_time(decided):",
        "if False:",
        (AUDIT + "::test_an_older_time_than_the_one_before_is_named",),
    ),
    Control(
        "review decisions that are passed over",
        "audit/report.py",
        "if passed_over:",
        "if False:",
        (AUDIT + "::test_passing_over_a_decision_that_verifies_is_named",),
    ),
    Control(
        "missing review decisions",
        "audit/report.py",
        "for number in range(1, max(found, default=0)) if number not in objects",
        "for number in ()",
        (AUDIT + "::test_a_missing_decision_is_named",),
    ),
    Control(
        "who may record a decision",
        "audit/log.py",
        "if allowed.get(key.keyid) != PublicKey.of(key):",
        "if False:",
        (AUDIT + "::test_a_key_under_another_keys_id_is_no_use",),
    ),
    Control(
        "the clock of a reviewer",
        "audit/log.py",
        "if before and now < decided - CLOCK_SKEW_SECONDS:",
        "if False:",
        (AUDIT + "::test_a_clock_that_is_behind_is_refused_and_a_little_behind_is_not",),
    ),
    Control(
        "a decision that is there already",
        "audit/log.py",
        "if known and known.record.judgement == judgement:",
        "if False:",
        (AUDIT + "::test_the_same_decision_again_is_no_second_one_and_another_is",),
    ),
    Control(
        "one key for both",
        "trust.py",
        "if publishing & audit:",
        "if False:",
        (UNIT + "test_trust.py::test_an_audit_key_that_publishes_or_is_for_no_channel_is_refused",),
    ),
)


def main(words: Sequence[str]) -> int:
    """Run, and say what is missed."""
    chosen = [control for control in CONTROLS if not words or any(word in control.name for word in words)]
    gone = [control.name for control in chosen if source_of(control).count(control.old) != 1]
    for name in gone:
        print(f"the text of this check is not in the source once: {name}")
    import_what_tests_need()
    tests = tuple(dict.fromkeys(test for control in chosen for test in control.tests))
    if run(None, tests) != 0:
        print("the tests fail with nothing taken out")
        return 1
    missed, start = [], time.perf_counter()
    for control in chosen:
        if control.name in gone:
            continue
        began = time.perf_counter()
        noticed = run(control, control.tests) == 1
        print(f"{'noticed' if noticed else 'MISSED':8}{time.perf_counter() - began:5.1f} s  {control.name}", flush=True)
        missed += [] if noticed else [control.name]
    seconds = time.perf_counter() - start
    print(f"{len(chosen) - len(missed) - len(gone)} of {len(chosen)} checks: a test fails without it; {seconds:.0f} s")
    return 1 if missed or gone else 0


def import_what_tests_need() -> None:
    """Everything heavy that is not ours, once for all forks."""
    import boto3  # noqa: F401
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import pydantic  # noqa: F401
    import pytest  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import securesystemslib.signer  # noqa: F401


def run(control: Control | None, tests: Sequence[str]) -> int:
    """The exit code of pytest in a fork without a check: 1 if a test failed, 0 if all passed."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 3
        try:
            status = _run_here(control, tests)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run_here(control: Control | None, tests: Sequence[str]) -> int:
    import hypothesis
    import pytest

    if control:
        _take_out(control)
    log = os.open(os.devnull if control else tempfile.mkstemp(prefix="release-controls-")[1], os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("same")
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", f"--rootdir={ROOT}"]
    for folder in (ROOT / "tests" / "unit" / "release", ROOT / "tests" / "reliability"):
        # Without the conftest.py of all tests, which imports the whole library.
        mine = [str(ROOT / test) for test in tests if (ROOT / test.split("::")[0]).is_relative_to(folder)]
        status = int(pytest.main([*options, f"--confcutdir={folder}", *mine])) if mine else 0
        if status:
            return status
    return 0


def source_of(control: Control) -> str:
    """The file that a check is in."""
    return (RELEASE / control.file).read_text()


def _take_out(control: Control) -> None:
    """Let the import of one file find it without the check."""
    plain, path = importlib.machinery.SourceFileLoader.get_code, str(RELEASE / control.file)

    def get_code(self: importlib.machinery.SourceFileLoader, name: str) -> object:
        if self.path != path:
            return plain(self, name)
        return compile(source_of(control).replace(control.old, control.new), path, "exec")

    importlib.machinery.SourceFileLoader.get_code = get_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
