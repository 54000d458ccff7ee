"""Which rows a recipe trains and judges on, and what the checks of them lead to."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from softprompt.documents import Document
from softprompt.names import Text

RowAction = Literal["refuse", "drop", "warn", "ignore"]
SetAction = Literal["refuse", "warn", "ignore"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


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
