"""A recipe: what a user asks for, one YAML file, read strictly.

This module holds the schema and the reader. What a recipe's references point to (which bytes a dataset has now, which base
model a URI names) is `softprompt.resolve`'s business.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from softprompt.documents import Document
from softprompt.gate_specs import (
    METRICS_OF_TASK,
    OF_PROBABILITIES,
    Criterion,
    GateSpec,
    Metric,
    MetricGate,
    Perturbation,
    System,
    TaskType,
)
from softprompt.numerics import Numerics
from softprompt.template import template_fields

PromptKind = Literal["shallow", "deep"]
Loss = Literal["answers", "likelihood"]
Reparameterisation = Literal["none", "residual", "mlp"]
Optimiser = Literal["adamw", "adafactor", "soap"]
ValidationMetric = Literal["accuracy", "loss"]
FairnessMethod = Literal["gap", "adversary"]
RowAction = Literal["refuse", "drop", "warn", "ignore"]
SetAction = Literal["refuse", "warn", "ignore"]

NUM_TOKENS: dict[PromptKind, int] = {"shallow": 100, "deep": 20}
LEARNING_RATES: dict[PromptKind, float] = {"shallow": 1.0, "deep": 0.12}
OPTIMISERS: dict[PromptKind, Optimiser] = {"shallow": "adamw", "deep": "soap"}
"""What was best on Banking77 (docs/tuning-log.md)."""
FAIRNESS_WEIGHTS: dict[FairnessMethod, float] = {"gap": 3.0, "adversary": 1.0}
"""What halved the gap on tickets with a planted one (docs/fairness.md)."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


Count = Annotated[int, Field(ge=1, le=1024)]


def _ascending(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError(f"the smaller number comes first: [{pair[1]}, {pair[0]}]")
    return pair


class BaseModelSpec(Document):
    """Which frozen language model."""

    uri: Text
    """`embedded://base`, `file:///path` (or a path relative to the recipe), `s3://bucket/prefix`, `hf://org/name@revision`."""
    dtype: Numerics = "float32"
    """Number formats that it is loaded and computed in: `float32`, `bfloat16`, `float16`, or `int8` (docs/vocabulary.md). The
    prompt itself is always trained in float32."""

    @model_validator(mode="after")
    def _check_uri(self) -> Self:
        if "://" in self.uri and not self.uri.startswith(("embedded://", "file://", "s3://", "hf://")):
            raise ValueError(f"uri: scheme {self.uri.split('://')[0]!r} is unknown; use embedded, file, s3 or hf")
        if self.uri.startswith("hf://") and not re.fullmatch(r"hf://[^/@]+/[^/@]+@[^@]+", self.uri):
            raise ValueError("uri: a hub model needs its revision: hf://org/name@revision (a commit is best)")
        return self


class SplitSpec(Document):
    """How rows are divided. A row's part follows from a hash of its content, so adding rows moves none."""

    validation: Fraction = 0.2
    """Share of the training rows that picks the best checkpoint."""
    test: Fraction = 0.2
    """Share that the gates judge; 0 when `test_uri` gives those rows."""
    seed: int = 0
    """Another seed, another division."""


class FindingActions(Document):
    """What happens when a check finds something: `refuse` the dataset, `drop` the rows and say so, `warn`, or `ignore`."""

    unreadable: RowAction = "refuse"
    """Rows that are not JSON or CSV, lack a column, or whose cells are empty or of another type."""
    unknown_labels: RowAction = "refuse"
    """Labels that `task.labels` does not list, or that no training row has."""
    too_long: RowAction = "refuse"
    """Rows that do not fit into the base model's context beside the prompt."""
    odd_characters: RowAction = "warn"
    """Control characters, invisible ones, replacement characters."""
    mojibake: RowAction = "warn"
    """Text that was read with the wrong encoding once."""
    mixed_scripts: RowAction = "warn"
    """Words of letters from several scripts that look alike."""
    personal_data: RowAction = "warn"
    """E-mail addresses, phone and card numbers, IBANs, national ids; never printed in full."""
    instructions: RowAction = "warn"
    """Texts that try to instruct the model."""
    duplicates: RowAction = "warn"
    """The same input and answer again."""
    conflicts: RowAction = "warn"
    """The same input with another answer; refused beyond `limits.conflicts` whatever stands here, unless they are dropped."""
    near_duplicates: RowAction = "warn"
    """Almost the same input within one part."""
    leakage: RowAction = "drop"
    """Rows that ask what a row of a later part asks (a training row what a validation or test row does), exactly or almost."""
    wrong_labels: RowAction = "warn"
    """Labels that a model of the other rows finds very unlikely."""
    poison: RowAction = "warn"
    """A word or phrase that predicts one label far too well."""
    torn_groups: SetAction = "warn"
    """Groups that a given split puts into several parts."""
    label_names: SetAction = "warn"
    """Labels that differ by case, spaces or underscores only, or have spaces around them."""
    rare_labels: SetAction = "warn"
    """Labels with fewer training rows than `limits.rows_of_label`."""
    imbalance: SetAction = "warn"
    """A most frequent label with `limits.imbalance` times the rows of the rarest, or a few labels with nearly all rows."""
    missing_labels: SetAction = "warn"
    """Labels that a part has no row of."""
    few_rows: SetAction = "warn"
    """Too few validation or test rows to tell candidates apart."""
    languages: SetAction = "warn"
    """A second language or script in a small share of the rows."""
    drift: SetAction = "warn"
    """Rows unlike those of `reference`."""


class DataLimits(Document):
    """Where the checks draw their lines."""

    rows_of_label: int = Field(default=5, ge=1)
    """Fewest training rows of a label."""
    imbalance: float = Field(default=20.0, ge=1)
    """Rows of the most frequent label to one of the rarest."""
    conflicts: Fraction = 0.05
    """Share of rows whose input stands elsewhere with another answer, above which nothing good can be learned."""
    similarity: float = Field(default=0.9, gt=0.5, le=1)
    """Jaccard similarity of two inputs' five-character pieces from which they are almost the same."""
    sample_rows: int = Field(default=20_000, ge=100)
    """Rows, drawn by the split's seed, that checks with a model of their own look at: wrong labels, poison, languages."""


class DatasetSpec(Document):
    """Which rows, and what their columns mean. The input columns are those that the template names."""

    uri: Text
    """`embedded://tickets` (`faq`, `answers`), a path (relative to the recipe), `file://`, `s3://bucket/key`, `https://`, or
    `hf://datasets/org/name@revision`: JSONL, CSV, TSV, Parquet or Arrow by its ending, `.gz` and `.zst` too, or a folder of
    them."""
    test_uri: str = ""
    """Rows for the gates in a place of their own; then `split.test` must be 0."""
    target_column: str = ""
    """The column with the right answer: a label, or the text to generate."""
    messages_column: str = ""
    """Instead: the column with a conversation, a list of `{role, content}`; every turn of the assistant is an answer to learn."""
    id_column: str = ""
    """The column that names a row in reports; empty: the row's source line."""
    split_column: str = ""
    """The column that says `train`, `validation` or `test`; then `split.test` must be 0."""
    group_column: str = ""
    """Rows with the same value here (one customer, one conversation) are never torn apart by the split."""
    must_pass_column: str = ""
    """The column that is true for rows every approved prompt must answer rightly."""
    subgroup_columns: tuple[str, ...] = ()
    """Columns whose values name subgroups of rows, kept with each row for gates on slices."""
    split: SplitSpec = SplitSpec()
    """How rows are divided into training, validation and test."""
    on_finding: FindingActions = FindingActions()
    """What each check's findings lead to."""
    limits: DataLimits = DataLimits()
    """Limits of the checks."""
    reference: str = ""
    """An earlier dataset artifact (a folder or `s3://` prefix) that drift is measured against. Default: what the prompt that
    the channel serves now was made from."""
    engine: Literal["local", "ray"] = "local"
    """Where rows are looked at: in this process, or by Ray Data over a cluster. The findings are the same."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if bool(self.target_column) == bool(self.messages_column):
            raise ValueError("target_column: give the answer's column here, or the conversation's in messages_column")
        named = [name for name, given in (("test_uri", self.test_uri), ("split_column", self.split_column)) if given]
        if len(named) == 2:
            raise ValueError("split_column: test_uri already says which rows are the test's; give one of the two")
        if named and self.split.test:
            raise ValueError(f"split.test must be 0 when {named[0]} gives the test rows")
        if not named and not self.split.test:
            raise ValueError("split.test must be above 0, or test_uri or split_column must give the test rows: gates need them")
        if not self.split.validation:
            raise ValueError("split.validation must be above 0: the best checkpoint is picked on it")
        if self.split.validation + self.split.test >= 0.9:
            raise ValueError("split.validation + split.test must stay below 0.9, so that rows are left to train on")
        return self


class TaskSpec(Document):
    """What the prompt has to do."""

    type: TaskType
    """`classification`: pick one of the labels. `generation`: write a text."""
    template: Text
    """The input text around a row's columns, each in braces: `"Message: {text}\\nAnswer:"`; `{{` is a brace. For conversations
    `"{messages}"`: the base model's own chat template."""
    labels: tuple[Text, ...] = ()
    """The labels there are. Default: those of the training rows."""
    verbalisers: dict[str, Text] = Field(default_factory=dict)
    """Label -> the answer text the model gives for it. Default: a space, then the label with `_` as spaces."""
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    """Longest generated answer, in tokens (generation only)."""

    @model_validator(mode="after")
    def _check_template(self) -> Self:
        if not _fields("template", self.template):
            raise ValueError('template: names no column; put one in braces, as in "Message: {text}\\nAnswer:"')
        if (self.verbalisers or self.labels) and self.type == "generation":
            raise ValueError("verbalisers, labels: only a classification has labels")
        return self


class FrequentTokensInit(Document):
    """Start from vocabulary rows drawn among the most frequent tokens of the training rows (Lester 2021)."""

    method: Literal["frequent_tokens"] = "frequent_tokens"
    num_candidates: int = Field(default=500, ge=1)
    """How many of the most frequent tokens to draw from."""


class ClassLabelsInit(Document):
    """Start from the vocabulary rows of the label words (Lester 2021)."""

    method: Literal["class_labels"]


class ExamplesInit(Document):
    """Start from the vocabulary rows of training rows with their answers, a few shots as an instruction would show them."""

    method: Literal["examples"]


class TextInit(Document):
    """Start from the vocabulary rows of a text, repeated or cut to length."""

    method: Literal["text"]
    text: Text
    """For example a hand-written instruction."""


class PromptInit(Document):
    """Start from another prompt of the same base model and kind (SPoT, Vu 2022)."""

    method: Literal["prompt"]
    uri: Text
    """Directory of a prompt file, or of a prompt that stock PEFT saved; or a published prompt's manifest in its store,
    `s3://BUCKET/blobs/sha256/DIGEST`."""
    any_base: bool = False
    """A prompt file of another base model will do: its numbers are taken where kind, length and widths agree. Where they do not,
    training starts from frequent tokens."""


class RandomInit(Document):
    """Start from Gaussian noise scaled to the embedding table's RMS."""

    method: Literal["random"]


InitSpec = Annotated[
    FrequentTokensInit | ClassLabelsInit | ExamplesInit | TextInit | PromptInit | RandomInit, Field(discriminator="method")
]


class PromptSpec(Document):
    """The shape of the prompt and where it starts."""

    kind: PromptKind = "shallow"
    """`shallow`: vectors in front of the input embeddings, kilobytes. `deep`: keys and values for every layer, stronger."""
    num_tokens: int = Field(default_factory=lambda given: NUM_TOKENS[given["kind"]], ge=1, le=1024)
    """Prompt tokens `P`; each takes one place of the context. Default: 100 for a shallow prompt, 20 for a deep one."""
    init: InitSpec = FrequentTokensInit()
    """Where training starts."""
    reparameterisation: Reparameterisation = "none"
    """Train vectors plus a network that all prompt tokens share, folded into the vectors at the end. `residual`: a small network
    of the vectors themselves (Razdaibiedina 2023). `mlp`: a network of learned embeddings (Li & Liang 2021); the best deep
    prompts for many labels, at the memory of `bottleneck` times a token's numbers."""
    bottleneck: int = Field(default=64, ge=1, le=4096)
    """Width of that network's middle; `mlp` wants 256."""


class Candidate(Document):
    """A variation of the recipe that competes with the others on validation; what it leaves out is as the recipe says."""

    seed: int | None = None
    """Seed of initialisation and row order."""
    num_tokens: int | None = Field(default=None, ge=1, le=1024)
    """Prompt tokens `P`."""
    learning_rate: float | None = Field(default=None, gt=0)
    """As in `training`."""
    init: InitSpec | None = None
    """Where training starts."""
    fairness_weight: float | None = Field(default=None, ge=0)
    """As `training.fairness.weight`."""


class FairnessSpec(Document):
    """An objective beside the loss that pulls the answers to subgroups together (docs/fairness.md)."""

    column: Text
    """The subgroup column; needed for training rows only, never to serve."""
    criterion: Criterion = "demographic_parity"
    """Which rates should be alike, as in the gate `fairness`: shares of rows that are given a label (`demographic_parity`), these
    among the rows that deserve it (`equal_opportunity`), or these and among the rows that do not (`equalised_odds`)."""
    method: FairnessMethod = "gap"
    """`gap`: the squared difference between groups' mean probabilities. `adversary`: a network that tells the group from the
    answer is trained beside the prompt, which learns to deceive it (Zhang et al. 2022)."""
    weight: float | None = Field(default=None, ge=0)
    """Of the objective beside the loss; 0: train without it, and measure. Default: 3 for a gap, 1 for an adversary."""
    label: str = ""
    """The label that matters (the favourable one). Empty: every label."""
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field(default=(), max_length=16)
    """Train one candidate for each of these weights, draw accuracy against gap, and keep one by `max_accuracy_loss`. Such as
    `[0, 1, 3, 10]`; with 0 among them the page shows what fairness costs."""
    max_accuracy_loss: float = Field(default=2.0, ge=0, le=100)
    """Of the candidates within so many points of the best validation accuracy, the one with the smallest gap is kept."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if len(set(self.weights)) < len(self.weights):
            raise ValueError("weights: the same weight stands there twice")
        return self


class TrainingSpec(Document):
    """How the prompt is tuned."""

    steps: int = Field(default=300, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=32, ge=1)
    """Rows a step, over all workers."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows computed at once, a worker, to save memory; gradients are accumulated. Default: all of its rows."""
    optimiser: Optimiser | None = None
    """`adamw` (Loshchilov & Hutter 2019), `adafactor` (Shazeer & Stern 2018), which keeps less state, or `soap` (Vyas et al.
    2024), Adam in the basis of each head's gradients. Default: `soap` for a deep prompt, `adamw` for a shallow one."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate, relative to the size of the vectors that are trained: 0.1 moves each number by about a tenth of what
    is usual there, a step. Default: 1 for a shallow prompt; 0.12 for the keys of a deep one, whose values move three times
    as far."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay, relative to the learning rate."""
    max_gradient_norm: float | None = Field(default=None, gt=0)
    """Longer gradients are cut to this norm. Default: never."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the learning rate rises from 0. Default: a tenth of the steps."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """After the warm-up: stay, or fall to zero along a cosine."""
    loss: Loss | None = None
    """`answers`: likelihood among the labels, under their trie. `likelihood`: of the text. Default: follows the task."""
    validate_every_steps: int = Field(default=50, ge=1)
    """How often validation rows are scored; the best checkpoint wins."""
    validation_metric: ValidationMetric | None = None
    """What `best` means: `accuracy` (ties go to the lower loss) or `loss`. Default: accuracy where answers are a closed set."""
    patience: int | None = Field(default=None, ge=1)
    """Stop a candidate after so many looks at validation without a better one. Default: never."""
    num_workers: Count | Annotated[tuple[Count, Count], AfterValidator(_ascending)] = 1
    """Ray Train workers; each holds the frozen base, only the prompt's gradient is exchanged. `[min, max]`: as many as fit, and
    the same prompt however many take part."""
    activation_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more time. Causal base models only."""
    seed: int = 0
    """Seed of initialisation and row order."""
    candidates: tuple[Candidate, ...] = Field(default=(), max_length=64)
    """Variations to try over the same frozen base; the best on validation wins. Empty: just the recipe itself."""
    halving: bool = True
    """Drop the worse half of the candidates at a half of the steps, at a quarter before, and so on until all take part."""
    seeds: int = Field(default=1, ge=1, le=32)
    """Train the best setting with so many seeds in all, report the spread, keep the best on validation."""
    fairness: FairnessSpec | None = None
    """Pull the answers to subgroups together. Default: no."""

    @property
    def variations(self) -> tuple[Candidate, ...]:
        """What is trained: the candidates, or one for each weight of fairness; the recipe itself where it names neither."""
        weights = self.fairness.weights if self.fairness else ()
        return self.candidates or tuple(Candidate(fairness_weight=weight) for weight in weights) or (Candidate(),)

    @property
    def num_shards(self) -> int:
        """Into how many shards a batch is cut: as many as there can be workers where their number may change; 0: one a worker."""
        return 0 if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def drops_candidates(self) -> bool:
        """Whether the worse ones are given up early; a trade-off curve needs them all."""
        return self.halving and not (self.fairness and self.fairness.weights)

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})")
        return self


class FormatSpec(Document):
    """What a generated text has to look like; every rule that is given must hold."""

    regex: str = ""
    """The whole text matches this regular expression (Python's `re`)."""
    json_schema: dict[str, JsonValue] | None = None
    """The text is JSON that this JSON Schema accepts."""

    @model_validator(mode="after")
    def _check_regex(self) -> Self:
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"regex: {error}") from None
        return self


class SamplingSpec(Document):
    """How generated texts are drawn. Greedy by default."""

    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    """0: the most likely token each time (greedy)."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Draw from the most likely tokens that hold this share of the probability (nucleus sampling, Holtzman 2020)."""
    seed: int = 0
    """Of the draws: the same seed gives the same texts, whatever rows stand beside a row."""


class EvaluationSpec(Document):
    """What the prompt is compared with, and how."""

    instruction: str = ""
    """Template of a hand-written instruction for the bare base, the prompt engineering that a soft prompt replaces."""
    instructions: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Text] = Field(default_factory=dict)
    """More of them, by name; each is the system `instruction_NAME`."""
    few_shot: int = Field(default=0, ge=0, le=64)
    """Training rows with their answers in front of the instruction (of the task's template if there is none): the system
    `few_shot`."""
    train: tuple[Literal["lora", "full_fine_tuning"], ...] = ()
    """Train these on the same rows for as many steps, and compare: the systems `lora` and `full_fine_tuning`."""
    earlier: str = ""
    """An earlier dataset artifact (a folder or `s3://` prefix), such as last month's: the prompt answers its test rows too."""
    perturbations: tuple[Perturbation, ...] = ()
    """Disturbances to measure besides those that gates name."""
    paraphrases: str = ""
    """JSONL with `id` of a test row and a paraphrase in the template's columns, for the perturbation `paraphrases`."""
    format: FormatSpec = FormatSpec()
    """Rules behind the metric `format_valid` (generation only)."""
    required_phrases: tuple[Text, ...] = ()
    """Each must stand in a generated text, upper and lower case alike: the metric `phrases_kept`."""
    forbidden_phrases: tuple[Text, ...] = ()
    """None may stand in it."""
    sampling: SamplingSpec = SamplingSpec()
    """How texts are generated."""
    engine: Literal["local", "ray"] = "local"
    """Where rows are answered: in this process, or by Ray Data over a cluster. The answers are the same."""
    batch_size: int = Field(default=64, ge=1)
    """Rows scored at once."""
    bootstrap_samples: int = Field(default=2000, ge=200, le=100_000)
    """Resamples behind each bootstrap interval."""

    def templates(self) -> dict[System, str]:
        """The hand-written instructions by the name of their system."""
        first = {"instruction": self.instruction} if self.instruction else {}
        return first | {f"instruction_{name}": template for name, template in self.instructions.items()}

    def metrics(self, task: TaskType) -> tuple[Metric, ...]:
        """What is measured: the task's metrics, without those that nothing was declared for."""
        silent = {"format_valid"} if not self.format.regex and self.format.json_schema is None else set()
        silent |= {"phrases_kept"} if not self.required_phrases and not self.forbidden_phrases else set()
        return tuple(metric for metric in METRICS_OF_TASK[task] if metric not in silent)


class Recipe(Document):
    """What a user asks for: a soft prompt for one task on one frozen base model, the gates it must pass, and its channel."""

    schema_version: Literal[1]
    """Version of this schema; always 1 today."""
    name: Name
    """The prompt's name: lower-case letters, digits and hyphens, at most 40."""
    channel: Name
    """The channel it is meant for; that channel's policy decides what may be published there."""
    base_model: BaseModelSpec
    """Which frozen language model."""
    dataset: DatasetSpec
    """Which rows."""
    task: TaskSpec
    """What the prompt has to do."""
    prompt: PromptSpec = PromptSpec()
    """The shape of the prompt."""
    training: TrainingSpec = TrainingSpec()
    """How it is tuned."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """What it is compared with."""
    gates: tuple[GateSpec, ...]
    """What it must prove on rows that training never saw; at least one gate that blocks."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        for problem in _impossible(self):
            raise ValueError(problem)
        return self

    @property
    def loss(self) -> Loss:
        """The training loss: as given, else `answers` for a closed set of answers and `likelihood` for an open one."""
        return self.training.loss or ("answers" if self.task.type == "classification" else "likelihood")

    @property
    def validation_metric(self) -> ValidationMetric:
        """What `best on validation` means: as given, else accuracy where the loss is over a closed set of answers."""
        return self.training.validation_metric or ("accuracy" if self.loss == "answers" else "loss")

    def training_of(self, candidate: Candidate) -> TrainingSpec:
        """The training with a candidate's wishes, learning rate and warm-up filled in."""
        rate = candidate.learning_rate or self.training.learning_rate or LEARNING_RATES[self.prompt.kind]
        warmup = self.training.steps // 10 if self.training.warmup_steps is None else None
        fairness = self._fairness_of(candidate)
        optimiser = self.training.optimiser or OPTIMISERS[self.prompt.kind]
        given = {
            "seed": candidate.seed,
            "learning_rate": rate,
            "warmup_steps": warmup,
            "optimiser": optimiser,
            "fairness": fairness,
        }
        return self.training.model_copy(update={key: value for key, value in given.items() if value is not None})

    def _fairness_of(self, candidate: Candidate) -> FairnessSpec | None:
        spec = self.training.fairness
        if spec is None:
            return None
        wished = spec.weight if candidate.fairness_weight is None else candidate.fairness_weight
        return spec.model_copy(update={"weight": FAIRNESS_WEIGHTS[spec.method] if wished is None else wished})

    def prompt_of(self, candidate: Candidate) -> PromptSpec:
        """The prompt's shape and start with a candidate's wishes."""
        given = {"num_tokens": candidate.num_tokens, "init": candidate.init}
        return self.prompt.model_copy(update={key: value for key, value in given.items() if value is not None})

    @property
    def input_columns(self) -> tuple[str, ...]:
        """The dataset columns that the template names."""
        return template_fields(self.task.template)


def _fields(key: str, template: str) -> tuple[str, ...]:
    try:
        return template_fields(template)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _impossible(recipe: Recipe) -> list[str]:
    """Combinations that no run could satisfy, each as one sentence that begins with the key's path."""
    problems = []
    if recipe.loss == "answers" and recipe.task.type == "generation":
        problems.append("training.loss: 'answers' needs a closed set of answers, a generation has none; use 'likelihood'")
    if recipe.training.validation_metric == "accuracy" and recipe.loss != "answers":
        problems.append("training.validation_metric: 'accuracy' needs training.loss 'answers'; use 'loss'")
    if recipe.task.type == "generation" and recipe.prompt.init.method == "class_labels":
        problems.append("prompt.init: class_labels needs labels, a generation has none")
    if recipe.dataset.messages_column and (recipe.task.type, recipe.task.template) != ("generation", "{messages}"):
        problems.append('task.template: conversations need type: generation and template: "{messages}"')
    if recipe.dataset.target_column in recipe.input_columns:
        problems.append(f"task.template: contains the answer itself, column {recipe.dataset.target_column!r}")
    if not any(gate.severity == "block" for gate in recipe.gates):
        problems.append("gates: none of them blocks; at least one must")
    for number, gate in enumerate(recipe.gates):
        problems += [f"gates.{number}.{problem}" for problem in _impossible_gate(recipe, gate)]
    for system, template in recipe.evaluation.templates().items():
        key = f"evaluation.{'instructions.' if '_' in system else ''}{system.removeprefix('instruction_')}"
        missing = set(_fields(key, template)) ^ set(recipe.input_columns)
        if missing:
            problems.append(f"{key}: must name the same columns as task.template, differs in {sorted(missing)}")
    problems += [f"training.{problem}" for problem in _impossible_fairness(recipe)]
    names = [gate.name for gate in recipe.gates]
    if len(set(names)) < len(names):
        problems.append("gates: two gates say the same")
    return problems


def _impossible_fairness(recipe: Recipe) -> Iterator[str]:
    """What keeps a fairness objective from being trained."""
    spec, candidates = recipe.training.fairness, recipe.training.candidates
    if spec is None:
        if any(candidate.fairness_weight is not None for candidate in candidates):
            yield "candidates: fairness_weight weighs training.fairness, which is not there"
        return
    if recipe.loss != "answers":
        yield "fairness: needs the probability of every label; use a classification with training.loss 'answers'"
    if spec.column not in recipe.dataset.subgroup_columns:
        yield f"fairness.column: {spec.column!r} is not among dataset.subgroup_columns"
    if spec.label and recipe.task.labels and spec.label not in recipe.task.labels:
        yield f"fairness.label: {spec.label!r} is not among task.labels"
    if spec.weights and candidates:
        yield "fairness.weights: makes candidates of its own; give these or training.candidates with a fairness_weight each"


def _impossible_gate(recipe: Recipe, gate: GateSpec) -> Iterator[str]:
    """What no run of this recipe could measure for a gate."""
    known, columns = recipe.evaluation.metrics(recipe.task.type), recipe.dataset.subgroup_columns
    metric: Metric | None = getattr(gate, "metric", None)
    if metric is not None and metric not in METRICS_OF_TASK[recipe.task.type]:
        yield f"metric: {metric} does not exist for a {recipe.task.type}; use {' or '.join(known)}"
    elif metric is not None and metric not in known:
        yield f"metric: nothing is declared for {metric}; see evaluation.format, required_phrases and forbidden_phrases"
    wanted = tuple(gate.slice) if isinstance(gate, MetricGate) else getattr(gate, "columns", ())
    for column in wanted:
        if column not in columns:
            yield f"{'slice' if isinstance(gate, MetricGate) else 'columns'}: {column!r} is not among dataset.subgroup_columns"
    if isinstance(gate, MetricGate) and gate.baseline:
        yield from _impossible_baseline(recipe, gate)
    if gate.kind == "fairness" and recipe.task.type != "classification":
        yield "kind: fairness compares shares of labels; a generation has none"
    if gate.kind == "must_pass" and not recipe.dataset.must_pass_column:
        yield "kind: must_pass needs dataset.must_pass_column"
    if gate.kind == "robustness" and gate.perturbation == "paraphrases" and not recipe.evaluation.paraphrases:
        yield "perturbation: evaluation.paraphrases is empty; name the file"


def _impossible_baseline(recipe: Recipe, gate: MetricGate) -> Iterator[str]:
    evaluation, baseline = recipe.evaluation, gate.baseline
    key = "better_than" if gate.better_than else "not_worse_than"
    if baseline == "classical" and recipe.task.type != "classification":
        yield f"{key}: the classical baseline is a classifier; a generation has none"
    if baseline == "instruction" and not evaluation.instruction:
        yield f"{key}: evaluation.instruction is empty; write the instruction to compare with"
    there = {"bare_base", "classical", "champion", "instruction", *evaluation.templates(), *evaluation.train}
    there |= {"few_shot"} if evaluation.few_shot else set()
    if baseline not in there:
        yield f"{key}: nothing in the recipe's evaluation is called {baseline!r}; there is {', '.join(sorted(there))}"
    if baseline == "classical" and gate.metric in OF_PROBABILITIES:
        yield f"{key}: the classical baseline has no probabilities, and {gate.metric} needs them"
