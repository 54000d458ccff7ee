"""Test accuracy on Banking77 after equally many steps over equal rows: our prompts, stock PEFT's, LoRA and full fine-tuning.

    python -m tests.bench.quality [--quick] [--json FILE] [--kept FOLDER] [--only TEXT ...] [--but TEXT ...]

A small pretrained base (`shared/models/reference-base`, 7.2 M parameters, float32), batches of 32 in one order for all, the
answer behind `{text}\\nIntent:`, one of the labels by its decisions under their trie. Every method with both losses. The last
step is tested, no checkpoint is picked. All methods compute logits at scored positions only; seconds are the processor's, so run
it with OMP_NUM_THREADS=1. What is finished stands in `tests/bench/results/quality.jsonl`, the state of what is not in a folder:
run it again and it goes on, also several times at once (each takes trainings that no other is at).

Rates: ours are softprompt's defaults; stock prompt tuning and prefix tuning have those of PEFT's own guides (0.03 and 0.01);
LoRA and full fine-tuning the better of the two that were tried for each on the ten intents' test rows, which favours them.
"""

import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from softprompt.base_model import FrozenBase, load_base_model
from softprompt.data.tokens import TokenisedRows, write_tokens
from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Batch, Collator, Example, epochs
from softprompt.engine.encoding import answers_for
from softprompt.engine.head import Head
from softprompt.engine.strategy import choose_strategy
from softprompt.engine.task import EncodedTask
from softprompt.recipe import Recipe
from softprompt.recipe.training import Candidate, TrainingSpec
from softprompt.release.durable import open_lock, try_lock, unlock
from softprompt.tuning.input_noise import InputNoise
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, Trained, learning_rate
from softprompt.tuning.optimisers import named_groups, optimiser_tensors, restore_optimiser, set_learning_rate
from tests.bench.rows import BenchRow, bench_arguments, show

SHARED = Path(__file__).resolve().parents[3] / "shared"
RESULTS = Path(__file__).parent / "results" / "quality.jsonl"
TEN = [
    "card_arrival",
    "exchange_rate",
    "lost_or_stolen_card",
    "change_pin",
    "top_up_failed",
    "cash_withdrawal_charge",
    "verify_my_identity",
    "age_limit",
    "Refund_not_showing_up",
    "transfer_timing",
]
TEMPLATE, BATCH, SAVE_EVERY_STEPS = "{text}\nIntent:", 32, 250
LORA_RATE, FULL_RATE = 1e-3, 3e-3


@dataclass(frozen=True)
class Task:
    """Rows of one task in tokens."""

    encoded: EncodedTask
    train: list[Example]
    test: list[Example]

    @property
    def trie(self) -> AnswerTrie:
        """Its answers."""
        assert self.encoded.trie is not None
        return self.encoded.trie


def load_task(base: FrozenBase, labels: Sequence[str]) -> Task:
    """Banking77's rows of some labels; of all where none is named."""
    rows = {part: _read(part, labels) for part in ("train", "test")}
    names = tuple(sorted({label for _, label in rows["train"]}))
    encoded = EncodedTask.create(base.text, TEMPLATE, answers_for(names, {}))
    return Task(encoded, encoded.examples(rows["train"]), encoded.examples(rows["test"]))


def _read(part: str, labels: Sequence[str]) -> list[tuple[dict[str, str], str]]:
    with (SHARED / "data" / "banking77" / f"{part}.csv").open(newline="", encoding="utf-8") as file:
        return [
            ({"text": row["text"]}, row["category"]) for row in csv.DictReader(file) if not labels or row["category"] in labels
        ]


@dataclass(frozen=True)
class Method:
    """Something that is trained: named parameters, and the logits of a batch's scored positions.

    Attributes:
        module: Holds the parameters to train.
        optimiser: Over these; softprompt's own, or stock AdamW as it comes.
        training: Steps, rate and schedule.
        logits: Batch and token ids (None: all) to `[M, U]` or `[M, V]`.
        noise: On what training rows say; None: none.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    training: TrainingSpec
    logits: Callable[[Batch, Tensor | None], Tensor]
    noise: InputNoise | None = None


def ours(base: FrozenBase, task: Task, steps: int, seed: int, **prompt: object) -> Method:
    """softprompt with a recipe's prompt as given, and everything else as a recipe that does not name it has it."""
    recipe = _recipe(steps, seed, prompt)
    kind = recipe.prompt.kind
    job = Job(recipe, base, task.encoded, _on_disk(task.train), [])
    state = LoopState.begin(job, Candidate())
    trained, strategy, head = Trained.at(job, 0, Candidate(), state), choose_strategy(base, kind), Head(base)

    def logits(batch: Batch, tokens: Tensor | None) -> Tensor:
        return head(strategy.hidden(strategy.prefix(trained.module.prompt()), batch), tokens)

    noise = InputNoise.of(task.encoded.encoder, job.input_noise, seed)
    return Method(trained.module, trained.optimiser, trained.training, logits, noise)


def _on_disk(examples: list[Example]) -> TokenisedRows:
    with tempfile.TemporaryDirectory() as folder:  # mapped files stay readable when their names are gone
        write_tokens(Path(folder) / "rows", [examples])
        return TokenisedRows(Path(folder) / "rows")


def _recipe(steps: int, seed: int, prompt: dict[str, object]) -> Recipe:
    return Recipe.model_validate(
        {
            "schema_version": 1,
            "name": "quality",
            "channel": "none",
            "base_model": {"uri": "reference-base"},
            "dataset": {"uri": "banking77.csv", "target_column": "category"},
            "task": {"type": "classification", "template": TEMPLATE},
            "prompt": prompt,
            "training": {"steps": steps, "seed": seed, "batch_size": BATCH},
            "gates": ({"metric": "accuracy", "at_least": 0.5},),
        }
    )


def stock(base: FrozenBase, config: object | None, steps: int, seed: int, rate: float) -> Method:
    """A stock model, with a PEFT method or fine-tuned whole, through its own forward."""
    torch.manual_seed(seed)
    output: nn.Module = base.model.get_output_embeddings()  # type: ignore[operator]
    model: nn.Module = base.model.requires_grad_(True) if config is None else get_peft_model(base.model, config)  # type: ignore[arg-type]
    shift = getattr(config, "num_virtual_tokens", 0) if isinstance(config, PromptTuningConfig) else 0
    training = TrainingSpec(steps=steps, learning_rate=rate, warmup_steps=min(60, steps // 10), seed=seed)

    def logits(batch: Batch, tokens: Tensor | None) -> Tensor:
        # Stock models give logits everywhere; letting through what is scored changes none of it, and takes a third off the time.
        scored = output.register_forward_pre_hook(lambda _, given: given[0][batch.rows, batch.positions + shift])
        found: Tensor = model(input_ids=batch.input_ids, attention_mask=batch.input_mask.long()).logits
        scored.remove()
        return found if tokens is None else found[:, tokens]

    return Method(model, torch.optim.AdamW(named_groups(_trainable(model)), weight_decay=0.0), training, logits)


METHODS: dict[str, Callable[[FrozenBase, Task, int, int, int], Method]] = {
    "ours, deep": lambda base, task, tokens, steps, seed: ours(base, task, steps, seed, kind="deep"),
    "ours, shallow": lambda base, task, tokens, steps, seed: ours(base, task, steps, seed, kind="shallow"),
    "PEFT prompt tuning": lambda base, task, tokens, steps, seed: stock(
        base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens), steps, seed, 3e-2
    ),
    "PEFT prefix tuning": lambda base, task, tokens, steps, seed: stock(
        base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens), steps, seed, 1e-2
    ),
    "LoRA r=16": lambda base, task, tokens, steps, seed: stock(
        base, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"), steps, seed, LORA_RATE
    ),
    "full fine-tuning": lambda base, task, tokens, steps, seed: stock(base, None, steps, seed, FULL_RATE),
}


@dataclass(frozen=True)
class Cell:
    """One training of the table."""

    task: str
    method: str
    loss: str
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """Readable, and good for a file."""
        return f"{self.task}, {self.steps} steps, {self.method}, {self.loss}, seed {self.seed}"


TASKS = {"ten intents": (TEN, 20), "all 77": ((), 64)}
"""Labels, and tokens of stock PEFT's prompts; ours have what a recipe gives them that names none."""
LONGEST = tuple(name for name in METHODS if not name.startswith("PEFT"))
"""Methods that are trained for 3,000 steps, too."""


def cells(quick: bool) -> list[Cell]:
    """Every training, first those that say most."""
    methods, losses = list(METHODS), ("answers", "likelihood")
    if quick:
        return [Cell("ten intents", method, "answers", 60, 0) for method in methods]
    wanted = [
        Cell(t, m, loss, n, s)
        for loss in losses
        for t, n, seeds in (("ten intents", 300, range(3)), ("all 77", 600, range(3)), ("all 77", 3000, range(1)))
        for s in seeds
        for m in (LONGEST if n == 3000 else methods)
    ]
    return sorted(wanted, key=lambda cell: (cell.seed, cell.loss))


def run_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train one cell, from its kept state if there is one; returns its result as JSON."""
    base = load_base_model(SHARED / "models" / "reference-base")
    labels, num_tokens = TASKS[cell.task]
    task = load_task(base, labels)
    method = METHODS[cell.method](base, task, num_tokens, cell.steps, cell.seed)
    optimiser = method.optimiser
    points, done, seconds = _resume(folder / f"{cell.name}.safetensors", method.module, optimiser)
    collate = Collator(task.trie if cell.loss == "answers" else None, None)
    order = epochs([example.num_tokens for example in task.train], BATCH, cell.seed)
    for step, rows in enumerate(islice(order, done, cell.steps), start=done):
        began = time.process_time()
        set_learning_rate(optimiser, learning_rate(method.training, step))
        optimiser.zero_grad()
        examples = [task.train[row] for row in rows]
        _loss(method, task.trie, collate(method.noise(examples, step) if method.noise else examples)).backward()
        optimiser.step()
        seconds += time.process_time() - began
        if (step + 1) % SAVE_EVERY_STEPS == 0 or step + 1 == cell.steps:
            points.append((step + 1, round(seconds, 2), accuracy(method, task)))
            _keep(folder / f"{cell.name}.safetensors", method.module, optimiser, points)
    return {**vars(cell), "accuracy": points[-1][2], "seconds": points[-1][1], "points": points}


def _trainable(module: nn.Module) -> nn.Module:
    """A module of just the parameters that are trained."""
    chosen = nn.ParameterDict()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            chosen[name.replace(".", "/")] = parameter
    return chosen


def _loss(method: Method, trie: AnswerTrie, batch: Batch) -> Tensor:
    if batch.nodes is None:
        return nn.functional.cross_entropy(method.logits(batch, None), batch.targets)
    chosen = trie.log_softmax(method.logits(batch, trie.token_ids), batch.nodes)
    return nn.functional.nll_loss(chosen, batch.targets, reduction="sum") / batch.num_rows


@torch.no_grad()
def accuracy(method: Method, task: Task) -> float:
    """Share of test rows whose every decision among the labels goes right."""
    collate, right = Collator(task.trie, None), 0
    rows = sorted(task.test, key=lambda example: example.num_tokens)
    for start in range(0, len(rows), 128):
        batch = collate(rows[start : start + 128])
        wrong = task.trie.log_softmax(method.logits(batch, task.trie.token_ids), batch.nodes).argmax(1) != batch.targets
        right += batch.num_rows - len(set(batch.rows[wrong].tolist()))
    return right / len(rows)


def _keep(file: Path, module: nn.Module, optimiser: torch.optim.Optimizer, points: list[tuple[int, float, float]]) -> None:
    tensors = {f"p/{name}": value.detach().clone() for name, value in _trainable(module).named_parameters()}
    tensors |= {f"o/{name}": value for name, value in optimiser_tensors(optimiser).items()}
    save_file(tensors, file.with_suffix(".new"))
    file.with_suffix(".new").rename(file)
    file.with_suffix(".json").write_text(json.dumps(points))


def _resume(file: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[list[tuple[int, float, float]], int, float]:
    if not file.exists():
        return [], 0, 0.0
    tensors, points = load_file(file), json.loads(file.with_suffix(".json").read_text())
    with torch.no_grad():
        for name, parameter in _trainable(module).named_parameters():
            parameter.copy_(tensors[f"p/{name}"])
    restore_optimiser(optimiser, {name[2:]: value for name, value in tensors.items() if name.startswith("o/")})
    return [(step, seconds, found) for step, seconds, found in points], points[-1][0], points[-1][1]


def table(results: Sequence[dict[str, Any]]) -> Iterator[BenchRow]:
    """Mean accuracy over seeds of each method, beside full fine-tuning with its better loss after as many steps."""
    groups: dict[tuple[object, ...], list[float]] = {}
    for found in results:
        key = (found["task"], found["steps"], found["method"], found["loss"])
        groups.setdefault(key, []).append(found["accuracy"])
    means = {key: sum(values) / len(values) for key, values in groups.items()}
    for (task, steps, method, loss), mean in means.items():
        full = [value for key, value in means.items() if key[:3] == (task, steps, "full fine-tuning")]
        if full:
            count = len(groups[task, steps, method, loss])
            name = f"{task}, {steps} steps, {method}, {loss}, {count} seed{'s' if count > 1 else ''}"
            yield BenchRow.compare(name, mean, "accuracy", max(full))


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--kept", type=Path, default=Path("build/quality"), help="folder of results and states")
    parser.add_argument("--results", type=Path, default=RESULTS, help="what is finished, a line a training")
    parser.add_argument("--only", nargs="*", default=[], help="trainings whose name holds all of these words")
    parser.add_argument("--but", nargs="*", default=[], help="... and none of these")
    options = parser.parse_args()
    options.kept.mkdir(parents=True, exist_ok=True)
    wanted = [cell for cell in cells(options.quick) if _chosen(cell, options.only, options.but)]
    for cell in wanted:
        _train_unless_done(cell, options.kept, options.results)
    rows = list(table([found for found in _finished(options.results) if _cell_of(found) in wanted]))
    show("Banking77, test accuracy", rows, options.json)


def _chosen(cell: Cell, only: Sequence[str], but: Sequence[str]) -> bool:
    return all(word in cell.name for word in only) and not any(word in cell.name for word in but)


def _finished(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def _train_unless_done(cell: Cell, kept: Path, results: Path) -> None:
    """Train one cell, unless it is finished or another process is at it."""
    lock = open_lock(kept / f"{cell.name}.lock")
    if try_lock(lock) and cell not in map(_cell_of, _finished(results)):
        found = run_cell(cell, kept)
        with results.open("a") as log:
            log.write(json.dumps(found) + "\n")
        print(f"{cell.name}: {found['accuracy']:.3f}", flush=True)
    unlock(lock)


def _cell_of(result: dict[str, Any]) -> Cell:
    return Cell(*(result[key] for key in ("task", "method", "loss", "steps", "seed")))


if __name__ == "__main__":
    main()
