"""What lies in a directory is data, known not to be, or refused by name."""

import hashlib
import json
import os

import pytest

from softprompt.errors import DatasetRefused
from softprompt.fetch.data_files import DATA_ENDINGS, compression_of, data_name, dataset_sha256, files_at, format_of


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names_at(folder):
    return [file.name for file in files_at(folder)]


def test_data_is_found_at_any_depth_in_the_order_of_names(tmp_path):
    make(tmp_path, "b.csv", "a/z.parquet", "a/b/c.jsonl.zst", "C.TSV.GZ")
    assert names_at(tmp_path) == ["C.TSV.GZ", "a/b/c.jsonl.zst", "a/z.parquet", "b.csv"]
    assert all(file.path == tmp_path / file.name for file in files_at(tmp_path))


def test_what_is_known_not_to_be_data_is_passed_over(tmp_path):
    make(
        tmp_path,
        "a.csv",
        "_SUCCESS",
        ".a.csv.crc",
        ".git/config",
        "_delta_log/0.json",
        "README",
        "README.txt",
        "LICENSE",
        "notes.md",
        "info.json",
    )
    assert names_at(tmp_path) == ["a.csv"]


def test_what_may_be_data_that_is_not_read_is_refused_by_name(tmp_path):
    make(tmp_path, "a.csv", "deep/b.xlsx")
    with pytest.raises(DatasetRefused, match="kind of file") as caught:
        files_at(tmp_path)
    assert "deep/b.xlsx" in caught.value.where


@pytest.mark.parametrize("names", [[], ["README.md", "_SUCCESS"]])
def test_a_directory_without_data_is_refused(tmp_path, names):
    make(tmp_path, *names)
    with pytest.raises(DatasetRefused, match="no data"):
        files_at(tmp_path)


def test_only_links_to_files_of_the_same_directory_are_followed(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    make(tmp_path, "data/a.csv", "outside/secret.csv", "data/sub/b.csv")
    (data / "alias.csv").symlink_to("sub/b.csv")
    assert names_at(data) == ["a.csv", "alias.csv", "sub/b.csv"]
    for name, target in (
        ("out.csv", outside / "secret.csv"),
        ("folder", outside),
        ("again", data / "sub"),
        ("gone.csv", "nowhere"),
        ("loop", "."),
    ):
        (data / name).symlink_to(target)
        with pytest.raises(DatasetRefused, match="not followed") as caught:
            files_at(data)
        assert f"file {name}" in caught.value.where
        assert caught.value.actual == f"link to {target}"
        (data / name).unlink()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(DatasetRefused, match="not followed"):
        files_at(tmp_path)
    with pytest.raises(DatasetRefused, match="not there"):
        files_at(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "name", ["../a.csv", "a/../../b.csv", "/a.csv", "a//b.csv", "./a.csv", "a\nb.csv", "a\\b.csv", "\ud800.csv", "\x1b[31m.csv"]
)
def test_names_that_lead_out_or_garble_a_message_are_refused(name):
    with pytest.raises(DatasetRefused, match="name that is not read") as caught:
        data_name(name, where="s3://b/p")
    assert str(caught.value).isascii()


def test_every_ending_has_a_format():
    assert {format_of(f"a{ending}") for ending in DATA_ENDINGS} == {"jsonl", "csv", "tsv", "parquet", "arrow"}
    assert (format_of("a.JSONL.ZST"), compression_of("a.JSONL.ZST")) == ("jsonl", "zstd")
    assert [format_of(name) for name in ("a.parquet.gz", "a.gz", "csv", "a.csv.gz.gz", "a.json", "")] == [""] * 6


def test_the_digest_of_several_files_covers_names_and_bytes(tmp_path):
    make(tmp_path, "a.csv", "b/c.csv")
    one, both = files_at(tmp_path / "a.csv"), files_at(tmp_path)
    sha = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.csv", "b/c.csv")}
    assert dataset_sha256(one) == sha["a.csv"]
    listed = json.dumps([["a.csv", sha["a.csv"]], ["b/c.csv", sha["b/c.csv"]]], separators=(",", ":"))
    assert dataset_sha256(both) == hashlib.sha256(listed.encode()).hexdigest()
    (tmp_path / "b/c.csv").rename(tmp_path / "b/d.csv")
    assert dataset_sha256(files_at(tmp_path)) != hashlib.sha256(listed.encode()).hexdigest()
