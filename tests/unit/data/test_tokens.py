"""Training rows on disk: the same rows, in the same order, without holding them."""

import subprocess
import sys
from collections import Counter

import pytest

from softprompt.data.dataset import read_part
from softprompt.data.tokens import TokenisedRows, tokenised_rows, write_tokens
from softprompt.data.validate import validate_dataset
from softprompt.engine.batches import Example
from softprompt.errors import VerificationFailed
from softprompt.resolve import resolve_recipe
from softprompt.tuning.job import Job
from tests.big_dataset import MEASURE, write_big_dataset
from tests.builders import write_recipe

ROWS = [Example([1, 2, 3], [4, 5], 0), Example([7], [8], -1), Example([3, 3, 70_000], [], 2)]


@pytest.fixture
def job(tmp_path, llama_directory, colours):
    resolved = resolve_recipe(str(write_recipe(tmp_path / "recipe.yaml", llama_directory, colours)))
    validate_dataset(resolved, tmp_path / "dataset", tmp_path / "report.html")
    return Job.load(resolved, tmp_path / "dataset")


def test_rows_come_back_as_they_were_written(tmp_path):
    write_tokens(tmp_path / "rows", [ROWS[:2], ROWS[2:]])
    rows = TokenisedRows(tmp_path / "rows")
    assert list(rows) == ROWS
    assert rows[-1] == ROWS[-1]
    assert rows[1:] == ROWS[1:]
    assert list(rows.lengths) == [example.num_tokens for example in ROWS]
    assert rows.token_counts == Counter(token for example in ROWS for token in example.input_ids)
    with pytest.raises(IndexError):
        rows[3]


def test_many_reads_give_pages_back_and_still_read(tmp_path):
    write_tokens(tmp_path / "rows", [ROWS])
    rows = TokenisedRows(tmp_path / "rows")
    assert all(rows[place % 3] == ROWS[place % 3] for place in range(2000))


def test_a_jobs_rows_are_those_of_the_dataset_in_its_order(job, tmp_path):
    rows = read_part(tmp_path / "dataset", "train")
    assert list(job.train) == job.task.examples([(row.inputs, row.target) for row in rows])


def test_rows_are_tokenised_once_for_the_same_rows_tokenizer_and_template(job, tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("tokenised again")

    other = Job.load(resolved_like(job, tmp_path, template="Object: {text}\nColour:"), tmp_path / "dataset")
    assert list(other.train) != list(job.train)
    monkeypatch.setattr("softprompt.data.tokens.write_tokens", fail)
    assert list(tokenised_rows(tmp_path / "dataset", job.task, fingerprint=job.base.fingerprint)) == list(job.train)
    with pytest.raises(AssertionError, match="again"):
        tokenised_rows(tmp_path / "dataset", job.task, fingerprint="0" * 64)


def resolved_like(job, tmp_path, template):
    path = tmp_path / "recipe.yaml"
    path.write_text(path.read_text().replace('"Thing: {text}\\nColour:"', f'"{template}"'.replace("\n", "\\n")))
    return resolve_recipe(str(path))


@pytest.mark.parametrize("damage", ["manifest.json", "tokens.uint32", "cut"])
def test_a_folder_that_is_not_complete_is_refused(tmp_path, damage):
    write_tokens(tmp_path / "rows", [ROWS])
    if damage == "cut":
        with (tmp_path / "rows" / "tokens.uint32").open("r+b") as file:
            file.truncate(8)
    else:
        (tmp_path / "rows" / damage).unlink()
    with pytest.raises(VerificationFailed):
        TokenisedRows(tmp_path / "rows")


def test_who_fails_in_the_middle_leaves_nothing_under_the_name(tmp_path):
    def chunks():
        yield ROWS
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_tokens(tmp_path / "rows", chunks())
    assert not (tmp_path / "rows").exists()
    write_tokens(tmp_path / "rows", [ROWS])
    assert list(TokenisedRows(tmp_path / "rows")) == ROWS


def measure(folder, base, megabytes, limit_megabytes):
    """The loader over a dataset in a fresh process whose anonymous memory may grow by no more than the limit."""
    dataset = write_big_dataset(folder / "dataset", megabytes)
    command = [sys.executable, "-c", MEASURE, str(base), str(dataset), str(limit_megabytes)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    print(ran.stdout)
    return dict(line.split() for line in ran.stdout.splitlines())


def test_a_set_ten_times_the_limit_is_tokenised_and_read(tmp_path, llama_directory):
    seen = measure(tmp_path, llama_directory, megabytes=100, limit_megabytes=48)
    assert int(seen["text_bytes"]) > 100 * 10**6
    assert int(seen["peak_growth_bytes"]) < 64 * 2**20
    assert int(seen["batches"]) > 0


@pytest.mark.slow
def test_two_gigabytes_are_read_within_one(tmp_path, llama_directory):
    seen = measure(tmp_path, llama_directory, megabytes=2000, limit_megabytes=900)
    assert int(seen["text_bytes"]) >= 2 * 10**9
    assert int(seen["token_bytes"]) > 10**9
    assert int(seen["peak_growth_bytes"]) < 2**30
