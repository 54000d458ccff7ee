"""What a RayJob's driver runs: the step's own function, between taking its inputs and giving its result.

    python -m softprompt.rayjob.entry STORAGE JOB REQUEST

Storage, the RayJob's name and the request's digest are all that it is told; keys come with the pod's environment. A driver that
was lost is started again, by KubeRay in another Ray cluster, and finds the result of the one before or its checkpoints.
"""

import os
import shutil
import sys
import threading
import time
from pathlib import Path

from softprompt.errors import SoftpromptError, StoreUnavailable
from softprompt.progress import step_errors, tell
from softprompt.rayjob.documents import JobRequest, JobResult, ToldError
from softprompt.rayjob.exchange import Exchange, table_of
from softprompt.rayjob.prepare import ending_in_storage, job_folder, prepare
from softprompt.rayjob.settings import RayJobSettings
from softprompt.step_request import Files, HeavyStep


def main(arguments: list[str]) -> None:
    """Do a RayJob's work."""
    storage, job, digest = arguments
    exchange = Exchange(storage, job)
    with step_errors("rayjob"), ending_in_storage(exchange, digest):
        if exchange.result(digest):
            return
        asked = exchange.request(digest)
        _end_when_nobody_waits(exchange, asked.request.step, RayJobSettings.from_environment().orphan_seconds)
        folder = job_folder(job)
        work(exchange, asked, prepare(exchange, asked, folder), folder / "outputs")


def work(exchange: Exchange, asked: JobRequest, inputs: Files, folder: Path) -> None:
    """Do what is asked, and give the result.

    Args:
        exchange: Where the result goes.
        asked: The request.
        inputs: Its inputs on this machine.
        folder: For outputs; what is there goes.

    Raises:
        ServiceUnavailable: What another try may do better.
    """
    from softprompt.step_work import do_work

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    outputs = {name: folder / called for name, called in asked.outputs.items()}
    error = None
    try:
        do_work(asked.request, inputs, outputs)
    except SoftpromptError as found:
        if found.exit_code in (1, 5):
            raise
        error = ToldError.of(found)  # a refusal is a result; what was written before it goes along
    tables = {name: table_of(path) for name, path in outputs.items() if path.exists()}
    exchange.put_result(asked.digest, outputs, JobResult(request=asked.digest, outputs=tables, error=error))


def _end_when_nobody_waits(exchange: Exchange, step: HeavyStep, seconds: int) -> None:
    """Watch for signs of a step that waits, beside the work, and end this process when there were none for too long.

    It ends with success: KubeRay then shuts the Ray cluster down instead of starting another.
    """

    def watch() -> None:
        last, since = exchange.waiting(), time.monotonic()
        while time.monotonic() - since < seconds:
            time.sleep(min(10, seconds / 4))
            try:
                sign = exchange.waiting()
            except StoreUnavailable:
                since = time.monotonic()  # nobody can say anything through a storage that is away
                continue
            if sign != last:
                last, since = sign, time.monotonic()
        tell(
            step, f"No step has waited for this work for {seconds} s; it ends, and goes on from its last checkpoint when asked to"
        )
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
