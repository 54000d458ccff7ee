"""The driver's side: a result, a refusal, a failure that may pass, and nobody who waits."""

import sys
import time

import pytest

from softprompt.errors import DatasetRefused, StoreUnavailable
from softprompt.rayjob import entry, prepare
from softprompt.rayjob.documents import JobRequest
from softprompt.rayjob.exchange import Exchange, table_of


@pytest.fixture
def told(tmp_path, ask, monkeypatch):
    """A function: what the work does -> the exchange, after the driver ended."""
    monkeypatch.setattr(prepare.tempfile, "gettempdir", lambda: str(tmp_path / "pod"))
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "rows").write_text("rows")
    request = JobRequest(request=ask(), inputs={"dataset": table_of(dataset)}, outputs={"prompt": "prompt", "log": "log.json"})
    exchange = Exchange(str(tmp_path / "storage"), "job")
    exchange.put_request(request, {"dataset": dataset})

    def go(work, main=entry.main):
        monkeypatch.setattr("softprompt.step_work.do_work", work)
        main([str(tmp_path / "storage"), "job", request.digest])
        return exchange

    go.digest, go.exchange = request.digest, exchange
    return go


def write(request, inputs, outputs):
    assert (inputs["dataset"] / "rows").read_text() == "rows"
    outputs["prompt"].mkdir()
    (outputs["prompt"] / "manifest.json").write_text("a prompt")
    outputs["log"].write_text("a log")


def test_the_result_names_every_output(told, tmp_path):
    result = told(write).result(told.digest)
    assert result.error is None
    assert sorted(result.outputs) == ["log", "prompt"]
    told.exchange.take_outputs(result.outputs["log"], tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "a log"


def test_a_driver_that_is_started_again_after_the_result_does_nothing(told):
    told(write)
    told(lambda *_: pytest.fail("it was done already"))


def test_a_driver_that_is_started_again_before_the_result_begins_with_empty_outputs(told):
    def dies(request, inputs, outputs):
        write(request, inputs, outputs)
        raise StoreUnavailable("Away.")

    with pytest.raises(SystemExit) as end:
        told(dies)
    assert end.value.code == 5, "KubeRay tries again"
    assert told.exchange.result(told.digest) is None
    assert told.exchange.failure(told.digest).error.what == "Away."
    assert told(write).result(told.digest).error is None


def test_a_refusal_is_a_result_with_what_was_written_before_it(told):
    def refuses(request, inputs, outputs):
        outputs["log"].write_text("what was found")
        raise DatasetRefused("Row 3.")

    result = told(refuses).result(told.digest)
    assert sorted(result.outputs) == ["log"]
    assert type(result.error.error()) is DatasetRefused


def test_a_fault_of_ours_fails_and_leaves_its_trace_in_the_log(told, capsys):
    def breaks(request, inputs, outputs):
        raise KeyError("oops")

    with pytest.raises(SystemExit) as end:
        told(breaks)
    assert end.value.code == 1
    assert "Traceback" in capsys.readouterr().out


def test_another_request_than_was_asked_for_is_not_done(told, tmp_path):
    with pytest.raises(SystemExit) as end:
        entry.main([str(tmp_path / "storage"), "job", "0" * 64])
    assert end.value.code == 5


def test_a_base_model_that_is_not_there_is_a_result_before_ray_has_started(told, monkeypatch):
    from softprompt.errors import BaseModelUnavailable

    def away(uri):
        raise BaseModelUnavailable("There is none.", where=uri)

    monkeypatch.setattr(prepare, "fetch_base", away)
    told(write, main=prepare.main)
    assert type(told.exchange.result(told.digest).error.error()) is BaseModelUnavailable


def test_preparing_twice_is_harmless(told):
    told(write, main=prepare.main)
    told(write, main=prepare.main)
    assert told(write).result(told.digest).error is None


def test_work_that_nobody_waits_for_ends_by_itself_and_work_that_somebody_waits_for_does_not(told, monkeypatch):
    ended = []
    monkeypatch.setattr(entry.os, "_exit", lambda code: (ended.append(code), sys.exit())[0])
    entry._end_when_nobody_waits(told.exchange, "tune_prompt", 0.4)
    for number in range(8):
        told.exchange.say_waiting(str(number))
        time.sleep(0.1)
    assert ended == []
    time.sleep(1.2)
    assert ended == [0]
