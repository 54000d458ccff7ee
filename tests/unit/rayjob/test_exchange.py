"""What step and Ray pods give each other, in a folder and over a real S3 server: whole and verified, or not believed."""

import pytest

from softprompt.errors import DatasetRefused, StoreUnavailable, VerificationFailed
from softprompt.rayjob.documents import JobRequest, JobResult, StoredFile, ToldError
from softprompt.rayjob.exchange import Exchange, table_of


@pytest.fixture
def exchange(storage):
    return Exchange(storage, "job-1")


@pytest.fixture
def folder(tmp_path):
    """A folder with files, one of them below another folder, and one that is empty."""
    made = tmp_path / "dataset"
    (made / "parts").mkdir(parents=True)
    (made / "manifest.json").write_bytes(b"{}")
    (made / "parts" / "train.parquet").write_bytes(b"rows" * 1000)
    (made / "empty").touch()
    return made


def asked(ask, **inputs):
    return JobRequest(request=ask(), inputs={name: table_of(path) for name, path in inputs.items()}, outputs={"prompt": "prompt"})


def object_path(exchange, digest, kind="outputs"):
    return f"{exchange._folder}/outputs/{digest}" if kind == "outputs" else f"{exchange._inputs}/{digest}"


def overwrite(exchange, path, data):
    with exchange._filesystem.open_output_stream(path) as file:
        file.write(data)


def test_a_folder_and_a_file_arrive_as_they_were(exchange, ask, folder, tmp_path):
    request = asked(ask, dataset=folder, log=folder / "manifest.json")
    exchange.put_request(request, {"dataset": folder, "log": folder / "manifest.json"})
    found = exchange.request(request.digest)
    assert found == request
    for name, source in (("dataset", folder), ("log", folder / "manifest.json")):
        exchange.take_inputs(found.inputs[name], tmp_path / "there" / name)
        assert table_of(tmp_path / "there" / name) == table_of(source)
    exchange.take_inputs(found.inputs["dataset"], tmp_path / "there" / "dataset")


def test_two_jobs_share_the_files_of_their_inputs_and_nothing_else(storage, ask, folder, tmp_path):
    one, other = Exchange(storage, "job-1"), Exchange(storage, "job-2")
    request = asked(ask, dataset=folder)
    one.put_request(request, {"dataset": folder})
    other.take_inputs(request.inputs["dataset"], tmp_path / "copy")
    with pytest.raises(VerificationFailed, match="not there"):
        other.request(request.digest)


@pytest.mark.parametrize("spoilt", [b"", b"rows" * 999 + b"ROWS", b"rows" * 1000 + b"!"])
def test_a_file_that_is_not_what_its_name_says_is_refused_and_nothing_is_left(exchange, ask, folder, tmp_path, spoilt):
    request = asked(ask, dataset=folder)
    exchange.put_request(request, {"dataset": folder})
    (victim,) = [file for file in request.inputs["dataset"] if file.path == "parts/train.parquet"]
    overwrite(exchange, object_path(exchange, victim.sha256, "inputs"), spoilt)
    with pytest.raises(VerificationFailed, match="not what its name says"):
        exchange.take_inputs(request.inputs["dataset"], tmp_path / "there" / "dataset")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_missing_file_is_refused(exchange, ask, folder, tmp_path):
    request = asked(ask, dataset=folder)
    exchange.put_request(request, {"dataset": folder})
    exchange._filesystem.delete_file(object_path(exchange, request.inputs["dataset"][0].sha256, "inputs"))
    with pytest.raises(VerificationFailed, match="not in the storage"):
        exchange.take_inputs(request.inputs["dataset"], tmp_path / "copy")


def test_an_upload_that_was_cut_is_made_again(exchange, ask, folder, tmp_path):
    request = asked(ask, dataset=folder)
    exchange.put_request(request, {"dataset": folder})
    (victim,) = [file for file in request.inputs["dataset"] if file.path == "parts/train.parquet"]
    overwrite(exchange, object_path(exchange, victim.sha256, "inputs"), b"rows")
    exchange.put_request(request, {"dataset": folder})
    exchange.take_inputs(request.inputs["dataset"], tmp_path / "copy")


def test_there_is_no_result_until_its_manifest_is_there(exchange, folder, tmp_path, monkeypatch):
    digest, written = "a" * 64, []
    assert exchange.result(digest) is None
    from softprompt.rayjob import exchange as module

    real = module.write_whole
    monkeypatch.setattr(module, "write_whole", lambda *given: (written.append(given[1].rsplit("/")[-1]), real(*given)))
    exchange.put_result(digest, {"prompt": folder}, JobResult(request=digest, outputs={"prompt": table_of(folder)}))
    assert written[-1] == "result.json"
    result = exchange.result(digest)
    (tmp_path / "out" / "prompt").mkdir(parents=True)  # KFP makes folders for outputs
    exchange.take_outputs(result.outputs["prompt"], tmp_path / "out" / "prompt")
    assert table_of(tmp_path / "out" / "prompt") == table_of(folder)


def test_a_result_of_another_request_and_what_is_no_result_are_not_believed(exchange):
    exchange.put_result("a" * 64, {}, JobResult(request="a" * 64, outputs={}))
    with pytest.raises(VerificationFailed, match="another request"):
        exchange.result("b" * 64)
    overwrite(exchange, f"{exchange._folder}/result.json", b'{"request": "')
    with pytest.raises(VerificationFailed):
        exchange.result("a" * 64)


def test_an_error_travels_with_its_class_and_facts(exchange):
    error = DatasetRefused("No.", where="rows.csv:3", expected="text", actual="nothing", hint="Write some.")
    exchange.put_failure(JobResult(request="a" * 64, outputs={}, error=ToldError.of(error)))
    assert exchange.failure("b" * 64) is None
    found = exchange.failure("a" * 64).error.error()
    assert (type(found), found.exit_code, str(found)) == (DatasetRefused, 3, str(error))


def test_a_new_request_forgets_what_an_earlier_try_ended_with(exchange, ask, folder):
    request = asked(ask, dataset=folder)
    exchange.put_request(request, {"dataset": folder})
    exchange.put_failure(JobResult(request=request.digest, outputs={}, error=ToldError.of(DatasetRefused("No."))))
    exchange.put_request(request, {"dataset": folder})
    assert exchange.failure(request.digest) is None


def test_signs_of_waiting_are_the_last_one(exchange):
    assert exchange.waiting() == ""
    exchange.say_waiting("one")
    exchange.say_waiting("two")
    assert exchange.waiting() == "two"


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "a//b", "a/", ".", "a\\b", "a\nb"])
def test_a_path_that_leads_out_of_its_folder_is_refused(path):
    data = b'{"path":%s,"sha256":"%s","length_bytes":1}' % (__import__("json").dumps(path).encode(), b"0" * 64)
    with pytest.raises(VerificationFailed):
        StoredFile.from_bytes(data, source="a test")


def test_storage_that_does_not_answer_is_said_to(s3_server, monkeypatch):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreUnavailable, match="storage of RayJobs"):
        Exchange("s3://no-such-bucket/x", "job").say_waiting("one")
