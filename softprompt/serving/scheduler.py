"""The engine: one thread runs one frozen base, and rows of many prompts join and leave its batch between two steps.

Every turn admits what waits and fits, in the order in which it came, and gives every running row one more token. Ranks share the
thread: where both wait, the side that has had less of the thread's time goes next, so neither waits for longer than one turn of
the other. A row that cannot be written fails alone; whatever else goes wrong fails the rows it touched and leaves the thread
alive.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.head import Head
from softprompt.engine.scoring import not_a_number
from softprompt.engine.strategy import Prefix, Strategy, choose_strategy
from softprompt.errors import ServiceUnavailable, SoftpromptError, UnsupportedBaseModel
from softprompt.serving.batch import batch_for, of_like_length
from softprompt.serving.choosing import next_tokens
from softprompt.serving.jobs import Event, Failed, Finished, GenerateJob, RankJob, Ticket
from softprompt.serving.numbers import EngineNumbers, PromptLedger, plus
from softprompt.serving.ranking import RankQueue
from softprompt.serving.rows import Row

_log = logging.getLogger(__name__)
MAX_ROWS = 64
MAX_CACHE_BYTES = 1024 * 1024 * 1024
MAX_READ_TOKENS = 2048
"""Input tokens read in one turn, padding included; a longer text takes a turn of its own."""


class BatchEngine:
    """Runs one base for many prompts; use as a context manager. See `softprompt.serving.jobs.Engine`.

    Args:
        base: The base model.
        end_token: Ends a text; None: the base's own.
        max_rows: Most texts written at once; more wait in order.
        max_cache_bytes: Most memory for keys and values of rows.
    """

    def __init__(
        self, base: FrozenBase, *, end_token: int | None = None, max_rows: int = MAX_ROWS, max_cache_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        self._base, self._head = base, Head(base)
        self._end_token = base.text.end_token if end_token is None else end_token
        self._max_cache_bytes = max_cache_bytes
        self._batch = batch_for(base, max_rows, max_cache_bytes)
        self._strategy: Strategy = choose_strategy(base, None)
        with torch.no_grad():
            self._bare: Prefix = self._strategy.prefix(None)
        self._waiting: deque[Row] = deque()
        self._joining: list[list[Row]] = []
        self._ranks = RankQueue(base)
        self._wake = threading.Condition()
        self._is_stopping = False
        self._numbers, self._ledger = EngineNumbers(max_cache_bytes=max_cache_bytes), PromptLedger()
        self._text_seconds = self._rank_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="softprompt-engine", daemon=True)

    def __enter__(self) -> "BatchEngine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop after this turn; what was not finished fails with ServiceUnavailable."""
        with self._wake:
            self._is_stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self._thread.is_alive() and not self._is_stopping

    def generate(self, job: GenerateJob, on_event: Callable[[Event], None]) -> Ticket:
        """Begin a text and return at once. `on_event` is called from the engine's thread and must not block.

        Raises:
            ServiceUnavailable: The engine has stopped.
        """
        predictor = job.prompt.predictor if job.prompt else None
        strategy, prefix = (predictor.strategy, predictor.prefix) if predictor else (self._strategy, self._bare)
        row = Row(job, on_event, strategy, prefix)
        with self._wake:
            self._require_running()
            self._waiting.append(row)
            self._wake.notify()
        return row

    def rank(self, job: RankJob) -> "Future[tuple[float, ...]]":
        """Probability of each answer, in the order of the manifest.

        Raises:
            ServiceUnavailable: The engine has stopped.
        """
        with self._wake:
            self._require_running()
            rank = self._ranks.add(job)
            self._wake.notify()
        return rank.answer

    @property
    def numbers(self) -> EngineNumbers:
        """What it did and has before it; may be a turn old in its parts."""
        return replace(
            self._numbers,
            num_rows=len(self._batch.rows),
            num_waiting=len(self._waiting),
            num_ranks_waiting=len(self._ranks),
            cache_bytes=self._batch.num_bytes,
            prompts=self._ledger.copy(),
        )

    def _require_running(self) -> None:
        if not self.is_alive:
            raise _stopped()

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait_for_work():
                began = time.perf_counter()
                try:
                    self._turn()
                except Exception:  # noqa: BLE001  # a thread that died in silence would leave everybody waiting
                    _log.exception("a turn of the engine failed; its rows fail, the engine goes on")
                    self._fail_running(ServiceUnavailable("The engine failed at this text.", hint="See the node's log."))
                self._count(busy_seconds=time.perf_counter() - began)
        self._fail_running(_stopped())
        for row in self._waiting:
            row.tell(Failed(_stopped()))
        self._waiting.clear()
        self._ranks.fail_all(_stopped())

    def _wait_for_work(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._is_stopping or self._waiting or self._batch.rows or len(self._ranks))
            return not self._is_stopping

    def _turn(self) -> None:
        """One turn of the side that had less of the time, where both have work."""
        began = time.perf_counter()
        has_texts, has_ranks = bool(self._waiting or self._batch.rows), bool(len(self._ranks))
        if not (has_texts and has_ranks):
            self._text_seconds = self._rank_seconds = 0.0
        if has_ranks and (not has_texts or self._rank_seconds <= self._text_seconds):
            self._rank()
            self._rank_seconds += time.perf_counter() - began
        else:
            self._drop_cancelled()
            self._admit()
            self._step()
            self._text_seconds += time.perf_counter() - began

    def _rank(self) -> None:
        ranks = self._ranks.take()
        if ranks:
            self._count(num_failed=self._ranks.rank(ranks))
            self._ledger.add(ranks[0].job.prompt.digest, num_ranked=len(ranks))

    def _drop_cancelled(self) -> None:
        with self._wake:
            cancelled = [row for row in self._waiting if row.is_cancelled]
            for row in cancelled:
                self._waiting.remove(row)
        for row in cancelled:
            row.tell(Finished("cancelled"))
        gone = [index for index, row in enumerate(self._batch.rows) if row.is_cancelled]
        for row in [self._batch.rows[index] for index in gone]:
            self._end(row, Finished("cancelled"))
        if gone:
            self._batch.leave(gone)

    def _admit(self) -> None:
        """Read the texts that have waited longest, as far as there is room."""
        taken: list[Row] = []
        num_tokens = 0
        while self._waiting:
            row = self._waiting[0]
            try:
                row.begin(self._base)
                has_room = self._batch.has_room([*taken, row])
                if not has_room and not taken and not self._batch.rows:
                    raise _too_large(row, self._max_cache_bytes)
            except SoftpromptError as error:
                self._pop_waiting()
                self._fail(row, error)
                continue
            num_tokens += len(row.job.token_ids)
            if not has_room or (taken and num_tokens > MAX_READ_TOKENS):
                break
            taken.append(self._pop_waiting())
        self._joining = list(of_like_length(taken))
        while self._joining:
            self._join(self._joining.pop(0))

    def _pop_waiting(self) -> Row:
        with self._wake:
            return self._waiting.popleft()

    def _join(self, rows: list[Row]) -> None:
        try:
            hidden = self._batch.join(rows)
        except Exception as error:  # noqa: BLE001  # one of them is at fault, and only that one may fail
            if len(rows) > 1:
                for row in rows:
                    self._join([row])
                return
            _log.warning("a text could not be read: %s", error)
            self._fail(rows[0], error)
            return
        self._write(hidden, rows, first=len(self._batch.rows) - len(rows))

    def _step(self) -> None:
        rows = list(self._batch.rows)
        if rows:
            self._write(self._batch.step(), rows, first=0)
            self._count(num_steps=1)

    def _write(self, hidden: Tensor, rows: Sequence[Row], first: int) -> None:
        """Give rows, which begin at a place of the batch, their next tokens; those that are done leave."""
        gone, broken, num_tokens = [], [], 0
        for index, (row, token) in enumerate(zip(rows, next_tokens(self._head(hidden), rows), strict=True), first):
            if row.is_cancelled:
                self._end(row, Finished("cancelled"))
            elif token is None:
                broken.append(index)
                self._fail(row, not_a_number(self._base))
            elif token.token_id == self._end_token:
                self._end(row, Finished("stop"))
            else:
                row.write(token)
                num_tokens += 1
                if row.num_tokens == 1:
                    self._ledger.add(row.digest, num_texts=1, first_token_seconds=row.first_token_at - row.asked_at)
                if row.num_tokens < row.most_tokens:
                    continue
                self._end(row, Finished("length"))
            gone.append(index)
        if gone:
            self._batch.leave(gone, broken=broken)
        self._count(num_tokens=num_tokens)

    def _end(self, row: Row, event: Finished | Failed) -> None:
        if row.num_tokens:
            self._ledger.add(row.digest, num_tokens=row.num_tokens, writing_seconds=time.perf_counter() - row.first_token_at)
        row.tell(event)

    def _fail(self, row: Row, error: Exception) -> None:
        self._count(num_failed=1)
        self._end(row, Failed(error))

    def _fail_running(self, error: Exception) -> None:
        rows = [*self._batch.rows, *(row for rows in self._joining for row in rows)]
        self._batch.clear()
        self._joining = []
        for row in rows:
            self._fail(row, error)

    def _count(self, **more: float) -> None:
        self._numbers = plus(self._numbers, more)


def _stopped() -> ServiceUnavailable:
    return ServiceUnavailable("The engine has stopped.", hint="Ask another node, or again when this one is back.")


def _too_large(row: Row, max_bytes: int) -> UnsupportedBaseModel:
    return UnsupportedBaseModel(
        "This text needs more memory than the engine may use.",
        expected=f"<= {max_bytes} bytes of keys and values",
        actual=f"{row.num_read} tokens read and up to {row.most_tokens} written",
        hint="Ask for a shorter answer, or give the node more memory for rows.",
    )
