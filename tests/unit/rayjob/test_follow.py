"""What a person reads of a RayJob: each state once, each line of its log once, however often the connection breaks."""

import pytest

from softprompt.errors import ClusterUnavailable
from softprompt.rayjob.follow import LogPrinter, StateTeller, failure_of, sentence_of


def job(state="", **status):
    return {"metadata": {"name": "tune-1"}, "status": {"jobDeploymentStatus": state, **status}}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (job(), "is made"),
        (job("Suspended"), "waits for its queue"),
        (job("Initializing", rayClusterStatus={"desiredWorkerReplicas": 2}), "0 of 2 workers are ready"),
        (job("Retrying", reason="AppFailed", message="Ray head pod not found.", failed=1), "Ray head pod not found., try 2"),
        (job("Failed", reason="DeadlineExceeded"), "has failed: DeadlineExceeded"),
        (job("ValidationFailed", message="no such thing"), "refused by KubeRay: no such thing"),
    ],
)
def test_each_state_is_a_sentence(found, sentence):
    assert sentence in sentence_of(found)


def test_a_deadline_says_what_to_do():
    assert "SOFTPROMPT_RAYJOB_DEADLINE_SECONDS" in failure_of(job("Failed", reason="DeadlineExceeded"), "here").hint


class Pods:
    """Submitter pods whose logs break off as often as a test says."""

    def __init__(self, logs, breaks=0):
        self.logs, self.breaks = logs, breaks

    def submitters(self, name):
        return list(self.logs)

    def troubles(self, ray_cluster):
        return [f"pod of {ray_cluster}: 0/3 nodes are available"]

    def log(self, pod):
        for number, line in enumerate(self.logs[pod]):
            if number == 2 and self.breaks:
                self.breaks -= 1
                raise ClusterUnavailable("It broke.")
            yield line


def test_a_log_that_broke_off_goes_on_where_it_was(capsys):
    printer = LogPrinter(Pods({"a": ["1", "2", "3"], "b": ["4"]}, breaks=2), "tune-1")
    for _ in range(6):
        printer.go_on()
        printer.finish()
    assert capsys.readouterr().out.split() == ["1", "2", "3", "4"]


def test_what_keeps_pods_waiting_is_told_when_it_takes_long(capsys, monkeypatch):
    monkeypatch.setattr("softprompt.rayjob.follow.SLOW_START_SECONDS", -1)
    teller = StateTeller("tune_prompt", Pods({}))
    for _ in range(2):
        teller.see(job("Initializing", rayClusterName="ray-1"))
    assert "pod of ray-1: 0/3 nodes are available" in capsys.readouterr().out
