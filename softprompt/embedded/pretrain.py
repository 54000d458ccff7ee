"""Pretrains the embedded base model from scratch, on text that this project writes itself (`corpus.py`).

    python -m softprompt.embedded.pretrain --out build/base        # or: make base

A Llama-architecture model of about a million parameters with a byte-level BPE tokenizer, for the laptop demo: large enough
to read a support ticket, small enough to ship inside the package. The optimiser is Muon for the matrices and AdamW for
the rest; on so few tokens it gets twice as far as AdamW alone. The bits depend on processor and threads; the demo's
accuracy must not, which a slow test checks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from softprompt.embedded.corpus import CORPUS_DOCUMENTS, CORPUS_SEED, generate_corpus

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

RECORD = "PRETRAINING.json"
SPECIAL_TOKENS = PAD, BEGIN, END = ("<pad>", "<bos>", "<eos>")
"""Their places are their token ids."""
HELD_OUT_SHARE = 0.02
LOG_EVERY_STEPS = 200


@dataclass(frozen=True)
class Settings:
    """What decides the outcome; written into the record beside the weights."""

    seed: int = 0
    corpus_seed: int = CORPUS_SEED
    documents: int = CORPUS_DOCUMENTS
    vocabulary: int = 2048
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 384
    context_tokens: int = 256
    batch_size: int = 4
    steps: int = 2400
    warmup_steps: int = 40
    decay_share: float = 0.6
    muon_learning_rate: float = 0.01
    adam_learning_rate: float = 0.008
    initializer_range: float = 0.05


@dataclass(frozen=True)
class LogRow:
    """One line of the training log; losses in nats per token."""

    step: int
    train_loss: float
    held_out_loss: float
    seconds: float


def train_tokenizer(documents: Sequence[str], vocabulary: int) -> Tokenizer:
    """Trains a byte-level BPE tokenizer; digits stay in pairs, so that order numbers can be copied."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"\d{1,2}| ?[^\s\d\p{L}]+| ?\p{L}+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def pack(documents: Sequence[str], tokenizer: Tokenizer, rng: Random) -> torch.Tensor:
    """Joins documents into one stream of token ids `[n]`: each ends with END, every second one begins with BEGIN."""
    import torch

    begin, end = SPECIAL_TOKENS.index(BEGIN), SPECIAL_TOKENS.index(END)
    stream: list[int] = []
    for encoding in tokenizer.encode_batch(list(documents)):
        stream += [begin] if rng.random() < 0.5 else []
        stream += [*encoding.ids, end]
    return torch.tensor(stream)


def build_model(settings: Settings) -> LlamaForCausalLM:
    """Makes the untrained model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=settings.context_tokens,
        tie_word_embeddings=True,
        initializer_range=settings.initializer_range,
        pad_token_id=SPECIAL_TOKENS.index(PAD),
        bos_token_id=SPECIAL_TOKENS.index(BEGIN),
        eos_token_id=SPECIAL_TOKENS.index(END),
    )
    return LlamaForCausalLM(config)


def fit(
    model: LlamaForCausalLM,
    train: torch.Tensor,
    held_out: torch.Tensor,
    settings: Settings,
    on_log: Callable[[LogRow], None] = lambda row: None,
) -> list[LogRow]:
    """Trains `model` in place on a stream of token ids, and returns its log."""
    import torch

    optimisers = _build_optimisers(model, settings)
    windows = _draw_windows(len(train), settings)
    log: list[LogRow] = []
    losses: list[float] = []
    start = time.monotonic()
    for step in range(1, settings.steps + 1):
        loss = _loss(model, train, [next(windows) for _ in range(settings.batch_size)], settings.context_tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, peaks in optimisers:
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * _rate(step, settings)
            optimiser.step()
            optimiser.zero_grad()
        losses.append(float(loss.detach()))
        if step % LOG_EVERY_STEPS == 0 or step == settings.steps:
            row = LogRow(step, fmean(losses), _held_out_loss(model, held_out, settings), time.monotonic() - start)
            log.append(row)
            losses.clear()
            on_log(row)
    return log


def _build_optimisers(model: LlamaForCausalLM, settings: Settings) -> list[tuple[torch.optim.Optimizer, list[float]]]:
    """Muon for the weight matrices, AdamW for embedding and norms; each with its groups' peak learning rates."""
    import torch

    named = list(model.named_parameters())
    matrices = [parameter for name, parameter in named if parameter.ndim == 2 and "embed" not in name]
    others = [parameter for name, parameter in named if parameter.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=settings.muon_learning_rate, weight_decay=0.0, momentum=0.95)
    adam = torch.optim.AdamW(others, lr=settings.adam_learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [(muon, [settings.muon_learning_rate]), (adam, [settings.adam_learning_rate])]


def _rate(step: int, settings: Settings) -> float:
    """Share of the peak learning rate: a warm-up, a plateau, then a linear decay to almost zero."""
    left = (settings.steps - step + 1) / (settings.decay_share * settings.steps)
    return min(1.0, step / settings.warmup_steps) * max(0.02, min(1.0, left))


def _draw_windows(num_tokens: int, settings: Settings) -> Iterator[int]:
    """Draws window starts: epoch after epoch in random order, shifted by another random offset each time."""
    rng = Random(settings.seed)
    while True:
        offset = rng.randrange(settings.context_tokens)
        starts = list(range(offset, num_tokens - settings.context_tokens - 1, settings.context_tokens))
        rng.shuffle(starts)
        yield from starts


def _loss(model: LlamaForCausalLM, stream: torch.Tensor, starts: Sequence[int], length: int) -> torch.Tensor:
    """Mean next-token cross-entropy over the windows of `length` tokens that begin at `starts`."""
    import torch

    windows = torch.stack([stream[start : start + length + 1] for start in starts])
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def _held_out_loss(model: LlamaForCausalLM, held_out: torch.Tensor, settings: Settings) -> float:
    import torch

    length = settings.context_tokens
    starts = range(0, len(held_out) - length - 1, length)
    batches = [starts[at : at + 16] for at in range(0, len(starts) - 15, 16)]
    with torch.no_grad():
        return fmean([float(_loss(model, held_out, batch, length)) for batch in batches])


def write_base(model: Any, tokenizer: Tokenizer, settings: Settings, log: Sequence[LogRow], folder: Path) -> Path:
    """Writes bfloat16 weights, configuration, tokenizer and the record of how they came about; returns the weights' path."""
    import torch
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        model_max_length=settings.context_tokens,
        padding_side="right",
    )
    fast.save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.chmod(0o644)  # safetensors writes for the owner alone; in an image another user reads it
    record = {
        "command": "python -m softprompt.embedded.pretrain",
        "settings": asdict(settings),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model.safetensors": {"bytes": weights.stat().st_size, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()},
        "log": [{key: round(value, 4) for key, value in asdict(row).items()} for row in log],
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return weights


def pretrain(folder: Path, settings: Settings | None = None, on_log: Callable[[LogRow], None] = lambda row: None) -> Path:
    """Makes the corpus, the tokenizer and the model, and writes the base into `folder`; returns the weights' path."""
    settings = settings or Settings()
    rng = Random(settings.seed)
    documents = generate_corpus(settings.documents, settings.corpus_seed)
    rng.shuffle(documents)
    tokenizer = train_tokenizer(documents, settings.vocabulary)
    num_held_out = int(len(documents) * HELD_OUT_SHARE)
    held_out = pack(documents[:num_held_out], tokenizer, rng)
    train = pack(documents[num_held_out:], tokenizer, rng)
    model = build_model(settings)
    log = fit(model, train, held_out, settings, on_log)
    return write_base(model.eval(), tokenizer, settings, log, folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Pretrains the embedded base model again; takes about four minutes on two cores."""
    parser = argparse.ArgumentParser(prog="python -m softprompt.embedded.pretrain", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=Settings.seed, help="of weights and order (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="optimiser steps (default: %(default)s)")
    options = parser.parse_args(arguments)
    start = time.monotonic()

    def show(row: LogRow) -> None:
        print(
            f"step {row.step:5d}  loss {row.train_loss:.3f}  held out {row.held_out_loss:.3f}  {row.seconds:6.1f} s", flush=True
        )

    weights = pretrain(options.out, Settings(seed=options.seed, steps=options.steps), show)
    print(f"{weights}: {weights.stat().st_size:,} bytes, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
