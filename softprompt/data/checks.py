"""What is wrong with the rows: each check is a function of all rows that gives findings."""

from collections import Counter, defaultdict

from softprompt.base_model import TextSide
from softprompt.data.rows import Finding, Row
from softprompt.engine.encoding import answers_for
from softprompt.engine.task import EncodedTask
from softprompt.recipe import Recipe

FEWEST_ROWS_A_LABEL = 5
FEWEST_TEST_ROWS = 30
MOST_CONFLICTS = 0.05
"""Share of rows whose input stands elsewhere with another answer, above which nothing good can be learned."""


def check_labels(recipe: Recipe, rows: list[Row]) -> list[Finding]:
    """Labels: at least two, all known to training, none rare, verbalisers for none that does not exist."""
    if recipe.task.type != "classification":
        return []
    trained = Counter(row.target for row in rows if row.part == "train")
    findings = []
    if len(trained) < 2:
        findings.append(Finding("labels", "refuse", f"Training rows have {len(trained)} different labels; a choice needs two."))
    unseen = [row for row in rows if row.target not in trained]
    if unseen:
        names = sorted({row.target for row in unseen})
        message = f"Labels that no training row has: {_listed(names)}. Add training rows for them, or remove these rows."
        findings.append(_about("unseen_labels", "refuse", message, unseen))
    strangers = sorted(set(recipe.task.verbalisers) - set(trained))
    if strangers:
        findings.append(Finding("verbalisers", "refuse", f"task.verbalisers names labels that no row has: {_listed(strangers)}."))
    rare = [label for label, count in sorted(trained.items()) if count < FEWEST_ROWS_A_LABEL]
    if rare:
        message = f"Labels with fewer than {FEWEST_ROWS_A_LABEL} training rows: {_listed(rare)}. Expect them to be guessed badly."
        findings.append(Finding("rare_labels", "warn", message))
    return findings


def check_counts(rows: list[Row]) -> list[Finding]:
    """Every part has rows, and the test part enough for a verdict."""
    counts = Counter(row.part for row in rows)
    empty = [part for part in ("train", "validation", "test") if not counts[part]]
    if empty:
        return [Finding("counts", "refuse", f"No rows for {_listed(empty)}; there are {len(rows)} rows in all.")]
    if counts["test"] < FEWEST_TEST_ROWS:
        message = f"Only {counts['test']} test rows: intervals will be so wide that gates may stay undecided."
        return [Finding("counts", "warn", message)]
    return []


def check_repeats(rows: list[Row]) -> list[Finding]:
    """Equal inputs: repeated, with contradicting answers, or on both sides of the line between training and test."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.input_digest].append(row)
    repeated = [row for group in groups.values() for row in group[1:] if len({twin.target for twin in group}) == 1]
    disputed = [row for group in groups.values() if len({twin.target for twin in group}) > 1 for row in group]
    findings = []
    if repeated:
        findings.append(_about("duplicates", "warn", f"{len(repeated)} rows repeat another row's input and answer.", repeated))
    if disputed:
        severity = "refuse" if len(disputed) > MOST_CONFLICTS * len(rows) else "warn"
        message = f"{len(disputed)} rows have the same input as another row, and another answer."
        findings.append(_about("conflicts", severity, message, disputed))
    return findings


def without_leaks(rows: list[Row]) -> tuple[list[Row], list[Finding]]:
    """Leave out training and validation rows whose input is also a test row: a test must ask what training never saw."""
    tested = {row.input_digest for row in rows if row.part == "test"}
    leaked = [row for row in rows if row.part != "test" and row.input_digest in tested]
    if not leaked:
        return rows, []
    kept = [row for row in rows if row.part == "test" or row.input_digest not in tested]
    message = f"{len(leaked)} training rows ask what a test row asks; they were left out of training."
    return kept, [_about("leakage", "warn", message, leaked)]


def check_lengths(recipe: Recipe, text_side: TextSide, rows: list[Row]) -> list[Finding]:
    """Prompt, text and answer fit into the base's context, measured with its own tokenizer."""
    labels = tuple(sorted({row.target for row in rows})) if recipe.task.type == "classification" else ()
    task = EncodedTask.create(text_side, recipe.task.template, answers_for(labels, recipe.task.verbalisers))
    examples = task.examples([(row.inputs, row.target) for row in rows])
    room = text_side.context_tokens - recipe.prompt.num_tokens
    too_long = [(row, example.num_tokens) for row, example in zip(rows, examples, strict=True) if example.num_tokens > room]
    if not too_long:
        return []
    message = (
        f"{len(too_long)} rows do not fit: the base model's context of {text_side.context_tokens} tokens less "
        f"{recipe.prompt.num_tokens} prompt tokens leaves {max(room, 0)} for text and answer. "
        "Shorten these rows or lower prompt.num_tokens."
    )
    places, details = tuple(row.id for row, _ in too_long), tuple(f"{tokens} tokens" for _, tokens in too_long)
    return [Finding("lengths", "refuse", message, places, details)]


def _about(check: str, severity: str, message: str, rows: list[Row]) -> Finding:
    details = tuple(f"{row.part}, {row.target[:40]!r}" for row in rows)
    return Finding(check, "refuse" if severity == "refuse" else "warn", message, tuple(row.id for row in rows), details)


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
