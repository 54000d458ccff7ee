"""A throughput engine on vLLM, for machines that have it: prompt and text go in as one sequence of vectors (`prompt_embeds`).

Written against vLLM 0.32's documented interface (https://docs.vllm.ai/en/v0.32.0/: `AsyncLLM`, `SamplingParams`, `EmbedsPrompt`)
and tested with a small stand-in of it, because vLLM does not install beside this project's torch: **nobody has run this against
vLLM itself yet**. What it can't do, or does otherwise than `softprompt.serving.scheduler.BatchEngine`:

- Shallow prompts and the bare base only. vLLM takes no keys and values from outside, so a deep prompt is refused by name.
- The prompt is read anew for every text. vLLM's cache of prefixes is off: a block of one prompt must never serve another.
- A seed gives the same text on the same vLLM, not the text that `BatchEngine` or evaluation draws; rounding may differ with the
  batch, as vLLM says of itself.
- Ranks are computed by the base that is loaded here for its embedding, one after the other: exact, and slow.
"""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softprompt.base_model import FrozenBase
from softprompt.engine.concatenate import Concatenate, PrefixVectors
from softprompt.errors import InvalidRequest, ServiceUnavailable, SoftpromptError, UnsupportedBaseModel
from softprompt.serving.jobs import Event, Failed, Finished, FinishReason, GenerateJob, NewToken, RankJob, Ticket
from softprompt.serving.rows import Row


def start_vllm(directory: Path, **options: Any) -> Any:
    """A vLLM engine over a base model's directory in the hub's layout; InvalidRequest: vLLM is not installed."""
    try:
        from vllm import AsyncEngineArgs, AsyncLLMEngine
    except ImportError as error:
        raise InvalidRequest(
            "This engine needs vLLM, which is not installed.", actual=str(error), hint="pip install 'softprompt[serve-vllm]'"
        ) from None
    arguments = {"model": str(directory), "enable_prompt_embeds": True, "enable_prefix_caching": False} | options
    return AsyncLLMEngine.from_engine_args(AsyncEngineArgs(**arguments))


class VllmEngine:
    """Runs one base on vLLM; use as a context manager. See `softprompt.serving.jobs.Engine`.

    Prompts come from a bank that prepares them as vectors: `PromptBank(base, strategy=Concatenate(base))`.

    Args:
        base: The same base model, for its embedding and for ranks.
        llm: What `start_vllm` gave.
        end_token: Ends a text; None: the base's own.
    """

    def __init__(self, base: FrozenBase, llm: Any, end_token: int | None = None) -> None:
        self._base, self._llm, self._strategy = base, llm, Concatenate(base)
        self._end_token = base.text.end_token if end_token is None else end_token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="softprompt-vllm", daemon=True)
        self._ranks = ThreadPoolExecutor(1, thread_name_prefix="softprompt-ranks")

    def __enter__(self) -> "VllmEngine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._ranks.shutdown()

    def generate(self, job: GenerateJob, on_event: Callable[[Event], None]) -> Ticket:
        """Begin a text and return at once. `on_event` is called from the engine's thread and must not block."""
        prefix = job.prompt.predictor.prefix if job.prompt else PrefixVectors(None)
        row = Row(job, on_event, self._strategy, prefix)
        asyncio.run_coroutine_threadsafe(self._write(row), self._loop)
        return row

    def rank(self, job: RankJob) -> "Future[tuple[float, ...]]":
        """Probability of each answer, in the order of the manifest."""
        return self._ranks.submit(self._probabilities, job)

    async def _write(self, row: Row) -> None:
        try:
            require_vectors(row.prefix)
            row.begin(self._base)
            outputs = self._llm.generate({"prompt_embeds": self._vectors(row)}, self._sampling(row), uuid.uuid4().hex)
            reason: FinishReason = "cancelled"
            async with contextlib.aclosing(outputs):  # vLLM aborts a text whose outputs nobody waits for
                async for output in outputs:
                    if row.is_cancelled:
                        break
                    reason = self._tell(row, output.outputs[0])
            row.tell(Finished("cancelled" if row.is_cancelled else reason))
        except asyncio.CancelledError:
            row.tell(Failed(ServiceUnavailable("The engine has stopped.")))
        except SoftpromptError as error:
            row.tell(Failed(error))
        except Exception as error:  # noqa: BLE001  # vLLM's own, whatever it is
            row.tell(Failed(ServiceUnavailable("vLLM failed at this text.", actual=f"{type(error).__name__}: {error}")))

    @torch.inference_mode()
    def _vectors(self, row: Row) -> Tensor:
        """Prompt and text as input vectors `[P + T, H]`."""
        text: Tensor = self._base.embedding(torch.tensor(row.job.token_ids, device=self._base.model.device))
        vectors = row.prefix.vectors
        return text if vectors is None else torch.cat([vectors, text])

    def _sampling(self, row: Row) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        asked = row.job.sampling
        return SamplingParams(
            temperature=asked.temperature,
            top_p=asked.top_p,
            seed=asked.seed,
            max_tokens=row.most_tokens,
            logprobs=row.job.num_logprobs,
            stop_token_ids=[self._end_token],
            ignore_eos=True,  # the end token above is the only one, as in training
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _tell(self, row: Row, completion: Any) -> FinishReason:
        """Tell what one output of vLLM adds; why the text has ended, where this was the last."""
        for token_id, logprobs in zip(completion.token_ids, completion.logprobs, strict=True):
            if token_id != self._end_token:
                ranked = sorted(((other, found.logprob) for other, found in logprobs.items()), key=lambda pair: -pair[1])
                row.write(NewToken(token_id, logprobs[token_id].logprob, tuple(ranked[: row.job.num_logprobs])))
        return "stop" if completion.finish_reason == "stop" else "length" if completion.finish_reason == "length" else "cancelled"

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
