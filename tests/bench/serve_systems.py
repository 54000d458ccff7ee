"""The servers that `serve.py` compares: ours, stock PEFT that switches adapters, transformers' own continuous batching."""

import copy
import hashlib
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from peft import get_peft_model
from torch import nn
from transformers import GenerationConfig

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase, TextSide, load_text_side
from softprompt.embedded.phrases import FOLDER
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.serving.bank import WarmPrompt
from softprompt.serving.jobs import Failed, Finished, GenerateJob, NewToken
from softprompt.serving.scheduler import BatchEngine
from tests.bench.train_systems import SMALL, Machine, message_lengths
from tests.stock import fold, peft_config

LONGEST_TEXT = 48
ANSWER_TOKENS = (16, 48)
"""Fewest and most tokens of an answer; texts end at different times, as they do."""
NEVER = -1
PROMPTS = [(kind, length) for kind in ("shallow", "deep") for length in (20, 40, 60, 100)]
"""Eight prompts of both kinds; 55 tokens on average."""


@dataclass(frozen=True)
class Request:
    """One text that is asked for."""

    prompt: int
    ids: tuple[int, ...]
    num_tokens: int


def served_base() -> FrozenBase:
    """The Llama of `train_systems`, 8 layers, H=512, V=32,000, with the embedded base's tokenizer, whose tokens it has."""
    base = Machine().build_base()
    return FrozenBase(base.model, TextSide(load_text_side(FOLDER / "base").tokenizer, base.model.config), "0" * 64)


def prompt_values(base: FrozenBase, kind: str, length: int, seed: int) -> torch.Tensor:
    """Random numbers of the size that a prompt has."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "shallow":
        return torch.randn(length, SMALL["hidden_size"], generator=generator) * base.embedding_rms
    heads = SMALL["num_key_value_heads"]
    return torch.randn(SMALL["num_hidden_layers"], 2, length, heads, SMALL["hidden_size"] // heads, generator=generator)


def prompt_file(base: FrozenBase, kind: str, length: int, seed: int) -> PromptFile:
    """The same as a file that a bank can warm."""
    return PromptFile.build(
        np.ascontiguousarray(prompt_values(base, kind, length, seed).numpy()),
        task="generation",
        template="{text}",
        template_examples=(),
        answers=(),
        max_new_tokens=64,
        base_fingerprint=base.fingerprint,
    )


def requests(count: int, num_prompts: int) -> list[Request]:
    """Random tokens with the lengths of real messages, under prompts in turn."""
    rng = random.Random(0)
    lengths = [min(LONGEST_TEXT, length) for length in message_lengths()]
    return [
        Request(
            number % num_prompts,
            tuple(rng.randrange(3, SMALL["vocab_size"]) for _ in range(rng.choice(lengths))),
            rng.randint(*ANSWER_TOKENS),
        )
        for number in range(count)
    ]


class Ours:
    """Our engine with some prompts warm.

    Args:
        base: The base model.
        values: Of each prompt.
        concurrency: Requests under way at once; each that ends makes room for the next.
    """

    def __init__(self, base: FrozenBase, values: Sequence[torch.Tensor], concurrency: int) -> None:
        task = EncodedTask.create(base.text, "{text}", ())
        made = [Predictor(base, task, SoftPrompt(value)) for value in values]
        self.prompts = [WarmPrompt(hashlib.sha256(bytes([n])).hexdigest(), None, made[n], 0) for n in range(len(made))]  # type: ignore[arg-type]
        self.concurrency = concurrency
        self.engine = BatchEngine(base, end_token=NEVER, max_rows=concurrency)

    def serve(self, asked: Sequence[Request]) -> list[list[int]]:
        """Answer all, `concurrency` at a time; each one's tokens."""
        answers: list[list[int]] = [[] for _ in asked]
        left, done, ended = iter(range(len(asked))), threading.Semaphore(0), threading.Lock()

        def begin() -> None:
            with ended:
                number = next(left, None)
            if number is not None:
                one = asked[number]
                job = GenerateJob(prompt=self.prompts[one.prompt], token_ids=one.ids, max_new_tokens=one.num_tokens)
                self.engine.generate(job, lambda event: hear(number, event))

        def hear(number: int, event: NewToken | Finished | Failed) -> None:
            if isinstance(event, NewToken):
                answers[number].append(event.token_id)
                return
            assert event == Finished("length"), event
            done.release()
            begin()

        for _ in range(self.concurrency):
            begin()
        for _ in asked:
            done.acquire()
        return answers


class StockPeft:
    """One stock PEFT model that switches to a request's adapter and generates, one request after the other.

    PEFT takes adapters of one type into one model, so prompts of the two kinds are in two models over the same base.
    """

    def __init__(self, base: FrozenBase, values: Sequence[torch.Tensor]) -> None:
        self._models: dict[int, object] = {}
        by_kind: dict[int, object] = {}
        for number, value in enumerate(values):
            config = peft_config(value, "CAUSAL_LM")
            if value.ndim not in by_kind:
                by_kind[value.ndim] = get_peft_model(base.model, config, adapter_name=str(number)).eval()
            else:
                by_kind[value.ndim].add_adapter(str(number), config)
            model = by_kind[value.ndim]
            model.prompt_encoder[str(number)].embedding.weight.data = fold(value)
            self._models[number] = model

    def serve(self, asked: Sequence[Request]) -> list[list[int]]:
        """Answer all, one after the other; each one's tokens."""
        return [self._answer(one) for one in asked]

    @torch.inference_mode()
    def _answer(self, one: Request) -> list[int]:
        model = self._models[one.prompt]
        model.set_adapter(str(one.prompt))
        ids = torch.tensor([one.ids])
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=one.num_tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return made[0, len(one.ids) :].tolist()


class StockBatching:
    """transformers' `generate_batch` over shallow prompts: ids beyond the vocabulary are rows of a bank of prompts.

    It takes no keys and values, so no deep prompts, and one length of answer for all.
    """

    def __init__(self, base: FrozenBase, values: Sequence[torch.Tensor], num_tokens: int) -> None:
        self._model = copy.deepcopy(base.model)
        self._model.set_input_embeddings(_Bank(self._model.get_input_embeddings(), torch.cat(list(values))))
        ends = torch.tensor([len(value) for value in values]).cumsum(0).tolist()
        self._ids = [
            list(range(base.vocabulary_size + a, base.vocabulary_size + b)) for a, b in zip([0, *ends], ends, strict=False)
        ]
        self._config = GenerationConfig(max_new_tokens=num_tokens, do_sample=False, eos_token_id=NEVER, pad_token_id=0)

    def serve(self, asked: Sequence[Request]) -> list[list[int]]:
        """Answer all; each one's tokens."""
        inputs = [[*self._ids[one.prompt], *one.ids] for one in asked]
        made = self._model.generate_batch(inputs, generation_config=self._config, progress_bar=False)
        return [output.generated_tokens for output in made.values()]


class _Bank(nn.Module):
    def __init__(self, table: nn.Embedding, rows: torch.Tensor) -> None:
        super().__init__()
        self.table, self.rows, self.weight = table, rows, table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Vectors of tokens, and of prompts behind them."""
        last = self.table.num_embeddings - 1
        return torch.where((ids > last)[..., None], self.rows[(ids - last - 1).clamp_min(0)], self.table(ids.clamp_max(last)))
