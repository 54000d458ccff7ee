"""Ranks that wait: rows of one prompt are scored together, in the order in which the oldest of them came."""

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from softprompt.base_model import FrozenBase
from softprompt.engine.scoring import MAX_EXPANDED_ROWS
from softprompt.errors import InvalidRequest
from softprompt.serving.jobs import RankJob
from softprompt.serving.rows import num_tokens_left

MAX_ROWS = 64
"""Rows ranked in one turn, so that texts that are being written do not wait long."""
MAX_TEXT_TOKENS = 2048
"""Tokens of input read in one turn, for the same reason; a longer text takes a turn of its own."""


@dataclass(eq=False)
class Rank:
    """One row whose answers are to be ranked."""

    job: RankJob
    answer: "Future[tuple[float, ...]]" = field(default_factory=Future)


class RankQueue:
    """Rows that wait to be ranked; `add` may be called from any thread."""

    def __init__(self, base: FrozenBase) -> None:
        self._base = base
        self._waiting: deque[Rank] = deque()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, job: RankJob) -> Rank:
        """One more row."""
        rank = Rank(job)
        with self._lock:
            self._waiting.append(rank)
        return rank

    def take(self) -> list[Rank]:
        """Rows of the prompt that waited longest, as many as are ranked in one turn."""
        with self._lock:
            if not self._waiting:
                return []
            prompt = self._waiting[0].job.prompt
            trie = prompt.predictor.task.trie
            most = max(1, min(MAX_ROWS, MAX_EXPANDED_ROWS // max(1, len(trie.paths) if trie else 0)))
            taken: list[Rank] = []
            num_tokens = 0
            for rank in self._waiting:
                num_tokens += len(rank.job.token_ids)
                if rank.job.prompt.digest == prompt.digest:
                    if len(taken) == most or (taken and num_tokens > MAX_TEXT_TOKENS):
                        break
                    taken.append(rank)
            gone = set(map(id, taken))
            self._waiting = deque(rank for rank in self._waiting if id(rank) not in gone)
        return [rank for rank in taken if rank.answer.set_running_or_notify_cancel()]

    def rank(self, ranks: list[Rank]) -> int:
        """Answer rows of one prompt; returns how many failed. One that cannot be answered fails alone."""
        refusals = [(rank, self._refusal(rank)) for rank in ranks]
        good = [rank for rank, refusal in refusals if refusal is None]
        for rank, refusal in refusals:
            if refusal is not None:
                rank.answer.set_exception(refusal)
        num_failed = len(ranks) - len(good)
        if not good:
            return num_failed
        try:
            answers = self._probabilities(good)
        except Exception as error:  # noqa: BLE001  # whoever waits must hear of it, whatever it is
            if len(good) == 1:
                good[0].answer.set_exception(error)
                return num_failed + 1
            return num_failed + sum(self.rank([rank]) for rank in good)
        for rank, answer in zip(good, answers, strict=True):
            rank.answer.set_result(answer)
        return num_failed

    def fail_all(self, error: Exception) -> None:
        """Nobody will be answered any more."""
        with self._lock:
            left, self._waiting = self._waiting, deque()
        for rank in left:
            if rank.answer.set_running_or_notify_cancel():
                rank.answer.set_exception(error)

    def _refusal(self, rank: Rank) -> InvalidRequest | None:
        """Why a row cannot be ranked, or None."""
        predictor = rank.job.prompt.predictor
        if predictor.task.trie is None:
            where = f"prompt {rank.job.prompt.digest[:12]}"
            return InvalidRequest("This prompt generates text; it has no answers to rank.", where=where)
        try:
            num_tokens_left(self._base, predictor.prefix, rank.job.token_ids, 1)
        except InvalidRequest as error:
            return error
        return None

    @staticmethod
    def _probabilities(ranks: list[Rank]) -> list[tuple[float, ...]]:
        predictions = ranks[0].job.prompt.predictor.predict_ids([rank.job.token_ids for rank in ranks])
        return [prediction.probabilities for prediction in predictions]
