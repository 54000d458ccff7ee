"""Everything that names a thing of vLLM's: how it is started, what it is asked, how its replies are read.

Run against vLLM 0.32; see `vllm_backend`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from softprompt.errors import InvalidRequest
from softprompt.serving.jobs import FinishReason, GenerateJob, NewToken


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


def sampling_params(job: GenerateJob, *, most_tokens: int, end_token: int) -> Any:
    """What vLLM is told about a text, as its `SamplingParams`."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=job.sampling.temperature,
        top_p=job.sampling.top_p,
        seed=job.sampling.seed,
        max_tokens=most_tokens,
        logprobs=job.num_logprobs,
        stop_token_ids=[end_token],
        ignore_eos=True,  # the end token above is the only one, as in training
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def new_tokens(completion: Any, *, num_logprobs: int, end_token: int) -> Iterator[NewToken]:
    """The tokens that one output of vLLM adds, without the end token."""
    for token_id, logprobs in zip(completion.token_ids, completion.logprobs, strict=True):
        if token_id != end_token:
            ranked = sorted(((other, found.logprob) for other, found in logprobs.items()), key=lambda pair: -pair[1])
            yield NewToken(token_id, logprobs[token_id].logprob, tuple(ranked[:num_logprobs]))


def finish_reason(completion: Any) -> FinishReason:
    """Why a text has ended, by its last output."""
    reasons: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}
    return reasons.get(completion.finish_reason, "cancelled")
