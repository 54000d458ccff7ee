"""The pretraining text: made anew from its seed, and without a row of the embedded dataset."""

import json

import pytest

from softprompt.embedded import corpus, tickets
from softprompt.embedded.phrases import load_bank


@pytest.fixture(scope="module")
def documents():
    return corpus.generate_corpus(1500, seed=5)


def test_same_seed_same_documents_other_seed_other_documents(documents):
    assert corpus.generate_corpus(1500, seed=5) == documents
    assert len(set(corpus.generate_corpus(300, seed=6)) & set(documents)) < 30, "short documents may coincide, not many"


def test_no_row_of_the_dataset_occurs_in_what_the_base_was_trained_on():
    """The whole corpus and every row, compared without the filter that the generator itself uses."""
    text = "\x00".join(" ".join(document.lower().split()) for document in corpus.generate_corpus())
    rows = [json.loads(line) for line in tickets.DATASET.read_text(encoding="utf-8").splitlines()]
    found = [row["id"] for row in rows if " ".join(row["text"].lower().split()) in text]
    assert len(text) > 5_000_000
    assert found == []


def test_a_planted_row_is_left_out(documents, tmp_path):
    """Evidence that the filter works: messages of the corpus, declared to be the dataset, vanish from it."""
    planted = [document for document in documents if len(document.split()) > 20][:5]
    held_out = tmp_path / "rows.jsonl"
    held_out.write_text("".join(json.dumps({"text": text.upper()}) + "\n" for text in planted))
    again = corpus.generate_corpus(1500, seed=5, dataset=held_out)
    assert not set(planted) & set(again)
    assert len(again) >= len(documents) - 10


def test_a_text_inside_a_longer_document_is_found_whatever_its_case_and_spaces():
    known = corpus.TextFilter(["The kettle  arrived with a broken lid today", "too short"])
    assert known.matches("Ticket 3\nTHE KETTLE arrived\nwith a broken lid today, again")
    assert known.matches("this is too short")
    assert not known.matches("The kettle arrived with a broken handle today")


def test_desk_names_are_never_the_dataset_queue_names(documents):
    rng = corpus.Random(1)
    assert not {corpus.draw_desk_name(rng) for _ in range(5000)} & set(tickets.QUEUES)


def test_two_queue_names_are_labels_of_the_corpus_too_and_no_other_is():
    """As company.toml and the model card say."""
    topics = load_bank("corpus")["topics"].values()
    labels = {label.lower() for topic in topics for field in ("topic", "team") for label in topic[field]}
    assert labels & set(tickets.QUEUES) == {"payouts", "packing"}


def test_no_template_notation_is_left(documents):
    for document in documents:
        assert not set("{}<") & set(document), document


def test_every_kind_of_document_occurs(documents):
    joined = "\n\n".join(documents)
    for mark in ("Topic:", "Team:", "Reply:", "Desks", "Answer:"):
        assert mark in joined, mark
