"""Wrong labels: planted ones are found, right ones left alone, and what was not judged is told."""

import warnings

import numpy as np
import pytest
from cleanlab.filter import find_label_issues

from softprompt.data.statistics.calibration import calibrated, margins
from softprompt.data.statistics.sampling import number_labels
from softprompt.data.statistics.wrong_labels import likely_wrong_labels, out_of_sample_probabilities


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_flipped_labels_are_found_and_few_others(tickets, flip_labels, seed):
    texts, right = tickets
    labels, flipped = flip_labels(right, 0.02, seed)
    found = likely_wrong_labels(texts, labels, seed=seed).found
    hits = [issue for issue in found if issue.row in flipped]
    assert len(hits) >= 0.8 * len(flipped)
    assert len(hits) >= 0.8 * len(found)
    assert sum(issue.suggested == right[issue.row] for issue in hits) >= 0.9 * len(hits)
    assert all(issue.given == labels[issue.row] for issue in found)
    assert [issue.confidence for issue in found] == sorted((issue.confidence for issue in found), reverse=True)


def test_clean_tickets_are_left_alone(tickets):
    result = likely_wrong_labels(*tickets, seed=0)
    assert len(result.found) <= 0.01 * len(tickets[0])
    assert result.num_judged == result.num_rows == 1500
    assert result.accuracy > 0.95


def test_labels_that_the_text_does_not_tell_are_not_called_wrong(tickets):
    labels = np.random.default_rng(0).choice(["yes", "no"], len(tickets[0])).tolist()
    _, ids = number_labels(labels)
    alone = find_label_issues(ids, out_of_sample_probabilities(tickets[0], ids, 2, np.arange(1500), 0), n_jobs=1)
    assert alone.mean() > 0.3, "confident learning alone does call them wrong"
    assert likely_wrong_labels(tickets[0], labels, seed=0).found == ()


def test_it_is_confident_learning_with_a_margin(tickets, flip_labels):
    labels, _ = flip_labels(tickets[1], 0.05, 1)
    _, ids = number_labels(labels)
    raw = out_of_sample_probabilities(tickets[0], ids, 14, np.arange(1500), 1)
    probabilities, _ = calibrated(np.log(raw), ids)
    issues, (_, margin) = find_label_issues(ids, probabilities, n_jobs=1), margins(probabilities, ids)
    expected = set(np.flatnonzero((issues & (margin >= 0.5)) | (margin >= 0.8)).tolist())
    assert {issue.row for issue in likely_wrong_labels(tickets[0], labels, seed=1).found} == expected


def test_a_duplicate_does_not_vouch_for_its_twin(tickets, flip_labels):
    labels, flipped = flip_labels(tickets[1][:800], 0.02, 0)
    texts, doubled, groups = tickets[0][:800] * 2, labels * 2, list(range(800)) * 2
    alone = {issue.row for issue in likely_wrong_labels(texts, doubled, seed=0).found}
    grouped = {issue.row for issue in likely_wrong_labels(texts, doubled, seed=0, groups=groups).found}
    twins = flipped | {row + 800 for row in flipped}
    assert len(grouped & twins) >= 0.8 * len(twins)
    assert len(alone & twins) < 0.5 * len(grouped & twins)


def test_rare_labels_are_left_out_and_told():
    texts = [f"red number {number}" for number in range(20)] + [f"blue number {number}" for number in range(20)] + ["green"] * 4
    result = likely_wrong_labels(texts, ["red"] * 20 + ["blue"] * 20 + ["green"] * 4, seed=0)
    assert (result.left_out, result.num_judged, result.num_rows) == (("green",), 40, 44)
    assert "fewer than 5 different rows: green" in result.sentence()
    groups = [*range(20), *[20] * 20, *range(21, 25)]
    assert likely_wrong_labels(texts, ["red"] * 20 + ["blue"] * 20 + ["green"] * 4, seed=0, groups=groups).left_out == (
        "blue",
        "green",
    )


@pytest.mark.parametrize("rows", [([], []), (["a"], ["x"]), (["a"] * 50, ["x"] * 50), ([""] * 50, ["x", "y"] * 25)])
def test_nothing_to_judge_is_no_crash(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert likely_wrong_labels(*rows, seed=0).found == ()


def test_a_sample_is_told_and_its_rows_are_those_of_the_whole(tickets, flip_labels):
    labels, flipped = flip_labels(tickets[1], 0.02, 0)
    result = likely_wrong_labels(tickets[0], labels, seed=0, most_rows=1000)
    assert "of 1,000 judged rows" in result.sentence()
    assert "(1,500 rows in all)" in result.sentence()
    assert result.found
    assert sum(issue.row in flipped for issue in result.found) >= 0.6 * len(result.found)
    assert result == likely_wrong_labels(tickets[0], labels, seed=0, most_rows=1000)


@pytest.mark.slow
def test_known_errors_of_banking77_are_found(messages):
    """Rows whose label a reader finds wrong at once."""
    result = likely_wrong_labels(*messages, seed=0)
    found = {(messages[0][issue.row], issue.given, issue.suggested) for issue in result.found[:20]}
    assert ("What currencies can I use to top up my account?", "transfer_into_account", "supported_cards_and_currencies") in found
    assert ("can i get a virtual card", "get_disposable_virtual_card", "getting_virtual_card") in found
    assert len(result.found) < 0.05 * len(messages[0])
