"""Head and answers loss, forward and backward, over the trie's tokens beside the whole vocabulary.

    OMP_NUM_THREADS=1 python -m tests.bench.answers_head [--quick] [--json FILE]

77 answers of two to six tokens, 32 rows, H=512, float32, with 32,000 and 128,000 words. Both sides compute the same loss and the
same gradient; the baseline reads the trie's logits out of all. Time is the processor's, since the trie's side is over before a
busy machine's clock would notice; memory is the peak growth of a fresh process.
"""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from softprompt.base_model import FrozenBase, TextSide
from softprompt.engine.answers import AnswerTrie
from softprompt.engine.batches import Batch, Collator, Example
from softprompt.engine.head import Head
from softprompt.engine.losses import loss_sum
from tests.bench.peak_memory import begin_peak, peak_mib
from tests.bench.rows import BenchRow, bench_arguments, show

NUM_ANSWERS, NUM_ROWS, HIDDEN = 77, 32, 512
VOCABULARIES = (32_000, 128_000)
Side = Callable[[], torch.Tensor]


def draw_answers() -> list[list[int]]:
    """Answers that share beginnings as label names do: few first tokens, more later ones."""
    rng = random.Random(0)
    drawn: set[tuple[int, ...]] = set()
    while len(drawn) < NUM_ANSWERS:
        drawn.add((rng.randrange(3, 33), *(rng.randrange(3, 203) for _ in range(rng.randint(1, 5)))))
    return [list(answer) for answer in sorted(drawn)]


def build(vocabulary: int) -> tuple[Head, AnswerTrie, Batch, torch.Tensor]:
    """A head, the answers' trie, a batch of rows, and the hidden states of its scored positions, as a leaf."""
    torch.manual_seed(0)
    options = {"num_hidden_layers": 1, "intermediate_size": 64, "num_attention_heads": 8, "bos_token_id": 1, "eos_token_id": 2}
    config = LlamaConfig(vocab_size=vocabulary, hidden_size=HIDDEN, **options)
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    answers = draw_answers()
    rng = random.Random(1)
    chosen = [rng.randrange(NUM_ANSWERS) for _ in range(NUM_ROWS)]
    trie = AnswerTrie(answers, 2)
    batch = Collator(trie, None)([Example([1], [*answers[number], 2], number) for number in chosen])
    hidden = torch.randn(len(batch.rows), HIDDEN, requires_grad=True)
    base = FrozenBase(model, TextSide(None, config), "0" * 64)  # type: ignore[arg-type]  # fed token ids
    return Head(base), trie, batch, hidden


def sides(vocabulary: int) -> dict[str, Side]:
    """The two ways to the same loss; each returns the gradient of the hidden states."""
    head, trie, batch, hidden = build(vocabulary)
    assert batch.nodes is not None
    nodes = batch.nodes

    def over_vocabulary() -> torch.Tensor:
        log_probabilities = trie.log_softmax(head(hidden)[:, trie.token_ids], nodes)
        return torch.nn.functional.nll_loss(log_probabilities, batch.targets, reduction="sum")

    def gradient(loss: Side) -> torch.Tensor:
        return torch.autograd.grad(loss(), hidden)[0]

    return {
        "trie": lambda: gradient(lambda: loss_sum(head, trie, hidden, batch)),
        "vocabulary": lambda: gradient(over_vocabulary),
    }


def compare(vocabulary: int, repetitions: int) -> list[BenchRow]:
    """Time and memory of both sides."""
    both = sides(vocabulary)
    torch.testing.assert_close(both["trie"](), both["vocabulary"]())
    seconds: dict[str, list[float]] = {side: [] for side in both}
    for _ in range(repetitions):
        for side, work in both.items():
            began = time.process_time()
            work()
            seconds[side].append(time.process_time() - began)
    milliseconds = {side: statistics.median(taken) * 1000 for side, taken in seconds.items()}
    call = [sys.executable, "-m", "tests.bench.answers_head", "--memory-of"]
    memory = {
        side: float(subprocess.run([*call, side, str(vocabulary)], capture_output=True, text=True, check=True).stdout.split()[-1])
        for side in both
    }
    label = f"V={vocabulary:,}, over the trie's tokens beside all"
    return [
        BenchRow.compare(f"time, {label}", milliseconds["trie"], "ms", milliseconds["vocabulary"]),
        BenchRow.compare(f"peak memory, {label}", memory["trie"], "MiB", memory["vocabulary"]),
    ]


def print_memory(side: str, vocabulary: int) -> None:
    """What `compare` runs in a fresh process."""
    work = sides(vocabulary)[side]
    before = begin_peak("cpu")
    work()
    print(peak_mib("cpu") - before)


def main() -> None:
    """Run the benchmark."""
    parser = bench_arguments(__doc__.splitlines()[0])
    parser.add_argument("--memory-of", nargs=2, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.memory_of:
        print_memory(options.memory_of[0], int(options.memory_of[1]))
        return
    rows = [row for vocabulary in VOCABULARIES for row in compare(vocabulary, 3 if options.quick else 10)]
    _, trie, batch, _ = build(VOCABULARIES[0])
    print(f"{len(trie.token_ids)} tokens in the trie, {len(trie.allowed)} deciding nodes, {len(batch.rows)} scored positions")
    show(f"head and answers loss, processor time, {torch.get_num_threads()} threads", rows, options.json)


if __name__ == "__main__":
    main()
