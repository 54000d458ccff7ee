"""The ways to take a training step that `train_step.py` compares, over one model and the same rows."""

import csv
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from softprompt.base_model import FrozenBase, TextSide, load_text_side
from softprompt.embedded.phrases import FOLDER
from softprompt.embedded.tickets import DATASET
from softprompt.engine.batches import Collator, Example, epochs
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.shared_prefix import SharedPrefix
from softprompt.engine.strategy import Strategy, choose_strategy

SHARED = Path(__file__).resolve().parents[3] / "shared"
BANKING77 = SHARED / "data" / "banking77" / "train.csv"
REFERENCE_BASE = SHARED / "models" / "reference-base"
ANSWER_TOKENS = 4

SMALL = {"num_hidden_layers": 8, "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 8}
SMALL |= {"intermediate_size": 1376, "vocab_size": 32_000}
BILLION = {"num_hidden_layers": 16, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8}
BILLION |= {"intermediate_size": 8192, "vocab_size": 128_256}
"""1.5 B parameters."""

Step = Callable[[list[Example]], float]


@dataclass(frozen=True)
class Machine:
    """Where and in which number format a model runs."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    size: str = "small"

    def build_base(self) -> FrozenBase:
        """A Llama with random weights."""
        torch.manual_seed(0)
        tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        config = LlamaConfig(max_position_embeddings=512, **tokens, **(SMALL if self.size == "small" else BILLION))
        model = LlamaForCausalLM(config).eval().requires_grad_(False).to(device=self.device, dtype=self.dtype)
        return FrozenBase(model, TextSide(None, config), "0" * 64)  # type: ignore[arg-type]  # fed token ids


def draw_rows(longest: int, num_rows: int) -> list[Example]:
    """Random tokens with the lengths of real messages: Banking77's where it is there, else the embedded tickets'.

    Three messages are joined for the long texts, as a ticket with its history would be.
    """
    rng = random.Random(0)
    joined = 3 if longest > 64 else 1
    lengths = [min(longest - ANSWER_TOKENS, sum(part)) for part in zip(*[iter(message_lengths())] * joined, strict=False)]
    rng.shuffle(lengths)
    draw = lambda n: [rng.randrange(3, SMALL["vocab_size"]) for _ in range(n)]
    return [Example(draw(length), [*draw(ANSWER_TOKENS - 1), 2], -1) for length in lengths[:num_rows]]


def message_lengths() -> list[int]:
    """Tokens of each message.

    By the tokenizer whose tokens are nearest to those of a vocabulary of 32,000 in length (about 4 characters of English):
    reference-base's with 8,192 tokens takes 3.7 characters each, the embedded base's with 2,048 takes 3.1.
    """
    if BANKING77.is_file():
        with BANKING77.open(newline="", encoding="utf-8") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
    else:
        texts = [json.loads(line)["text"] for line in DATASET.read_text(encoding="utf-8").splitlines()]
    tokenizer = load_text_side(REFERENCE_BASE if REFERENCE_BASE.is_dir() else FOLDER / "base").tokenizer
    return [len(ids) for ids in tokenizer(texts[:6000]).input_ids]


def our_step(base: FrozenBase, num_tokens: int, strategy: Strategy | None = None) -> Step:
    """softprompt's step: the strategy that the base gets, logits at labels."""
    prompt = SoftPrompt(base.model.get_input_embeddings().weight[:num_tokens]).to(base.model.device)
    optimiser = torch.optim.Adam(prompt.parameters(), lr=1e-3)
    strategy = strategy or choose_strategy(base, "shallow")
    head, collate = Head(base), Collator(None, None, base.model.device)

    def step(rows: list[Example]) -> float:
        batch = collate(rows)
        hidden = strategy.hidden(strategy.prefix(prompt), batch)
        loss = loss_sum(head, None, hidden, batch) / (len(rows) * ANSWER_TOKENS)
        return _update(loss, optimiser)

    return step


def peft_step(base: FrozenBase, num_tokens: int) -> Step:
    """Stock PEFT's step, with its own loss over all logits."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_tokens)
    return _full_logits_step(get_peft_model(base.model, config), lr=1e-3)


def peft_step_at_labels(base: FrozenBase, num_tokens: int) -> Step:
    """The same with the head applied at the labels only, as TRL's chunked loss does."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_tokens)
    encoder = get_peft_model(base.model, config).prompt_encoder["default"].embedding.weight
    optimiser = torch.optim.Adam([encoder], lr=1e-3)

    def step(rows: list[Example]) -> float:
        ids, mask, labels = _padded(rows, base.model.device)
        texts = base.embedding(ids)
        embeddings = torch.cat([encoder[None].expand(len(rows), -1, -1).to(texts.dtype), texts], dim=1)
        attends = torch.cat([mask.new_ones(len(rows), num_tokens), mask], dim=1)
        hidden = base.model.model(inputs_embeds=embeddings, attention_mask=attends, use_cache=False).last_hidden_state
        before = hidden[:, num_tokens - 1 : -1]  # the state before each text token predicts it
        scored = labels != -100
        logits = base.model.lm_head(before[scored]).float()
        return _update(torch.nn.functional.cross_entropy(logits, labels[scored]), optimiser)

    return step


def lora_step(base: FrozenBase, num_tokens: int) -> Step:
    """LoRA of rank 16 in PEFT's default places (queries and values); no prompt."""
    return _full_logits_step(get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", r=16)), lr=1e-4)


def full_step(base: FrozenBase, num_tokens: int) -> Step:
    """Full fine-tuning with Adam; no prompt."""
    return _full_logits_step(base.model.requires_grad_(True), lr=1e-5)


def _full_logits_step(model: Any, lr: float) -> Step:
    optimiser = torch.optim.Adam([part for part in model.parameters() if part.requires_grad], lr=lr)

    def step(rows: list[Example]) -> float:
        ids, mask, labels = _padded(rows, model.device)
        return _update(model(input_ids=ids, attention_mask=mask, labels=labels).loss, optimiser)

    return step


def _padded(rows: list[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(row.num_tokens for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for number, row in enumerate(rows):
        tokens = row.input_ids + row.answer_ids
        ids[number, : len(tokens)], mask[number, : len(tokens)] = torch.tensor(tokens), 1
        labels[number, len(row.input_ids) : len(tokens)] = torch.tensor(row.answer_ids)
    return ids.to(device), mask.to(device), labels.to(device)


def _update(loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> float:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())


OURS, CHECKPOINTED, BFLOAT16 = "softprompt", "softprompt, activation checkpointing", "softprompt, bfloat16"
SHARED_PREFIX, PEFT, AT_LABELS = "softprompt, shared prefix", "PEFT", "PEFT, logits at labels"
LORA, FULL = "LoRA r=16", "full fine-tuning"

SYSTEMS: dict[str, Callable[[FrozenBase, int], Step]] = {
    OURS: our_step,
    BFLOAT16: our_step,
    CHECKPOINTED: lambda base, tokens: our_step(base, tokens, SharedPrefix(base, activation_checkpointing=True)),
    SHARED_PREFIX: lambda base, tokens: our_step(base, tokens, SharedPrefix(base)),
    PEFT: peft_step,
    AT_LABELS: peft_step_at_labels,
    LORA: lora_step,
    FULL: full_step,
}


def build_step(system: str, machine: Machine, num_tokens: int) -> Step:
    """A system over a model of its own."""
    if system == BFLOAT16:
        machine = Machine(machine.device, torch.bfloat16, machine.size)
    return SYSTEMS[system](machine.build_base(), num_tokens)


def cut(system: str, rows: list[Example], batch_size: int) -> Iterator[list[Example]]:
    """One epoch of batches: ours in length buckets as in training, the alternatives' in the order of the rows."""
    if not system.startswith(OURS):
        return (rows[at : at + batch_size] for at in range(0, len(rows), batch_size))
    order = epochs([row.num_tokens for row in rows], batch_size, seed=0)
    return ([rows[index] for index in batch] for batch in islice(order, len(rows) // batch_size))
