"""The embedded questions: the same bytes from the same seed, and answers that the rows themselves hold."""

import json
from collections import Counter

import pytest

from softprompt.embedded import answers, faq

MADE = {faq: faq.generate_questions, answers: answers.generate_answers}


@pytest.mark.parametrize("module", MADE)
def test_the_shipped_dataset_is_made_again_byte_for_byte(module, tmp_path):
    module.main(["--out", str(tmp_path / "again.jsonl")])
    assert (tmp_path / "again.jsonl").read_bytes() == module.DATASET.read_bytes()
    assert module.DATASET.stat().st_size <= 400_000
    assert f"--rows {module.DATASET_ROWS} --seed {module.DATASET_SEED}" in module.__doc__


@pytest.mark.parametrize("module", MADE)
def test_another_seed_makes_other_rows_and_no_text_comes_twice(module):
    make, text = MADE[module], "question" if module is faq else "passage"
    rows = make(200, 3)
    assert make(200, 3) == rows
    assert len({row[text] for row in rows}) == len({row["id"] for row in rows}) == 200
    assert not {row[text] for row in rows} & {row[text] for row in make(200, 4)}


def test_every_page_is_asked_for():
    counts = Counter(row["article"] for row in map(json.loads, faq.DATASET.read_text().splitlines()))
    assert set(counts) == set(faq.ARTICLES.values())
    assert len(counts) == 14
    assert min(counts.values()) >= 40


def test_an_answer_is_words_of_the_passage_or_says_that_there_are_none():
    rows = [json.loads(line) for line in answers.DATASET.read_text().splitlines()]
    for row in rows:
        assert row["question"] == answers.QUESTIONS[row["asked"]]
        if row["answer"] == answers.NOT_SAID:
            assert row["asked"] == "when", "what is done is always said"
        else:
            assert row["answer"] in row["passage"].split("\nReply: ")[1]
    share = sum(row["answer"] == answers.NOT_SAID for row in rows) / len(rows)
    assert 0.15 < share < 0.35
    assert len({row["answer"] for row in rows}) == 20
