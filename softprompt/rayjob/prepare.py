"""Before Ray starts in a pod: bring the inputs and the base model there, so that they lie under the same paths everywhere.

python -m softprompt.rayjob.prepare STORAGE JOB REQUEST
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softprompt.errors import ServiceUnavailable, SoftpromptError
from softprompt.fetch import fetch_base, fetch_dataset
from softprompt.progress import step_errors
from softprompt.rayjob.documents import JobRequest, JobResult, ToldError
from softprompt.rayjob.exchange import Exchange
from softprompt.step_request import Files


def job_folder(job: str) -> Path:
    """Where a RayJob's files lie in each of its pods."""
    return Path(tempfile.gettempdir()) / "softprompt-rayjobs" / job


def prepare(exchange: Exchange, asked: JobRequest, folder: Path) -> Files:
    """Bring inputs and base model to this machine; nothing is done twice.

    Args:
        exchange: Where the inputs are.
        asked: Names them.
        folder: For them.

    Returns:
        The inputs.

    Raises:
        SoftpromptError: What fetching raises.
    """
    inputs = {name: folder / "inputs" / name for name in asked.inputs}
    for name, path in inputs.items():
        exchange.take_inputs(asked.inputs[name], path)
    resolved = asked.request.resolved
    fetch_base(resolved.base.uri)
    if asked.request.step == "validate_dataset":
        for dataset in filter(None, (resolved.dataset, resolved.test_dataset)):
            fetch_dataset(dataset.uri, expected_sha256=dataset.sha256)
    return inputs


@contextmanager
def ending_in_storage(exchange: Exchange, request: str) -> Iterator[None]:
    """Leave what the work ended with where the step finds it.

    An error that another try would only repeat is the work's result. One that may pass is noted and goes on, so that KubeRay
    tries again.
    """
    try:
        yield
    except ServiceUnavailable as error:
        exchange.put_failure(JobResult(request=request, outputs={}, error=ToldError.of(error)))
        raise
    except SoftpromptError as error:
        if error.exit_code == 1:  # a fault of ours: its trace belongs into the log
            raise
        exchange.put_result(request, {}, JobResult(request=request, outputs={}, error=ToldError.of(error)))


def main(arguments: list[str]) -> None:
    """Prepare this pod."""
    storage, job, digest = arguments
    exchange = Exchange(storage, job)
    with step_errors("prepare"), ending_in_storage(exchange, digest):
        prepare(exchange, exchange.request(digest), job_folder(job))


if __name__ == "__main__":
    main(sys.argv[1:])
