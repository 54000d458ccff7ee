"""Rows answered a second beside stock PEFT, over the same rows behind the same prompt.

    python -m tests.bench.evaluate [--quick] [--json FILE] [--processor-seconds]

Ranking a closed set of answers: stock PEFT (a) with one sequence for every row and label, as people score labels of several
tokens, and (b), where every label is one token, with one forward. Generation: PEFT's `generate`, greedy, left-padded, in batches
of the same size: a few tokens (labels said as text) and some thirty. Banking77's test rows on `shared/models/reference-base`, the
embedded tickets on the embedded base; prompts of random numbers, which seldom end a text early: nobody gains by that. Both sides
must give the same outputs. Repetitions are interleaved and the medians compared.
"""

import copy
import csv
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import get_peft_model

from softprompt.artifact import Answer
from softprompt.base_model import FrozenBase, load_base_model
from softprompt.engine.encoding import answers_for
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.fetch import fetch_base
from softprompt.names import PromptKind
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.stock import fold, peft_config, random_prompt

SHARED = Path(__file__).resolve().parents[3] / "shared"
BATCH = 64
SHAPES: tuple[tuple[PromptKind, int], ...] = (("shallow", 100), ("deep", 20))
"""softprompt's own defaults."""
ONE_TOKEN_WORDS = ("red", "blue", "green", "one", "two", "three", "four", "yes", "no", "good", "bad", "day", "time", "man")
ONE_TOKEN_WORDS += ("way", "work", "home", "water", "back", "right", "left", "name")
"""Labels where each has to be one token; those that are more are left out."""
SHORT_TOKENS, LONG_TOKENS = 6, 32
"""Of a label said as text, and of a sentence."""


@dataclass(frozen=True)
class Scene:
    """Rows for one base.

    Attributes:
        name: For the table.
        base: The base model.
        template: Of the task.
        texts: The rows.
        labels: All labels.
    """

    name: str
    base: FrozenBase
    template: str
    texts: list[str]
    labels: tuple[str, ...]

    @property
    def one_token_labels(self) -> tuple[Answer, ...]:
        """As many answers of one token each as there are labels, at most 14."""
        encoder = EncodedTask.create(self.base.text, self.template, ()).encoder
        single = [word for word in ONE_TOKEN_WORDS if len(encoder.answer_ids(f" {word}")) == 1]
        return tuple(Answer(label=word, text=f" {word}") for word in single[: min(14, len(self.labels))])


def banking(num_rows: int) -> Scene:
    """Banking77 on a small pretrained base."""
    base = load_base_model(SHARED / "models" / "reference-base")
    with (SHARED / "data" / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = tuple(sorted({row["category"] for row in rows}))
    return Scene("Banking77", base, "{text}\nIntent:", _drawn([row["text"] for row in rows], num_rows), labels)


def tickets(num_rows: int) -> Scene:
    """The embedded tickets on the embedded base."""
    from softprompt.embedded.tickets import DATASET, QUEUES

    texts = [json.loads(line)["text"] for line in DATASET.read_text().splitlines()]
    return Scene("tickets", load_base_model(fetch_base("embedded://base")), "{text}\n\nQueue:", _drawn(texts, num_rows), QUEUES)


def _drawn(texts: list[str], num_rows: int) -> list[str]:
    random.Random(0).shuffle(texts)
    return texts[:num_rows]


class StockAnswers:
    """A stock PEFT model that answers rows.

    Args:
        base: Its model is copied.
        values: The prompt.
        task: Template and answers.
    """

    def __init__(self, base: FrozenBase, values: torch.Tensor, task: EncodedTask) -> None:
        self.model = get_peft_model(copy.deepcopy(base.model), peft_config(values, "CAUSAL_LM")).eval()
        self.model.prompt_encoder["default"].embedding.weight.data = fold(values)
        self.task, self.tokenizer, self.end = task, base.text.tokenizer, base.text.end_token
        self.said = [task.encoder.answer_ids(answer.text) for answer in task.answers]

    @torch.no_grad()
    def rank_labels(self, ids: Sequence[Sequence[int]], batch: int = BATCH) -> list[str]:
        """One sequence a row and label, scored by the likelihood of its decisions."""
        pairs = [(row, label) for row in range(len(ids)) for label in range(len(self.said))]
        scores = torch.empty(len(ids), len(self.said))
        for start in range(0, len(pairs), batch):
            part = pairs[start : start + batch]
            fed, mask = _right_padded([[*ids[row], *self.said[label]] for row, label in part])
            logits = self.model(input_ids=fed, attention_mask=mask).logits[:, -fed.shape[1] :]
            for place, (row, label) in enumerate(part):
                scores[row, label] = self._score(logits[place, len(ids[row]) - 1 :], label)
        return [self.task.labels[label] for label in scores.argmax(dim=1).tolist()]

    def _score(self, logits: torch.Tensor, label: int) -> float:
        """Likelihood of a label among the labels, counted out from its spelling."""
        total, said = 0.0, [*self.said[label], self.end]
        for offset, token in enumerate(said):
            others = {[*other, self.end][offset] for other in self.said if [*other, self.end][:offset] == said[:offset]}
            if len(others) > 1:
                allowed = sorted(others)
                total += float(torch.log_softmax(logits[offset, allowed], -1)[allowed.index(token)])
        return total

    @torch.no_grad()
    def one_forward(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Labels of one token each: the logits behind the text."""
        found: list[str] = []
        first = torch.tensor([said[0] for said in self.said])
        for start in range(0, len(ids), BATCH):
            rows = ids[start : start + BATCH]
            fed, mask = _right_padded(rows)
            logits = self.model(input_ids=fed, attention_mask=mask).logits[:, -fed.shape[1] :]
            last = logits[torch.arange(len(rows)), mask.sum(dim=1) - 1]
            found += [self.task.labels[label] for label in last[:, first].argmax(dim=1).tolist()]
        return found

    @torch.no_grad()
    def generate(self, ids: Sequence[Sequence[int]], num_tokens: int, batch: int = BATCH) -> list[str]:
        """PEFT's `generate`, greedy."""
        found: list[str] = []
        for start in range(0, len(ids), batch):
            rows = ids[start : start + batch]
            width = max(map(len, rows))
            fed = torch.tensor([[*[self.end] * (width - len(row)), *row] for row in rows])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
            said = self.model.generate(
                input_ids=fed,
                attention_mask=mask,
                max_new_tokens=num_tokens,
                do_sample=False,
                eos_token_id=self.end,
                pad_token_id=self.end,
            )
            found += [str(text).strip() for text in self.tokenizer.batch_decode(said[:, width:], skip_special_tokens=True)]
        return found


def _right_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]), mask


Work = Callable[[], Sequence[str]]


def compare(name: str, num_rows: int, ours: Work, stock: Work, repetitions: int, clock: Callable[[], float]) -> BenchRow:
    """Rows a second of both, in turn; the medians."""
    seconds: dict[Work, list[float]] = {ours: [], stock: []}
    for _ in range(repetitions):
        for work, taken in seconds.items():
            began = clock()
            work()
            taken.append(clock() - began)
    speed = {work: num_rows / statistics.median(taken) for work, taken in seconds.items()}
    return BenchRow.compare(name, speed[ours], "rows/s", speed[stock])


def check_same(name: str, ours: Sequence[str], stock: Sequence[str]) -> None:
    """Print how many outputs agree; more than one in a hundred that do not (a tie, rounding) is an error."""
    same = sum(mine == theirs for mine, theirs in zip(ours, stock, strict=True))
    print(f"{name}: {same} of {len(ours)} outputs are the same", flush=True)
    if same < 0.99 * len(ours):
        raise SystemExit(f"{name}: ours and stock PEFT disagree")


def measure(scene: Scene, kind: PromptKind, num_tokens: int, repetitions: int, clock: Callable[[], float]) -> list[BenchRow]:
    """All comparisons on one base with one kind of prompt."""
    base, values = scene.base, random_prompt(scene.base, kind, num_tokens)
    prompt, what = SoftPrompt(values), f"{scene.name}, {kind} P={num_tokens}"
    texts = [{"text": text} for text in scene.texts]
    rows = []

    def asked(answers: tuple[Answer, ...], **options: int) -> tuple[Predictor, StockAnswers, list[list[int]]]:
        task = EncodedTask.create(base.text, scene.template, answers)
        predictor = Predictor(base, task, prompt, batch_size=BATCH, **options)
        return predictor, StockAnswers(base, values, task), task.encoder.all_input_ids(texts)

    def outputs(predictor: Predictor, ids: list[list[int]]) -> list[str]:
        return [prediction.output for prediction in predictor.predict_ids(ids)]

    predictor, stock, ids = asked(answers_for(scene.labels, {}))
    few = ids[: max(8, len(ids) // 8)]
    name = f"{what}, rank {len(scene.labels)} labels, beside one forward a label"
    check_same(name, outputs(predictor, few), stock.rank_labels(few))
    rows.append(compare(name, len(few), partial(outputs, predictor, few), partial(stock.rank_labels, few), repetitions, clock))
    predictor, stock, ids = asked(scene.one_token_labels)
    name = f"{what}, {len(scene.one_token_labels)} labels of one token, beside one forward a row"
    check_same(name, outputs(predictor, ids), stock.one_forward(ids))
    rows.append(compare(name, len(ids), partial(outputs, predictor, ids), partial(stock.one_forward, ids), repetitions, clock))
    for length in (SHORT_TOKENS, LONG_TOKENS):
        predictor, stock, ids = asked((), max_new_tokens=length)
        name = f"{what}, generate {length} tokens, beside PEFT's generate"
        # One row at a time: padded on the left, PEFT gives the text behind a shallow prompt other positions than it was tuned at.
        check_same(name, outputs(predictor, ids[:32]), stock.generate(ids[:32], length, batch=1))
        theirs = partial(stock.generate, ids, length)
        rows.append(compare(name, len(ids), partial(outputs, predictor, ids), theirs, repetitions, clock))
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--processor-seconds", action="store_true", help="count what a processor worked, for a busy machine")
    options = parser.parse_args()
    clock = time.process_time if options.processor_seconds else time.perf_counter
    num_rows, repetitions = (64, 1) if options.quick else (256, 3)
    rows: list[BenchRow] = []
    scenes = [tickets, banking] if SHARED.is_dir() else [tickets]
    for make in scenes:
        scene = make(num_rows)
        for kind, num_tokens in SHAPES:
            rows += measure(scene, kind, num_tokens, repetitions, clock)
            show(f"evaluation, {torch.get_num_threads()} threads", rows, options.json)


if __name__ == "__main__":
    main()
