"""Where a prompt starts: on the manifold of real tokens unless somebody asks for noise.

Each initialiser picks token ids, or values directly. A shallow prompt starts from the tokens' embeddings (Lester et al. 2021),
a deep one from the keys and values that the base computes for them. Where these mean nothing together, frequent tokens and noise,
keys begin without what would depend on a word's place (`softprompt/engine/rotary.py`).
"""

from collections import defaultdict
from itertools import islice, zip_longest
from pathlib import Path

import torch
from torch import Tensor

from softprompt.artifact import PromptFile
from softprompt.base_model import FrozenBase
from softprompt.data.tokens import TokenisedRows
from softprompt.engine.batches import Example
from softprompt.engine.fit import check_fit, fitting_prompt
from softprompt.engine.prompts import SoftPrompt, join_prompts
from softprompt.engine.real_tokens import base_shape, token_values
from softprompt.engine.rotary import holds_still
from softprompt.engine.task import EncodedTask
from softprompt.errors import InvalidRecipe, VerificationFailed
from softprompt.fetch import fetch_prompt
from softprompt.names import PromptKind
from softprompt.peft_checkpoint import is_peft_checkpoint, read_peft_prompt
from softprompt.progress import tell
from softprompt.recipe.prompt import FrequentTokensInit, InitSpec

STEP = "tune_prompt"
MOST_ROWS = 10_000
"""Training rows among which examples are looked for."""


def initial_prompt(
    base: FrozenBase, task: EncodedTask, examples: TokenisedRows, kind: PromptKind, num_tokens: int, init: InitSpec, seed: int
) -> SoftPrompt:
    """A prompt at its starting point.

    Args:
        base: The base model.
        task: For label words.
        examples: Training rows, for token frequencies.
        kind: `shallow` or `deep`.
        num_tokens: Prompt tokens `P`.
        init: Which initialiser, with its own options.
        seed: Fixes every draw.

    Raises:
        InvalidRecipe: The initialiser cannot give such a prompt.
        FingerprintMismatch: `init` names a prompt of another base, and does not say that any will do.
    """
    if init.method == "prompt":
        read = from_any_base if init.any_base else from_prompt
        start = read(base, fetch_prompt(init.uri)[0], kind, num_tokens)
        missing = num_tokens - (start.num_tokens if start else 0)
        filling = initial_prompt(base, task, examples, kind, missing, FrequentTokensInit(), seed) if missing else None
        return join_prompts([part for part in (start, filling) if part])
    generator = torch.Generator().manual_seed(seed)
    if init.method == "random":
        return without_places(base, examples, from_random(base, kind, num_tokens, generator))
    if init.method == "class_labels":
        token_ids = from_class_labels(task, num_tokens)
    elif init.method == "examples":
        token_ids = from_examples(examples, num_tokens, generator)
    elif init.method == "text":
        token_ids = from_text(task, init.text, num_tokens)
    else:
        token_ids = from_frequent_tokens(examples, num_tokens, init.num_candidates, generator)
    prompt = SoftPrompt(token_values(base, token_ids, kind))
    return without_places(base, examples, prompt) if init.method == "frequent_tokens" else prompt


def trained_numbers(base: FrozenBase, examples: TokenisedRows) -> Tensor:
    """Which numbers of a deep prompt are trained, `[L or 1, 2, 1, 1, D or 1]` bool: all but those of keys that turn too far.

    Args:
        base: The base model.
        examples: Training rows, for how long a text is on the mean.
    """
    still = holds_still(base, examples.mean_length)
    if still is None:
        return torch.ones(1, 2, 1, 1, 1, dtype=torch.bool)
    return torch.stack([still, torch.ones_like(still)], dim=1)[:, :, None, None]


def without_places(base: FrozenBase, examples: TokenisedRows, prompt: SoftPrompt) -> SoftPrompt:
    """A start whose untrained numbers are zero: they would only give a word more attention at one place than at another."""
    if prompt.kind == "shallow":
        return prompt
    return SoftPrompt(prompt.values * trained_numbers(base, examples))


def from_frequent_tokens(examples: TokenisedRows, num_tokens: int, num_candidates: int, generator: torch.Generator) -> list[int]:
    """Token ids drawn without replacement among the most frequent ones of the training rows."""
    counts = sorted(examples.token_counts.items(), key=lambda item: (-item[1], item[0]))
    frequent = [token for token, _ in counts[: max(num_candidates, num_tokens)]]
    order = torch.randperm(len(frequent), generator=generator).tolist()
    return _cycle([frequent[place] for place in order], num_tokens)


def from_class_labels(task: EncodedTask, num_tokens: int) -> list[int]:
    """The tokens of the label texts, one label after the other, repeated or cut to length."""
    return _cycle([token for answer in task.answers for token in task.encoder.answer_ids(answer.text)], num_tokens)


def from_examples(examples: TokenisedRows, num_tokens: int, generator: torch.Generator) -> list[int]:
    """The tokens of training rows with their answers, one row of each label in turn, cut to length.

    What a few-shot instruction would show the base (Brown et al. 2020), as a place to start from.
    """
    order = torch.randperm(len(examples), generator=generator)[:MOST_ROWS].tolist()
    rows_of: dict[int, list[Example]] = defaultdict(list)
    for example in map(examples.__getitem__, order):
        rows_of[example.answer].append(example)
    in_turn = [example for turn in zip_longest(*rows_of.values()) for example in turn if example]
    tokens = (token for example in in_turn for token in [*example.input_ids, *example.answer_ids])
    return _cycle(list(islice(tokens, num_tokens)), num_tokens)


def from_text(task: EncodedTask, text: str, num_tokens: int) -> list[int]:
    """The tokens of a text, repeated or cut to length."""
    return _cycle(task.encoder.answer_ids(text), num_tokens)


def from_random(base: FrozenBase, kind: PromptKind, num_tokens: int, generator: torch.Generator) -> SoftPrompt:
    """Gaussian noise with the RMS of the embedding table, or, deep, with each layer's RMS of real keys and values."""
    ids = torch.randint(base.vocabulary_size, (num_tokens,), generator=generator).tolist()
    real = token_values(base, ids, kind)
    noise = torch.randn(real.shape, generator=generator)
    scale = base.embedding_rms if kind == "shallow" else real.square().mean(dim=(2, 3, 4), keepdim=True).sqrt()
    return SoftPrompt(noise * scale)


def from_prompt(base: FrozenBase, directory: Path, kind: PromptKind, num_tokens: int) -> SoftPrompt:
    """Another prompt's values (SPoT, Vu et al. 2022): a prompt file of the same base, or a stock PEFT checkpoint that fits it.

    Raises:
        InvalidRecipe: It is of another kind, or longer.
        FingerprintMismatch: It is of another base.
        VerificationFailed: It does not verify, cannot come from this base, or PEFT saved something that is not known here.
    """
    if is_peft_checkpoint(directory):
        values = torch.from_numpy(read_peft_prompt(directory, base_shape(base)).values)
        check_fit(base, values, where=str(directory))
        prompt = SoftPrompt(values)
    else:
        prompt = fitting_prompt(base, PromptFile.read(directory))
    if prompt.kind != kind or prompt.num_tokens > num_tokens:
        raise InvalidRecipe(
            "prompt.init names a prompt of another kind, or a longer one.",
            where=str(directory),
            expected=f"{kind}, at most {num_tokens} tokens",
            actual=f"{prompt.kind}, {prompt.num_tokens} tokens",
            hint=f"prompt: {{kind: {prompt.kind}, num_tokens: {prompt.num_tokens}}} would start from it.",
        )
    return prompt


def from_any_base(base: FrozenBase, directory: Path, kind: PromptKind, num_tokens: int) -> SoftPrompt | None:
    """The numbers of a prompt file of whatever base, where they could be a prompt of this one; None, and a word why, if not.

    Bases of one family share their width and little else, so this is a start, as good as it turns out to be.

    Raises:
        VerificationFailed: The file does not verify.
    """
    file = PromptFile.read(directory)
    shown = f"prompt {file.digest[:12]}"
    if file.manifest.kind != kind or file.manifest.num_tokens > num_tokens:
        found = f"{file.manifest.kind}, {file.manifest.num_tokens} tokens"
        tell(STEP, f"{shown} does not fit ({found}); starting from frequent tokens", start="frequent_tokens")
        return None
    values = torch.from_numpy(file.values)
    try:
        check_fit(base, values, where=shown)
    except VerificationFailed as error:
        tell(STEP, f"{shown} does not fit ({error.actual}); starting from frequent tokens", start="frequent_tokens")
        return None
    tell(STEP, f"starting from {shown}, of base {file.manifest.base_fingerprint[:12]}", start="prompt")
    return SoftPrompt(values)


def _cycle(token_ids: list[int], length: int) -> list[int]:
    return [token_ids[place % len(token_ids)] for place in range(length)]
