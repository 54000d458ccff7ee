"""The training page: every candidate is in the table and in the curves, the doubts stand on top, sums are right."""

import re

import pytest

from softprompt.resolve import resolve_recipe
from softprompt.tuning.report import name_of, role_of, winner_of, write_training_report
from softprompt.tuning.training_log import (
    CandidateResult,
    Measurement,
    SeedSpread,
    TradeOff,
    TradeOffPoint,
    TrainingLog,
)
from tests.builders import write_recipe

STEPS = {0: (5, 10, 20), 1: (5,), 2: (5, 10), 3: (5, 10, 20)}
"""Looks of each run: 1 was dropped at 5, 2 at 10; 3 repeats 0 with another seed and wins."""


def look(candidate, step, accuracy):
    return Measurement(
        candidate=candidate,
        step=step,
        training_loss=3.0 / step,
        validation_loss=4.0 / step,
        validation_accuracy=accuracy,
        learning_rate=0.5,
        tokens_per_second=100.0,
        seconds=float(step),
    )


def result(candidate, **changes):
    steps = STEPS[candidate]
    fields = {
        "seed": candidate,
        "num_tokens": 4,
        "learning_rate": 0.5,
        "init": "frequent_tokens",
        "steps": steps[-1],
        "dropped_at": None,
        "repeats": None,
        "best_step": steps[-1],
        "validation_loss": 4.0 / steps[-1],
        "validation_accuracy": 0.5 + candidate / 10,
        "seconds": 1.0,
    }
    return CandidateResult(candidate=candidate, **fields | changes)


def log(**changes):
    candidates = (result(0), result(1, dropped_at=5, init="random"), result(2, dropped_at=10), result(3, seed=7, repeats=0))
    fields = {
        "prompt": "1" * 64,
        "kind": "shallow",
        "strategy": "shared_prefix",
        "loss": "answers",
        "optimiser": "adafactor",
        "num_workers": 1,
        "num_training_rows": 900,
        "num_validation_rows": 150,
        "trainable_parameters": 128,
        "total_parameters": 36_000,
        "added_memory_share": 128 / 36_000,
        "base_digest_before": "2" * 64,
        "base_digest_after": "2" * 64,
        "embedding_rms": 0.25,
        "numerics": "float32",
        "seconds": 12.0,
        "tokens_per_second": 1234.0,
        "winner": 3,
        "best_step": 20,
        "candidates": candidates,
        "measurements": tuple(look(run, step, 0.5 + run / 10) for run, steps in STEPS.items() for step in steps),
        "seeds": SeedSpread(metric="accuracy", values=(0.5, 0.8), mean=0.65, standard_deviation=0.212, vote=0.84),
        "warnings": (),
    }
    return TrainingLog(**fields | changes)


def one(accuracy):
    found = result(0, validation_accuracy=accuracy)
    looks = tuple(look(0, step, accuracy) for step in STEPS[0])
    loss = "answers" if accuracy is not None else "likelihood"
    return log(candidates=(found,), measurements=looks, winner=0, seeds=None, loss=loss)


@pytest.fixture(scope="module")
def resolved(tmp_path_factory, llama_directory):
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "rows.jsonl").write_text('{"text": "ruby", "colour": "red"}\n')
    return resolve_recipe(str(write_recipe(folder / "recipe.yaml", llama_directory, folder / "rows.jsonl")))


@pytest.fixture
def page(resolved, tmp_path):
    def write(found):
        write_training_report(tmp_path / "training.html", resolved, found)
        return (tmp_path / "training.html").read_text()

    return write


def rows_of(text):
    """The candidates' table as lists of cells without markup."""
    body = text.split("<h2>Candidates</h2>")[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr.*?>(.*?)</tr>", body, re.DOTALL)
    return [[re.sub(r"<.*?>", " ", cell).strip() for cell in re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_every_candidate_is_in_the_table_with_how_it_ended(page):
    first, second, third, repetition = rows_of(page(log()))
    assert first == ["1", "0", "4", "frequent tokens", "0.5", "20", "20", "0.200", "0.500", "1", "at its last step"]
    assert (second[3], second[-1]) == ("random", "dropped at 5")
    assert third[-1] == "dropped at 10"
    assert (repetition[0], repetition[1], repetition[-1]) == ("1, seed 7", "7", "kept")


def test_every_run_is_a_line_in_every_panel_and_ends_where_it_was_dropped(page):
    spoken = re.findall(r'aria-label="([^"]*)"', page(log()))
    assert len(spoken) == 2
    losses, accuracies = spoken
    for name, role, last in [("1", "finished", 20), ("2", "dropped", 5), ("3", "dropped", 10), ("1, seed 7", "winner", 20)]:
        assert f"training loss, nats a row of {name} ({role}) from 0.600 to {3 / last:.3f}" in losses
        assert f"validation loss, nats a row of {name} ({role}) from 0.800 to {4 / last:.3f}" in losses
        assert f"validation accuracy of {name} ({role})" in accuracies


def test_one_candidate_shows_both_losses_in_one_picture(page):
    text = page(one(0.9))
    losses, accuracy = re.findall(r'aria-label="([^"]*)"', text)
    assert "training from 0.600 to 0.150; validation from 0.800 to 0.200" in losses
    assert accuracy == "validation accuracy over step: validation from 0.900 to 0.900"
    assert len(rows_of(text)) == 1


def test_where_answers_are_open_there_is_no_accuracy(page):
    text = page(one(None))
    assert text.count("<svg") == 1
    assert "accuracy" not in text
    assert "nats a token" in text


def test_doubts_stand_on_top_and_a_candidates_own_in_its_row(page):
    found = log(warnings=("First <doubt>.", "Second."), candidates=(*log().candidates[:3], result(3, warnings=("It exploded.",))))
    text = page(found)
    assert "2 things are doubtful" in text
    assert text.index("First &lt;doubt&gt;.") < text.index("<svg")
    assert rows_of(text)[3][-1].endswith("It exploded.")
    assert "Nothing doubtful" in page(log())


@pytest.mark.parametrize(
    ("vote", "said"),
    [
        (0.84, "0.840 of the validation rows: it would add +4.0 points"),
        (0.8, "it would add nothing"),
        (0.75, "-5.0 points"),
        (None, ""),
    ],
)
def test_the_spread_over_seeds_and_what_a_vote_adds_to_the_one_that_is_kept(page, vote, said):
    text = page(log(seeds=SeedSpread(metric="accuracy", values=(0.5, 0.8), mean=0.65, standard_deviation=0.212, vote=vote)))
    assert "2 seeds of the chosen setting reach a validation accuracy of 0.500, 0.800: 0.650 on average" in text
    assert said in text
    assert ("vote" in text) == (vote is not None)


def test_what_it_took_is_told_in_numbers(page):
    text = page(log())
    for fact in (
        "0.800",
        "128 numbers trained",
        "0.4 %",
        "1,234 tokens a second",
        "adafactor",
        "shared prefix",
        "not one bit changed",
    ):
        assert fact in text, fact
    assert "CHANGED" in page(log(base_digest_after="3" * 64))


def test_noise_on_the_input_is_told_where_there_was_some(page):
    assert "noise" not in page(log())
    text = page(log(input_noise=0.1))
    assert "10.0 % of the tokens" in text
    assert "of rows with noise on their input; validation rows have none." in text


def test_the_winner_is_the_logs(page):
    found = log()
    assert winner_of(found).candidate == 3
    assert [role_of(each, found) for each in found.candidates] == ["finished", "dropped", "dropped", "winner"]
    assert [name_of(each) for each in found.candidates] == ["1", "2", "3", "1, seed 7"]


def test_the_page_loads_nothing(page):
    assert not re.search(r'(src|href)="(?!#|data:)', page(log()))


def trade_off(**changes):
    points = (
        TradeOffPoint(candidate=0, weight=0.0, accuracy=(0.86, 0.84, 0.88), gap=(0.50, 0.45, 0.55)),
        TradeOffPoint(candidate=3, weight=10.0, accuracy=(0.85, 0.83, 0.87), gap=(0.05, 0.02, 0.08)),
    )
    fields = {
        "column": "region",
        "criterion": "equalised_odds",
        "method": "gap",
        "label": "",
        "num_rows_by_group": {"uk": 300, "us": 1200},
        "max_accuracy_loss": 2.0,
        "points": points,
        "kept": 3,
    }
    return TradeOff(**fields | changes)


def test_fairness_shows_each_weight_what_was_kept_and_what_it_cost(page):
    text = page(log(fairness=trade_off()))
    part = text.split("<h2>Fairness</h2>")[1].split("<h2>Candidates</h2>")[0]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(<td.*?)</tr>", part)]
    assert rows[0] == ["1", "0", "0.500", "0.450 to 0.550", "0.860", "0.840 to 0.880", ""]
    assert rows[1][:3] == ["1, seed 7", "10", "0.050"]
    assert "kept" in rows[1][-1]
    assert "Kept: the smallest gap among those within 2 points of the best accuracy." in part
    assert "Beside weight 0 the gap changes by -45.0 points and the accuracy by -1.0." in part
    assert "uk 300, us 1,200" in part
    assert "equalised odds: weight 0 0.500, 0.860; weight 10 0.050, 0.850" in part


def test_one_weight_is_shown_without_a_rule(page):
    alone = trade_off(points=trade_off().points[1:], max_accuracy_loss=None)
    assert "One weight was asked for" in page(log(fairness=alone))
    assert "<h2>Fairness</h2>" not in page(log())
