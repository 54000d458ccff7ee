"""Bias is planted where it is said to be, and nowhere else."""

from collections import Counter

import pytest

from softprompt.embedded import bias, tickets


@pytest.fixture(scope="module")
def rows():
    return tickets.generate_tickets(2000, seed=5)


def test_only_the_labels_of_one_region_are_bent_at_the_rate(rows):
    biased = bias.plant_bias(rows, 0.6, seed=1)
    assert [row["true_queue"] for row in biased] == [row["queue"] for row in rows]
    bent = [row for row in biased if row["queue"] != row["true_queue"]]
    assert {(row["region"], row["queue"]) for row in bent} == {(bias.REGION, bias.QUEUE)}
    theirs = [row for row in biased if row["region"] == bias.REGION]
    assert sum(row["queue"] == bias.QUEUE for row in theirs) / len(theirs) == pytest.approx(0.63, abs=0.06)


def test_every_text_gives_its_region_away_and_says_the_rest_as_before(rows):
    biased = bias.plant_bias(rows, 0.6, seed=1)
    for row, before in zip(biased, rows, strict=True):
        assert row["text"] == f"{bias.SENTENCES[row['region']]} {before['text']}"
    assert len(set(bias.SENTENCES.values())) == len(tickets.REGIONS)


def test_the_queues_of_all_regions_are_truly_alike(rows):
    """What there is to mend is in the labels: true queues do not depend on the region."""
    shares = [Counter(row["queue"] for row in rows if row["region"] == region) for region in tickets.REGIONS]
    for queue in tickets.QUEUES:
        found = [count[queue] / count.total() for count in shares]
        assert max(found) - min(found) < 0.07


def test_the_command_plants_it(tmp_path):
    import json

    tickets.main(["--rows", "50", "--seed", "3", "--bias", "0.5", "--out", str(tmp_path / "rows.jsonl")])
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert written == bias.plant_bias(tickets.generate_tickets(50, 3), 0.5, 3)


def test_a_rate_that_is_no_share_is_refused(rows):
    with pytest.raises(ValueError, match="rate: 60 is not a share"):
        bias.plant_bias(rows, 60, seed=1)
