"""Requests that wait together are answered together: one thread runs the model, prompt by prompt."""

import queue
import threading
from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass

from softprompt.engine.predictor import Prediction, Predictor

MAX_ROWS_TOGETHER = 64


@dataclass(frozen=True)
class _Waiting:
    predictor: Predictor
    values: dict[str, str]
    answer: "Future[Prediction]"


class Scheduler:
    """Batches rows of the same prompt; use as a context manager."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="softprompt-scheduler", daemon=True)

    def __enter__(self) -> "Scheduler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()

    def submit(self, predictor: Predictor, values: dict[str, str]) -> "Future[Prediction]":
        """Answer one row, soon."""
        waiting = _Waiting(predictor, values, Future())
        self._queue.put(waiting)
        return waiting.answer

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            groups: dict[int, list[_Waiting]] = defaultdict(list)
            for waiting in batch:
                if waiting is not None:
                    groups[id(waiting.predictor)].append(waiting)
            for group in groups.values():
                _answer(group)
            if None in batch:
                return

    def _next_batch(self) -> list[_Waiting | None]:
        batch = [self._queue.get()]
        while batch[-1] is not None and len(batch) < MAX_ROWS_TOGETHER:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch


def _answer(group: list[_Waiting]) -> None:
    try:
        predictions = group[0].predictor.predict([waiting.values for waiting in group])
    except Exception as error:  # noqa: BLE001  # whoever waits must hear of it, whatever it is
        for waiting in group:
            waiting.answer.set_exception(error)
        return
    for waiting, prediction in zip(group, predictions, strict=True):
        waiting.answer.set_result(prediction)
