"""A throughput engine on vLLM, for machines that have it: prompt and text go in as one sequence of vectors (`prompt_embeds`).

`softprompt serve --engine vllm`. Run against vLLM 0.32 on a processor (tests/integration/serving/test_vllm.py, `make test-vllm`),
not on a GPU. What it can't do, or does otherwise than `softprompt.serving.scheduler.BatchEngine`:

- Shallow prompts and the bare base only. A deep prompt is refused by name: a request cannot bring keys and values.
- The prompt is read anew for every text. vLLM's cache of prefixes is off: a block of one prompt must never serve another.
- A seed gives another text than `BatchEngine` or evaluation draws; rounding may differ with the batch.
- Ranks are computed by the base that is loaded here for its embedding, one after the other: exact, and slow.
- Its numbers are those of this side: texts that vLLM itself keeps waiting count as rows, its memory is not known.
"""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.concatenate import Concatenate, PrefixVectors
from softprompt.errors import ServiceUnavailable, SoftpromptError, UnsupportedBaseModel
from softprompt.serving.jobs import Event, Failed, Finished, FinishReason, GenerateJob, RankJob, Ticket
from softprompt.serving.numbers import EngineNumbers, plus
from softprompt.serving.rows import Row
from softprompt.serving.vllm_calls import finish_reason, new_tokens, sampling_params


class VllmEngine:
    """Runs one base on vLLM; use as a context manager. See `softprompt.serving.jobs.Engine`.

    Prompts come from a bank that prepares them as vectors: `PromptBank(base, strategy=Concatenate(base))`.

    Args:
        base: The same base model, for its embedding and for ranks.
        llm: What `vllm_calls.start_vllm` gave; it is shut down with this engine.
    """

    def __init__(self, base: FrozenBase, llm: Any) -> None:
        self._base, self._llm, self._strategy = base, llm, Concatenate(base)
        self._end_token = base.text.end_token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="softprompt-vllm", daemon=True)
        self._ranks = ThreadPoolExecutor(1, thread_name_prefix="softprompt-ranks")
        self._is_stopping, self._numbers = False, EngineNumbers()

    def __enter__(self) -> "VllmEngine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopping = True
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._ranks.shutdown()
        self._llm.shutdown()

    @property
    def is_alive(self) -> bool:
        """Whether our thread runs and vLLM has not said that it is broken."""
        return self._thread.is_alive() and not self._is_stopping and not self._llm.errored

    @property
    def numbers(self) -> EngineNumbers:
        """Rows, tokens and failures of texts."""
        return self._numbers

    def generate(self, job: GenerateJob, on_event: Callable[[Event], None]) -> Ticket:
        """Begin a text and return at once. `on_event` is called from the engine's thread and must not block.

        Raises:
            ServiceUnavailable: The engine has stopped.
        """
        self._require_running()
        prefix = job.prompt.predictor.prefix if job.prompt else PrefixVectors(None)
        row = Row(job, on_event, self._strategy, prefix)
        asyncio.run_coroutine_threadsafe(self._run(row), self._loop)
        return row

    def rank(self, job: RankJob) -> "Future[tuple[float, ...]]":
        """Probability of each answer, in the order of the manifest. Raises as `generate` does."""
        self._require_running()
        return self._ranks.submit(self._probabilities, job)

    def _require_running(self) -> None:
        if not self.is_alive:
            raise ServiceUnavailable("The engine has stopped.", hint="Ask another node, or again when this one is back.")

    async def _run(self, row: Row) -> None:
        self._numbers = plus(self._numbers, {"num_rows": 1})
        event: Finished | Failed = Failed(ServiceUnavailable("The engine has stopped."))
        try:
            event = Finished(await self._write(row))
        except asyncio.CancelledError:
            pass
        except SoftpromptError as error:
            event = Failed(error)
        except Exception as error:  # noqa: BLE001  # vLLM's own, whatever it is
            event = Failed(ServiceUnavailable("vLLM failed at this text.", actual=f"{type(error).__name__}: {error}"))
        more = {"num_rows": -1, "num_tokens": row.num_tokens, "num_failed": isinstance(event, Failed)}
        self._numbers = plus(self._numbers, more)
        row.tell(event)

    async def _write(self, row: Row) -> FinishReason:
        require_vectors(row.prefix)
        row.begin(self._base)
        sampling = sampling_params(row.job, most_tokens=row.most_tokens, end_token=self._end_token)
        outputs = self._llm.generate({"prompt_embeds": self._vectors(row)}, sampling, uuid.uuid4().hex)
        reason: FinishReason = "cancelled"
        async with contextlib.aclosing(outputs):  # vLLM aborts a text whose outputs nobody waits for
            async for output in outputs:
                if row.is_cancelled:
                    break
                completion = output.outputs[0]
                for token in new_tokens(completion, num_logprobs=row.job.num_logprobs, end_token=self._end_token):
                    row.write(token)
                reason = finish_reason(completion)
        return "cancelled" if row.is_cancelled else reason

    @torch.inference_mode()
    def _vectors(self, row: Row) -> Tensor:  # `[P + T, H]`
        text: Tensor = self._base.embedding(torch.tensor(row.job.token_ids, device=self._base.model.device))
        return text if row.prefix.vectors is None else torch.cat([row.prefix.vectors, text])

    def _probabilities(self, job: RankJob) -> tuple[float, ...]:
        require_vectors(job.prompt.predictor.prefix)
        return job.prompt.predictor.predict_ids([job.token_ids])[0].probabilities

    async def _cancel_all(self) -> None:
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def require_vectors(prefix: Any) -> None:
    """Refuse a deep prompt, or one that was prepared as keys and values, with UnsupportedBaseModel."""
    if not isinstance(prefix, PrefixVectors) or (prefix.vectors is not None and prefix.vectors.ndim != 2):
        raise UnsupportedBaseModel(
            "vLLM takes no keys and values from outside, so it cannot run a deep prompt.",
            expected="a shallow prompt",
            actual="a deep prompt, or one prepared for another engine",
            hint="Serve deep prompts with softprompt's own engine.",
        )
