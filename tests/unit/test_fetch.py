"""Whatever a URI names comes here, complete or not at all, and never a pickle."""

import hashlib
import shutil

import pytest

from softprompt.base_model import load_base_model
from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import BaseModelUnavailable, DatasetRefused, InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.fetch import DataFile, absolute_uri, cache_folder, dataset_sha256, fetch_base, fetch_dataset
from softprompt.fingerprint import fingerprint
from softprompt.release.s3_client import s3_client
from tests.builders import colour_rows, write_jsonl


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with embedded_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def aws(s3, monkeypatch):
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3_client()


def upload(client, directory, prefix):
    for path in directory.iterdir():
        client.upload_file(str(path), "softprompt", f"{prefix}/{path.name}")


def test_a_file_uri_is_where_it_says(llama_directory):
    assert fetch_base(llama_directory.as_uri()) == llama_directory


def test_a_path_becomes_a_uri_that_counts_from_the_recipes_folder(tmp_path):
    assert absolute_uri("data/x.csv", tmp_path) == (tmp_path / "data/x.csv").as_uri()
    assert absolute_uri("s3://b/k", tmp_path) == "s3://b/k"
    path = write_jsonl(tmp_path / "a b.jsonl", [])
    assert fetch_dataset(absolute_uri(str(path), tmp_path)) == (DataFile("a b.jsonl", path),)


def test_a_base_in_s3_is_fetched_once_and_is_the_same_base(aws, llama_directory, monkeypatch):
    upload(aws, llama_directory, "bases/one")
    aws.put_object(Bucket="softprompt", Key="bases/one/pytorch_model.bin", Body=b"pickle")
    aws.put_object(Bucket="softprompt", Key="bases/one/deeper/model.safetensors", Body=b"not ours")
    directory = fetch_base("s3://softprompt/bases/one/")
    assert fingerprint(directory) == fingerprint(llama_directory)
    assert not (directory / "pytorch_model.bin").exists()
    assert load_base_model(directory).fingerprint == fingerprint(llama_directory)
    monkeypatch.setattr("softprompt.fetch.s3.draft_beside", lambda *args: pytest.fail("fetched again"))
    assert fetch_base("s3://softprompt/bases/one") == directory


def test_a_base_that_changed_in_s3_is_fetched_anew(aws, llama_directory, tmp_path):
    copy = shutil.copytree(llama_directory, tmp_path / "copy")
    upload(aws, copy, "bases/two")
    first = fetch_base("s3://softprompt/bases/two")
    (copy / "config.json").write_text(
        (copy / "config.json").read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05')
    )
    upload(aws, copy, "bases/two")
    assert fingerprint(fetch_base("s3://softprompt/bases/two")) != fingerprint(first)


def test_a_fetch_that_is_cut_off_leaves_nothing_to_trip_over(aws, llama_directory, monkeypatch):
    upload(aws, llama_directory, "bases/three")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("softprompt.fetch.cache.Path.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch_base("s3://softprompt/bases/three")
    assert fingerprint(fetch_base("s3://softprompt/bases/three")) == fingerprint(llama_directory)


def test_a_dataset_in_s3_is_verified(aws, tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", colour_rows(3))
    aws.upload_file(str(path), "softprompt", "data/rows.jsonl")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert fetch_dataset("s3://softprompt/data/rows.jsonl", expected_sha256=digest)[0].path.read_bytes() == path.read_bytes()
    with pytest.raises(VerificationFailed, match="changed since"):
        fetch_dataset("s3://softprompt/data/rows.jsonl", expected_sha256="0" * 64)


def test_what_is_not_in_s3_is_said(aws):
    with pytest.raises(BaseModelUnavailable, match="no base model under this prefix"):
        fetch_base("s3://softprompt/nothing")
    with pytest.raises(StoreUnavailable):
        fetch_dataset("s3://softprompt/nothing.jsonl")


def test_a_base_from_the_hub_in_its_own_layout(llama_directory, tmp_path, monkeypatch):
    """The hub's cache: snapshots by commit; a revision that is a full commit needs no network."""
    commit = "a" * 40
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    shutil.copytree(llama_directory, snapshot)
    assert fetch_base(f"hf://org/name@{commit}") == snapshot
    with pytest.raises(BaseModelUnavailable, match="hub did not give it") as caught:
        fetch_base(f"hf://org/other@{commit}")
    assert "org/other" in str(caught.value)


def test_names_that_are_not_embedded_are_refused():
    with pytest.raises(BaseModelUnavailable, match="Nothing of this name"):
        fetch_base("embedded://other")
    with pytest.raises(DatasetRefused, match="Nothing of this name"):
        fetch_dataset("embedded://other")


def test_an_unknown_scheme_is_refused():
    with pytest.raises(InvalidRequest, match="scheme"):
        fetch_base("gopher://x")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SOFTPROMPT_CACHE", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c"
    monkeypatch.delenv("SOFTPROMPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "softprompt"


def put(client, **objects):
    for key, body in objects.items():
        client.put_object(Bucket="softprompt", Key=key, Body=body)


def test_a_prefix_in_s3_is_a_directory(aws, monkeypatch):
    put(
        aws,
        **{
            "many/b.csv": b"text\nb\n",
            "many/deep/a.jsonl": b"{}",
            "many/_SUCCESS": b"",
            "many/README.md": b"#",
            "many/deep/": b"",
        },
    )
    found = fetch_dataset("s3://softprompt/many")
    assert [(file.name, file.path.read_bytes()) for file in found] == [("b.csv", b"text\nb\n"), ("deep/a.jsonl", b"{}")]
    assert not list(found[0].path.parent.glob("README*"))
    with monkeypatch.context() as patch:
        patch.setattr("softprompt.fetch.s3.draft_beside", lambda *args: pytest.fail("fetched again"))
        assert fetch_dataset("s3://softprompt/many/") == found
    put(aws, **{"many/b.csv": b"text\nc\n"})
    assert fetch_dataset("s3://softprompt/many")[0].path.read_bytes() == b"text\nc\n"
    assert found[0].path.read_bytes() == b"text\nb\n"


def test_a_prefix_may_be_named_like_a_file(aws):
    put(aws, **{"spark.csv/part-0.csv": b"text\n"})
    assert [file.name for file in fetch_dataset("s3://softprompt/spark.csv")] == ["part-0.csv"]


def test_a_prefix_with_other_files_is_refused_by_name(aws):
    put(aws, **{"mixed/a.csv": b"text\n", "mixed/b.xlsx": b"PK"})
    with pytest.raises(DatasetRefused, match="kind of file") as caught:
        fetch_dataset("s3://softprompt/mixed")
    assert "b.xlsx" in caught.value.where


def test_a_key_that_leads_out_of_the_cache_is_refused(monkeypatch):
    monkeypatch.setattr("softprompt.release.s3_client.s3_client", lambda: None)
    monkeypatch.setattr("softprompt.fetch.s3._list", lambda *_: [("bad/../../evil.csv", '"1"', 1)])
    with pytest.raises(DatasetRefused, match="name that is not read"):
        fetch_dataset("s3://softprompt/bad")


def test_a_prefix_that_is_cut_off_leaves_nothing(aws, monkeypatch):
    put(aws, **{"cut/a.csv": b"text\n", "cut/b.csv": b"text\n"})
    client = s3_client()
    download = client.download_file

    def once(bucket, key, path):
        if key.endswith("b.csv"):
            raise KeyboardInterrupt
        download(bucket, key, path)

    client.download_file = once
    with monkeypatch.context() as patch:
        patch.setattr("softprompt.release.s3_client.s3_client", lambda: client)
        with pytest.raises(KeyboardInterrupt):
            fetch_dataset("s3://softprompt/cut")
    assert not list((cache_folder() / "datasets").iterdir())
    assert len(fetch_dataset("s3://softprompt/cut")) == 2


def test_a_directory_is_verified_as_a_whole(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", colour_rows(3))
    write_jsonl(folder / "b.jsonl", colour_rows(4))
    digest = dataset_sha256(fetch_dataset(folder.as_uri()))
    assert len(fetch_dataset(folder.as_uri(), expected_sha256=digest)) == 2
    write_jsonl(folder / "c.jsonl", colour_rows(1))
    with pytest.raises(VerificationFailed, match="changed since"):
        fetch_dataset(folder.as_uri(), expected_sha256=digest)
