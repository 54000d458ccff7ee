"""How long a prompt's vectors become, beside those of real tokens: what the bound of `softprompt/engine/fit.py` was chosen by.

    python -m tests.bench.norms [--quick] [--json FILE]

Trains prompts on the tickets (the demo's base and rows) and on ten of Banking77's intents (`shared/`): ours of both kinds
at their own learning rate and at ten times that, where training diverges, and stock PEFT's from its own start, noise of standard
deviation one. The value is the largest norm of any vector at any step, 1 for the largest of a real token in the same place; the
baseline is the bound. With `--quick` the tickets only, and fewer steps.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from peft import PrefixTuningConfig, PromptTuningConfig
from torch import Tensor

from softprompt.base_model import FrozenBase, load_base_model
from softprompt.data.contract import Contract
from softprompt.data.ingest import Faults, iter_rows
from softprompt.engine.batches import Collator, epochs
from softprompt.engine.encoding import answers_for
from softprompt.engine.fit import MOST_NORM, largest_relative_norm
from softprompt.engine.task import EncodedTask
from softprompt.fetch import fetch_base, fetch_dataset
from softprompt.recipe.dataset import DatasetSpec
from softprompt.tuning.loop import learning_rate
from softprompt.tuning.optimisers import set_learning_rate
from tests.bench.quality import BATCH, SHARED, TEN, Method, Task, _loss, load_task, ours, stock
from tests.bench.rows import BenchRow, bench_arguments, show

NUM_TOKENS = 20
STEPS_AT_ONCE = 10
"""Norms are looked at after each of these."""


def tickets(base: FrozenBase) -> Task:
    """The demo's rows; none are kept for a test."""
    contract = Contract(DatasetSpec(uri="embedded://tickets", target_column="queue"), ("text",))
    rows = list(iter_rows([(fetch_dataset("embedded://tickets"), False)], contract, Faults()))
    labels = tuple(sorted({row.target for row in rows}))
    encoded = EncodedTask.create(base.text, "{text}\n\nQueue:", answers_for(labels, {}))
    return Task(encoded, encoded.examples([(row.inputs, row.target) for row in rows]), [])


def values_of(method: Method, base: FrozenBase) -> Tensor:
    """The prompt as it is now, `[P, H]` or `[L, 2, P, N, D]`."""
    if hasattr(method.module, "prompt"):
        return torch.from_numpy(method.module.prompt().to_array())
    weight: Tensor = method.module.prompt_encoder["default"].embedding.weight.detach()  # type: ignore[union-attr,index]
    if weight.shape[1] == base.hidden_size:
        return weight
    config = base.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return weight.reshape(len(weight), config.num_hidden_layers, 2, -1, size).permute(1, 2, 0, 3, 4)


def longest(method: Method, base: FrozenBase, task: Task, steps: int, factor: float) -> float:
    """Largest relative norm on the way through a training at `factor` times its learning rate."""
    collate, found = Collator(task.trie, None), [largest_relative_norm(base, values_of(method, base))]
    for step, rows in enumerate(islice(epochs([example.num_tokens for example in task.train], BATCH, 0), steps)):
        set_learning_rate(method.optimiser, factor * learning_rate(method.training, step))
        method.optimiser.zero_grad()
        _loss(method, task.trie, collate([task.train[row] for row in rows])).backward()
        method.optimiser.step()
        if (step + 1) % STEPS_AT_ONCE == 0:
            found.append(largest_relative_norm(base, values_of(method, base)))
    return max(found)


def measure(name: str, directory: Path, quick: bool) -> Iterator[BenchRow]:
    """Every training on one task."""
    steps = 30 if quick else 300
    peft = {"task_type": "CAUSAL_LM", "num_virtual_tokens": NUM_TOKENS}
    for factor in (1.0, 10.0):
        for kind in ("shallow", "deep"):
            base, task = _load(name, directory)
            method = ours(base, task, steps, 0, kind=kind, num_tokens=NUM_TOKENS)
            yield _row(f"{name}, ours, {kind}, rate x {factor:g}", longest(method, base, task, steps, factor))
        for kind, config, rate in (("shallow", PromptTuningConfig(**peft), 3e-2), ("deep", PrefixTuningConfig(**peft), 1e-2)):
            base, task = _load(name, directory)
            found = longest(stock(base, config, steps, 0, rate), base, task, steps, factor)
            yield _row(f"{name}, PEFT, {kind}, rate x {factor:g}", found)


def _load(name: str, directory: Path) -> tuple[FrozenBase, Task]:
    base = load_base_model(directory)
    return base, tickets(base) if name == "tickets" else load_task(base, TEN)


def _row(name: str, value: float) -> BenchRow:
    print(f"{name}: {value:.2f}", flush=True)
    return BenchRow.compare(name, value, "of a real token's", MOST_NORM)


def main() -> None:
    """Run the benchmark."""
    options = bench_arguments(__doc__.splitlines()[0]).parse_args()
    tasks = {"tickets": fetch_base("embedded://base")}
    if not options.quick:
        tasks["ten intents"] = SHARED / "models" / "reference-base"
    rows = [row for name, directory in tasks.items() for row in measure(name, directory, options.quick)]
    show("Largest norm of a prompt's vector, 1 for the largest of a real token", rows, options.json)


if __name__ == "__main__":
    main()
