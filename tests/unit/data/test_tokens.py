"""Training rows on disk: the same rows, in the same order, without holding them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

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

ROOT = Path(__file__).resolve().parents[3]
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


def measure(source, limit_megabytes, *arguments):
    """The loader in a fresh process whose private memory may grow by no more than the limit: what the process says of itself."""
    command = [sys.executable, "-c", MEASURE, source, limit_megabytes, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in [str(ROOT), os.environ.get("PYTHONPATH")] if path)}
    ran = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    print(ran.stdout)
    return {name: int(value) for name, value in map(str.split, ran.stdout.splitlines())}


def test_memory_does_not_grow_with_the_rows(tmp_path):
    seen = measure("tokens", 24, tmp_path / "rows", tmp_path, 60)
    assert seen["token_bytes"] > 60 * 10**6
    assert seen["batches"] == -(-seen["rows"] // 32)
    assert seen["anonymous_growth_bytes"] < 24 * 2**20
    assert seen["peak_growth_bytes"] < 24 * 2**20 + 40 * 2**20, "the rest is at most what is mapped of the files"


def test_text_is_tokenised_a_piece_at_a_time(tmp_path, llama_directory):
    dataset = write_big_dataset(tmp_path / "dataset", megabytes=24)
    seen = measure("text", 512, llama_directory, dataset)
    assert seen["token_bytes"] > 48 * 10**6
    assert seen["peak_growth_while_writing_bytes"] < 64 * 2**20, "its tokens alone would be lists of 100 MB"


@pytest.mark.slow
def test_two_gigabytes_of_tokens_in_less_than_one_of_memory(tmp_path):
    seen = measure("tokens", 512, tmp_path / "rows", tmp_path, 2000)
    assert seen["token_bytes"] >= 2 * 10**9
    assert seen["peak_growth_bytes"] < 2**30


@pytest.mark.slow
def test_two_gigabytes_of_text_in_less_than_one_of_memory(tmp_path, llama_directory):
    dataset = write_big_dataset(tmp_path / "dataset", megabytes=2000)
    seen = measure("text", 512, llama_directory, dataset)
    assert seen["token_bytes"] > 2 * 10**9
    assert seen["peak_growth_bytes"] < 2**30
