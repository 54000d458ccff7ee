"""Training steps a second and their memory, beside stock PEFT over the same rows, on a small Llama with random weights.

    python -m tests.bench.train_step [--quick] [--json FILE]

The alternatives are stock PEFT `PromptTuning` (a) with logits everywhere, as its forward gives them, and (b) with logits
only at labels, the fair baseline. All three take the same loss over the same rows, in batches of 16 or 32, float32.
Repetitions are interleaved and the medians compared; memory is the peak growth of a fresh process over its loaded model.
"""

import csv
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from softprompt.base_model import FrozenBase, TextSide, load_text_side
from softprompt.embedded.phrases import FOLDER
from softprompt.embedded.tickets import DATASET
from softprompt.engine.batches import Collator, Example, epochs
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.strategy import choose_strategy
from tests.bench.rows import BenchRow, bench_arguments, show

BANKING77 = Path(__file__).resolve().parents[3] / "shared" / "data" / "banking77" / "train.csv"
VOCABULARY, HIDDEN, ANSWER_TOKENS = 32_000, 512, 4
SHAPES = [(100, 48, 16), (20, 128, 16), (100, 48, 32), (20, 128, 32)]
"""(prompt tokens P, longest text T, batch size B)."""

Step = Callable[[list[Example]], float]


def build_base() -> FrozenBase:
    """Llama with 8 layers, H=512, 8 heads, intermediate 1,376, V=32,000, random."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    return FrozenBase(model, TextSide(None, config), "0" * 64)  # type: ignore[arg-type]  # fed token ids


def draw_rows(longest: int, num_rows: int) -> list[Example]:
    """Random tokens with the lengths of real messages: Banking77's where it is there, else the embedded tickets'.

    Three messages are joined for the long texts, as a ticket with its history would be.
    """
    rng = random.Random(0)
    joined = 3 if longest > 64 else 1
    lengths = [min(longest - ANSWER_TOKENS, sum(part)) for part in zip(*[iter(_message_lengths())] * joined, strict=False)]
    rng.shuffle(lengths)
    draw = lambda n: [rng.randrange(3, VOCABULARY) for _ in range(n)]
    return [Example(draw(length), [*draw(ANSWER_TOKENS - 1), 2], -1) for length in lengths[:num_rows]]


def _message_lengths() -> list[int]:
    if BANKING77.is_file():
        with BANKING77.open(newline="", encoding="utf-8") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
    else:
        texts = [json.loads(line)["text"] for line in DATASET.read_text(encoding="utf-8").splitlines()]
    tokenizer = load_text_side(FOLDER / "base").tokenizer
    return [len(ids) for ids in tokenizer(texts[:6000]).input_ids]


def our_step(base: FrozenBase, num_tokens: int) -> Step:
    """softprompt's step: shared prefix, logits at labels."""
    prompt = SoftPrompt(base.model.get_input_embeddings().weight[:num_tokens])
    optimiser = torch.optim.Adam(prompt.parameters(), lr=1e-3)
    strategy, head, collate = choose_strategy(base, "shallow"), Head(base), Collator(None, None)

    def step(rows: list[Example]) -> float:
        batch = collate(rows)
        hidden = strategy.hidden(strategy.prefix(prompt), batch)
        loss = loss_sum(head, None, hidden, batch) / (len(rows) * ANSWER_TOKENS)
        return _update(loss, optimiser)

    return step


def peft_step(base: FrozenBase, num_tokens: int, logits_at_labels: bool) -> Step:
    """Stock PEFT's step, with its own loss over all logits, or with the head applied at the labels only."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=num_tokens)
    model = get_peft_model(base.model, config)
    encoder = model.prompt_encoder["default"].embedding.weight
    optimiser = torch.optim.Adam([encoder], lr=1e-3)

    def step(rows: list[Example]) -> float:
        ids, mask, labels = _padded(rows)
        if not logits_at_labels:
            return _update(model(input_ids=ids, attention_mask=mask, labels=labels).loss, optimiser)
        texts = base.embedding(ids)
        embeddings = torch.cat([encoder[None].expand(len(rows), -1, -1), texts], dim=1)
        attends = torch.cat([torch.ones(len(rows), num_tokens, dtype=torch.long), mask], dim=1)
        hidden = base.model.model(inputs_embeds=embeddings, attention_mask=attends, use_cache=False).last_hidden_state
        before = hidden[:, num_tokens - 1 : -1]  # the state before each text token predicts it
        scored = labels != -100
        return _update(torch.nn.functional.cross_entropy(base.model.lm_head(before[scored]), labels[scored]), optimiser)

    return step


def _padded(rows: list[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(row.num_tokens for row in rows)
    ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for number, row in enumerate(rows):
        tokens = row.input_ids + row.answer_ids
        ids[number, : len(tokens)], mask[number, : len(tokens)] = torch.tensor(tokens), 1
        labels[number, len(row.input_ids) : len(tokens)] = torch.tensor(row.answer_ids)
    return ids, mask, labels


def _update(loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> float:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach())


SYSTEMS: dict[str, Callable[[FrozenBase, int], Step]] = {
    "softprompt": our_step,
    "PEFT": lambda base, num_tokens: peft_step(base, num_tokens, logits_at_labels=False),
    "PEFT, logits at labels": lambda base, num_tokens: peft_step(base, num_tokens, logits_at_labels=True),
}


def cut(system: str, rows: list[Example], batch_size: int) -> Iterator[list[Example]]:
    """One epoch of batches: ours in length buckets as in training, the alternatives' in the order of the rows."""
    if system != "softprompt":
        return (rows[at : at + batch_size] for at in range(0, len(rows), batch_size))
    order = epochs([row.num_tokens for row in rows], batch_size, seed=0)
    return ([rows[index] for index in batch] for batch in islice(order, len(rows) // batch_size))


def measure_speed(shape: tuple[int, int, int], num_batches: int, repetitions: int) -> dict[str, float]:
    """Rows a second of each system, median of interleaved repetitions."""
    num_tokens, longest, batch_size = shape
    base, rows = build_base(), draw_rows(longest, num_batches * batch_size)
    steps = {system: make(base, num_tokens) for system, make in SYSTEMS.items()}
    seconds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for step in steps.values():
        step(rows[:batch_size])  # first touch
    for _ in range(repetitions):
        for system, step in steps.items():
            began = time.perf_counter()
            for batch in cut(system, rows, batch_size):
                step(batch)
            seconds[system].append(time.perf_counter() - began)
    return {system: len(rows) / statistics.median(taken) for system, taken in seconds.items()}


def measure_memory(shape: tuple[int, int, int]) -> dict[str, float]:
    """Peak growth of a fresh process over its loaded model, MiB, over the batch with the longest rows."""
    call = [sys.executable, "-m", "tests.bench.train_step", "--memory-of"]
    taken = {}
    for system in SYSTEMS:
        done = subprocess.run([*call, system, *map(str, shape)], capture_output=True, text=True, check=True)
        taken[system] = float(done.stdout.split()[-1])
    return taken


def print_memory(system: str, num_tokens: int, longest: int, batch_size: int) -> None:
    """What `measure_memory` runs in a fresh process."""
    base = build_base()
    step = SYSTEMS[system](base, num_tokens)
    rows = sorted(draw_rows(longest, 2000), key=lambda row: -row.num_tokens)[:batch_size]
    before = _status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    for _ in range(2):
        step(rows)
    print(_status_mib("VmHWM") - before)


def _status_mib(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--memory-of", nargs=4, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.memory_of:
        system, *shape = options.memory_of
        print_memory(system, *map(int, shape))
        return
    rows = []
    for shape in SHAPES[:1] if options.quick else SHAPES:
        label = f"P={shape[0]} T<={shape[1]} B={shape[2]}"
        speed = measure_speed(shape, num_batches=2 if options.quick else 6, repetitions=3)
        memory = measure_memory(shape)
        for other in ("PEFT", "PEFT, logits at labels"):
            rows.append(BenchRow.compare(f"speed, {label}, beside {other}", speed["softprompt"], "rows/s", speed[other]))
            rows.append(BenchRow.compare(f"peak memory, {label}, beside {other}", memory["softprompt"], "MiB", memory[other]))
    show(f"training step, {torch.get_num_threads()} threads, float32", rows, options.json)


if __name__ == "__main__":
    main()
