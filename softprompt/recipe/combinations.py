"""Parts of a recipe that are each right and that no run could satisfy together."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from softprompt.recipe.gates import METRICS_OF_TASK, OF_PROBABILITIES, GateSpec, Metric, MetricGate
from softprompt.recipe.task import fields_of

if TYPE_CHECKING:
    from softprompt.recipe import Recipe


def impossible(recipe: "Recipe") -> list[str]:
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
        missing = set(fields_of(key, template)) ^ set(recipe.input_columns)
        if missing:
            problems.append(f"{key}: must name the same columns as task.template, differs in {sorted(missing)}")
    problems += [f"training.{problem}" for problem in _impossible_fairness(recipe)]
    names = [gate.name for gate in recipe.gates]
    if len(set(names)) < len(names):
        problems.append("gates: two gates say the same")
    return problems


def _impossible_fairness(recipe: "Recipe") -> Iterator[str]:
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


def _impossible_gate(recipe: "Recipe", gate: GateSpec) -> Iterator[str]:
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


def _impossible_baseline(recipe: "Recipe", gate: MetricGate) -> Iterator[str]:
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
