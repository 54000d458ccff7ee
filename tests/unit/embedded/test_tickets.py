"""The embedded dataset: the same bytes from the same seed, rows as promised, planted faults where the truth says."""

import json
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from softprompt.embedded import faults, phrases, tickets
from softprompt.embedded.messages import MAX_WORDS, MIN_WORDS, REGIONS


@pytest.fixture(scope="module")
def rows():
    return tickets.generate_tickets(400, seed=3)


def test_shipped_dataset_is_made_again_byte_for_byte(tmp_path):
    tickets.main(["--out", str(tmp_path / "again.jsonl")])
    assert (tmp_path / "again.jsonl").read_bytes() == tickets.DATASET.read_bytes()
    assert tickets.DATASET.stat().st_size <= 700_000


def test_docstring_names_the_command_that_made_the_shipped_dataset():
    assert f"--rows {tickets.DATASET_ROWS} --seed {tickets.DATASET_SEED}" in tickets.__doc__


def test_same_seed_same_rows_other_seed_other_rows(rows):
    assert tickets.generate_tickets(400, seed=3) == rows
    assert not {row["text"] for row in rows} & {row["text"] for row in tickets.generate_tickets(400, seed=4)}


def test_rows_have_the_promised_columns_and_lengths(rows):
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == ["id", "text", "queue", "region", "reply"]
        assert MIN_WORDS <= len(row["text"].split()) <= MAX_WORDS, row["text"]
        assert row["queue"] in tickets.QUEUES
        assert row["region"] in REGIONS


def test_no_template_notation_is_left_in_a_text(rows):
    for row in rows:
        assert not set("{}<>|") & set(row["text"] + row["reply"]), row


def test_every_queue_and_region_is_well_filled():
    rows = tickets.generate_tickets(tickets.DATASET_ROWS, tickets.DATASET_SEED)
    assert min(Counter(row["queue"] for row in rows).values()) >= 60
    assert min(Counter(row["region"] for row in rows).values()) >= 300
    assert len(tickets.QUEUES) >= 12


def test_queues_share_their_vocabulary():
    rows = tickets.generate_tickets(1500, seed=5)
    spoken_in = {
        word: {row["queue"] for row in rows if word in row["text"].lower()} for word in ("refund", "order", "delivery", "invoice")
    }
    assert all(len(queues) >= 5 for queues in spoken_in.values()), spoken_in


def test_a_reply_names_the_order_when_the_message_does_and_asks_for_it_otherwise(rows):
    for row in rows:
        numbers = [word for word in row["reply"].replace(";", "").replace(".", "").replace(",", "").split() if word.isdigit()]
        assert all(number in row["text"] for number in numbers), row
        assert ("Which order number" not in row["reply"]) or not numbers


def test_import_is_light():
    heavy = {"torch", "numpy", "transformers", "pydantic"}
    code = f"import sys, softprompt.embedded.tickets; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("template", ["a {b", "a } b", "a | b", "{a|{b}"])
def test_a_template_with_a_brace_or_bar_astray_is_refused(template):
    with pytest.raises(ValueError, match="template"):
        phrases.parse(template)


def test_every_template_of_the_bank_expands():
    bank, facts, rng = phrases.load_bank("phrases"), phrases.draw_facts("us", Random(0)), Random(1)
    for situation in bank["situations"].values():
        for template in situation["happened"] + situation["asks"]:
            for _ in range(5):
                assert not set("{}<>|") & set(phrases.expand(template, facts, rng))


def test_regions_word_the_same_things_differently():
    assert phrases.spell("Grey colour, discoloured", "us") == "Gray color, discoloured"
    assert phrases.spell("Grey colour", "uk") == "Grey colour"


ALL = [*faults.KINDS]


@pytest.fixture(scope="module")
def planted(rows):
    return faults.plant_faults(rows, ALL, seed=1, num_each=4)


def test_faults_leave_the_rows_alone_and_repeat_with_the_seed(rows, planted):
    before = json.dumps(rows)
    assert faults.plant_faults(rows, ALL, seed=1, num_each=4) == planted
    assert json.dumps(rows) == before
    assert faults.plant_faults(rows, ALL, seed=2, num_each=4) != planted


def test_each_kind_has_its_own_lines(rows, planted):
    lines, truth = planted
    assert set(truth) == set(ALL)
    assert all(len(numbers) == (8 if kind == "conflicts" else 4) for kind, numbers in truth.items())
    assert len({number for numbers in truth.values() for number in numbers}) == 4 * len(ALL) + 4
    assert len(lines) == len(rows) + 4 * len(faults.COPY_KINDS)


def test_lines_without_a_fault_are_the_sound_rows_in_order(rows, planted):
    lines, truth = planted
    faulty = {number for numbers in truth.values() for number in numbers}
    sound = [json.loads(line) for number, line in enumerate(lines, 1) if number not in faulty]
    by_id = {row["id"]: row for row in rows}
    assert [row["id"] for row in sound if row["id"] in by_id] == sorted(row["id"] for row in sound if row["id"] in by_id)
    sound = [row for row in sound if row["id"] in by_id]
    assert all({key: row[key] for key in by_id[row["id"]]} == by_id[row["id"]] for row in sound)
    leaking = len(rows) - len(sound) - 4 * len(faults.CHANGE_KINDS) - 4
    assert 0 <= leaking <= 8, "originals that are faulty themselves: of conflicts, and of leaks the ones that are in training"


def parsed(planted, kind):
    lines, truth = planted
    return [json.loads(lines[number - 1]) for number in truth[kind]]


def originals(planted, kind):
    """(original, copy) pairs of a kind, by the ids of the copies."""
    lines, truth = planted
    broken = {number for name in faults.BROKEN_KINDS for number in truth[name]}
    found = [json.loads(line) for number, line in enumerate(lines, 1) if number not in broken]
    by_id = {row["id"]: (number, row) for number, row in enumerate(found)}
    for name, (number, copy) in by_id.items():
        if f"-{kind}-" in name:
            before, original = by_id[name.partition(f"-{kind}-")[0]]
            assert before < number, "a copy stands behind its original"
            yield original, copy


def test_planted_copies_are_what_their_kind_says(planted):
    lines, truth = planted
    for kind in faults.COPY_KINDS:
        pairs = list(originals(planted, kind))
        assert len(pairs) == 4
        for original, copy in pairs:
            assert (original["text"] == copy["text"]) == (not kind.startswith("near"))
            assert copy["text"].startswith(original["text"])
            assert (original["queue"] != copy["queue"]) == (kind == "conflicts")
            assert (original["split"] != copy["split"]) == ("leakage" in kind)
        named = [json.loads(lines[number - 1]) for number in truth[kind]]
        assert "leakage" not in kind or all(row["split"] == "train" for row in named), "the rows that must go"
        assert kind == "conflicts" or len(named) == 4


def test_wrong_labels_are_other_queues(rows, planted):
    queues = {row["id"]: row["queue"] for row in rows}
    assert all(row["queue"] != queues[row["id"]] and row["queue"] in tickets.QUEUES for row in parsed(planted, "wrong_labels"))


def test_broken_rows_are_broken_as_their_kind_says(planted):
    lines, truth = planted
    for number in truth["invalid_json"]:
        with pytest.raises(json.JSONDecodeError):
            json.loads(lines[number - 1])
    assert all(not {"text", "queue"} <= set(row) for row in parsed(planted, "missing_column"))
    for number in [number for kind in ("invisible_text", "long_line", "nesting") for number in truth[kind]]:
        assert json.loads(lines[number - 1])
    assert all(row["text"] != row["text"] for row in parsed(planted, "nan"))
    assert all(not row["text"].strip() for row in parsed(planted, "empty_text"))
    assert all(not isinstance(row["text"], str) for row in parsed(planted, "wrong_type"))


def test_broken_stands_for_all_broken_kinds(rows):
    assert set(faults.plant_faults(rows, ["broken"], seed=0)[1]) == set(faults.BROKEN_KINDS)


def test_without_leakage_there_is_no_split_column(rows):
    lines, _ = faults.plant_faults(rows, ["duplicates"], seed=0)
    assert not any("split" in json.loads(line) for line in lines)


def test_unknown_kinds_and_too_few_rows_are_refused(rows):
    with pytest.raises(ValueError, match="unknown fault kinds"):
        faults.plant_faults(rows, ["duplicates", "gremlins"], seed=0)
    with pytest.raises(ValueError, match="cannot carry"):
        faults.plant_faults(rows[:5], ["duplicates", "nan"], seed=0)


def test_command_writes_faults_and_their_truth(tmp_path):
    out = tmp_path / "faulty.jsonl"
    tickets.main(["--rows", "80", "--seed", "2", "--out", str(out), "--faults", "duplicates", "broken"])
    truth = json.loads((tmp_path / "faulty.jsonl.truth.json").read_text())
    lines, expected_truth = tickets.plant_faults(tickets.generate_tickets(80, 2), ["duplicates", "broken"], 2)
    assert truth == expected_truth
    assert out.read_text(encoding="utf-8").splitlines() == lines
