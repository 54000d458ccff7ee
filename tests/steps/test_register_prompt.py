"""`register_prompt` through KFP's local runner: a version with its evidence, or a run with its reasons."""

import pytest

from softprompt.artifact import PromptFile
from softprompt.data.dataset import read_manifest
from softprompt.documents import sha256_hex
from softprompt.registry import Registration
from softprompt.resolve import ResolvedRecipe


def registration(run):
    return Registration.from_bytes(run.output("register_prompt", "registration").read_bytes(), source="output")


def test_a_passed_prompt_is_a_version_in_review(passed_run, registry):
    version = registry(passed_run).get_model_version("colours", passed_run.summary.version)
    resolved = ResolvedRecipe.from_bytes(passed_run.output("resolve_recipe", "resolved_recipe").read_bytes(), source="output")
    assert version.tags["review.status"] == "pending"
    assert version.tags["softprompt.prompt"] == passed_run.summary.prompt
    assert version.tags["softprompt.gates.verdict"] == "passed"
    assert version.tags["softprompt.base_fingerprint"] == resolved.base.fingerprint
    assert version.tags["softprompt.numerics"] == "float32"
    dataset = read_manifest(passed_run.output("validate_dataset", "dataset"))
    assert version.tags["softprompt.dataset"] == dataset.content_digest
    assert "accuracy at least 0.01" in version.description
    assert "review.status" in version.description, "it says how to decide"


def test_the_newest_evaluation_is_the_versions_evidence(passed_run, run_after_kill, registry):
    tags = registry(passed_run).get_model_version("colours", "1").tags
    outputs = {"gates.report": ("evaluate_prompt", "gate_report"), "recipe": ("resolve_recipe", "resolved_recipe")}
    for tag, output in outputs.items():
        assert tags[f"softprompt.{tag}"] == sha256_hex(run_after_kill.output(*output).read_bytes())


def test_the_registered_model_holds_the_prompt_file(passed_run, registry, tmp_path):
    import mlflow

    registry(passed_run)
    folder = mlflow.artifacts.download_artifacts(f"models:/colours/{passed_run.summary.version}", dst_path=str(tmp_path))
    (found,) = tmp_path.rglob("adapter_model.safetensors")
    assert folder
    assert PromptFile.read(found.parent).digest == passed_run.summary.prompt


@pytest.mark.parametrize("name", ["passed_run", "rejected_run"])
def test_every_outcome_is_a_run_with_params_metrics_dataset_and_reports(name, request, registry):
    run = request.getfixturevalue(name)
    client, run_id = registry(run), run.summary.mlflow_run
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["prompt.num_tokens"] == "4"
    assert found.data.params["training.steps"] == "6"
    assert found.data.params["prompt.kind"] == run.summary.prompt_kind
    assert found.data.metrics["evaluate_prompt/soft_prompt/accuracy"] == run.summary.metrics["soft_prompt"]["accuracy"]
    assert found.data.metrics["prompt/bytes"] == run.summary.prompt_bytes
    assert found.data.tags["softprompt.verdict"] == run.summary.verdict
    assert found.data.tags["softprompt.reason"] == run.summary.reason
    (dataset,) = found.inputs.dataset_inputs
    assert found.data.metrics["evaluate_prompt/classical/accuracy"] == run.summary.metrics["classical"]["accuracy"]
    assert dataset.dataset.digest == run.artifact("validate_dataset", "dataset")["content_digest"][:36]
    kept = {file.path for file in client.list_artifacts(run_id)}
    assert {
        "report.html",
        "dataset_report.html",
        "training_report.html",
        "gate_report.json",
        "training_log.json",
        "resolved_recipe.json",
    } <= kept


def test_a_rejected_prompt_is_no_version(rejected_run, registry):
    assert registration(rejected_run).version == rejected_run.summary.version == ""
    assert registry(rejected_run).search_registered_models() == []


def test_the_same_prompt_is_one_version_however_often_it_is_made(passed_run, run_after_kill, registry):
    assert run_after_kill.summary.mlflow_run != passed_run.summary.mlflow_run
    assert run_after_kill.summary.version == passed_run.summary.version == "1"
    assert [found.version for found in registry(passed_run).search_model_versions("name = 'colours'")] in (["1"], [1])
