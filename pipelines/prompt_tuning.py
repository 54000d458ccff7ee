"""The pipeline: from a labelled dataset to an approved soft prompt in a channel.

    1. resolve_recipe     fix what this run does: defaults filled in, references replaced by digests
    2. validate_dataset   refuse what would ruin a prompt
    3. tune_prompt        Ray Train over the frozen base model
    4. evaluate_prompt    gates on rows that training never saw
    5. register_prompt    MLflow: a version in review, or a recorded run with its reasons
    6. publish_prompt     what the channel's policy allows; only this one stands in a branch

The steps stand at the root of the graph, because the Kubeflow UI draws every branch and exit handler as one closed box.
"""

from kfp import dsl

from components.evaluate_prompt import evaluate_prompt
from components.explain_rejection import explain_rejection
from components.publish_prompt import publish_prompt
from components.register_prompt import register_prompt
from components.resolve_recipe import resolve_recipe
from components.tune_prompt import tune_prompt
from components.validate_dataset import validate_dataset

DESCRIPTION = """Tune a soft prompt for one task on a frozen language model, judge it, register it, and publish it.

recipe: a packaged name (demo, demo-replies, demo-faq, demo-answers, banking77), a file:// URI, or the YAML text of a recipe.
base_model, channel, dataset, prompt_kind, prompt_name: override the recipe's; empty keeps it.
num_tokens, num_workers: 0 keeps the recipe's. seed: -1 keeps the recipe's.
backend: where steps that use Ray do their work: local (in the step's pod) or rayjob (KubeRay); empty: the deployment's.

Where to look: dataset_report, training_report and report are pages; confusion_matrix and metrics are drawn; mlflow and registry
link to the MLflow run and the version; outcome says what the channel serves now, or how to propose it.

A rejected prompt is a result: the run succeeds, nothing is published, and explain_rejection says why."""


@dsl.pipeline(name="prompt-tuning", description=DESCRIPTION, display_name="Prompt tuning")
def prompt_tuning(
    recipe: str = "demo",
    backend: str = "",
    base_model: str = "",
    channel: str = "",
    dataset: str = "",
    num_tokens: int = 0,
    num_workers: int = 0,
    prompt_kind: str = "",
    prompt_name: str = "",
    seed: int = -1,
) -> None:
    """See the module's docstring."""
    resolved = resolve_recipe(
        recipe=recipe,
        base_model=base_model,
        channel=channel,
        dataset=dataset,
        num_tokens=num_tokens,
        num_workers=num_workers,
        prompt_kind=prompt_kind,
        prompt_name=prompt_name,
        seed=seed,
    )
    resolved.set_caching_options(enable_caching=False)
    wish = resolved.outputs["resolved_recipe"]

    validated = validate_dataset(resolved_recipe=wish, backend=backend)
    dataset_artifact = validated.outputs["dataset"]

    tuned = tune_prompt(resolved_recipe=wish, dataset=dataset_artifact, backend=backend)
    prompt, training_log = tuned.outputs["prompt"], tuned.outputs["training_log"]

    evaluated = evaluate_prompt(
        resolved_recipe=wish,
        dataset=dataset_artifact,
        prompt=prompt,
        training_log=training_log,
        prompt_digest=tuned.outputs["prompt_digest"],
        backend=backend,
    )
    gate_report = evaluated.outputs["gate_report"]

    registered = register_prompt(
        resolved_recipe=wish,
        mlflow_run=tuned.outputs["mlflow_run"],
        pipeline_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        dataset=dataset_artifact,
        prompt=prompt,
        training_log=training_log,
        gate_report=gate_report,
        report=evaluated.outputs["report"],
        dataset_report=validated.outputs["dataset_report"],
        training_report=tuned.outputs["training_report"],
    )
    registered.set_caching_options(enable_caching=False)

    with dsl.If(evaluated.outputs["verdict"] != "rejected", name="not-rejected"):
        published = publish_prompt(
            resolved_recipe=wish,
            registration=registered.outputs["registration"],
            dataset=dataset_artifact,
            prompt=prompt,
            training_log=training_log,
            gate_report=gate_report,
        )
        published.set_caching_options(enable_caching=False)
    with dsl.Else(name="rejected"):
        explain_rejection(gate_report=gate_report)
