"""`tune_prompt` through KFP's local runner and a real Ray: a prompt file, its log, and metrics that arrive while it trains."""

import json

import pytest

from softprompt.artifact import PromptFile
from softprompt.base_model import load_base_model, parameter_digest
from softprompt.fingerprint import fingerprint
from softprompt.tuning.training_log import TrainingLog


def prompt_of(run):
    return PromptFile.read(run.output("tune_prompt", "prompt"))


def log_of(run):
    return TrainingLog.from_bytes(run.output("tune_prompt", "training_log").read_bytes(), source="output")


def test_the_prompt_file_verifies_and_names_base_task_and_answers(passed_run):
    file = prompt_of(passed_run)
    assert file.digest == passed_run.summary.prompt
    assert file.manifest.base_fingerprint == fingerprint(passed_run.base)
    assert file.values.shape == (4, 32)
    assert {answer.label: answer.text for answer in file.manifest.answers} == {"red": " red", "green": " green", "blue": " blue"}
    assert file.manifest.template_examples, "serving compares token ids with these"


def test_a_deep_prompt_holds_keys_and_values_for_every_layer(rejected_run):
    assert prompt_of(rejected_run).values.shape == (2, 2, 4, 2, 8)
    assert log_of(rejected_run).kind == "deep"


def test_of_a_deep_prompt_it_tells_what_was_trained_and_with_how_much_noise(passed_run, rejected_run):
    """Half of its keys' numbers turn with their place (`softprompt/engine/rotary.py`); a shallow one is trained whole."""
    assert log_of(rejected_run).trainable_parameters == 0.75 * prompt_of(rejected_run).values.size
    assert log_of(rejected_run).input_noise == 0.2
    assert log_of(passed_run).trainable_parameters == prompt_of(passed_run).values.size
    assert log_of(passed_run).input_noise == 0


def test_the_directory_is_a_peft_checkpoint_too(passed_run):
    folder = passed_run.output("tune_prompt", "prompt")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["num_virtual_tokens"]) == ("PROMPT_TUNING", 4)
    assert config["base_model_name_or_path"] == passed_run.base.as_uri()


def test_not_one_bit_of_the_base_changed(passed_run):
    log = log_of(passed_run)
    assert log.base_digest_before == log.base_digest_after == parameter_digest(load_base_model(passed_run.base).model)


def test_the_log_tells_every_look_and_the_best_of_them_is_the_prompt(passed_run):
    log = log_of(passed_run)
    assert [look.step for look in log.measurements] == [3, 6]
    best = min(log.measurements, key=lambda look: look.validation_loss)
    assert log.best_step == best.step
    assert log.candidates[log.winner].validation_loss == best.validation_loss
    assert log.prompt == prompt_of(passed_run).digest
    assert (log.strategy, log.loss) == ("shared_prefix", "answers")


def test_kfp_shows_the_last_numbers_and_the_prompts_digest(passed_run):
    shown = passed_run.artifact("tune_prompt", "training_metrics")
    assert shown == log_of(passed_run).headline
    assert passed_run.artifact("tune_prompt", "prompt") == {"digest": passed_run.summary.prompt}


def test_metrics_are_in_mlflow_by_step(passed_run, registry):
    run_id = passed_run.output("tune_prompt", "mlflow_run").read_text()
    looks = log_of(passed_run).measurements
    history = lambda metric: {
        found.step: found.value for found in registry(passed_run).get_metric_history(run_id, f"tune_prompt/{metric}")
    }
    for metric in ("validation_loss", "validation_accuracy", "learning_rate", "tokens_per_second"):
        assert history(metric) == {look.step: getattr(look, metric) for look in looks}
    losses, before = history("training_loss"), 0
    assert list(losses) == list(range(1, looks[-1].step + 1)), "each step's"
    for look in looks:
        since = [losses[step] for step in range(before + 1, look.step + 1)]
        assert sum(since) / len(since) == pytest.approx(look.training_loss)
        before = look.step


def test_metrics_arrive_while_it_trains(passed_run, run_after_kill, registry):
    """A run that was killed in its third of six steps had told MLflow of these three."""
    client = registry(passed_run)
    experiment = client.get_experiment_by_name("colours").experiment_id
    (killed,) = client.search_runs([experiment], "attributes.status = 'RUNNING'")
    assert killed.info.run_id != run_after_kill.summary.mlflow_run
    history = client.get_metric_history(killed.info.run_id, "tune_prompt/validation_loss")
    assert [found.step for found in history][:1] == [3]


def test_training_again_gives_the_same_bits(passed_run, run_after_kill):
    assert prompt_of(run_after_kill).tensor == prompt_of(passed_run).tensor
    assert run_after_kill.summary.prompt == passed_run.summary.prompt


def test_the_page_shows_the_curves_and_the_one_candidate(passed_run):
    page = passed_run.output("tune_prompt", "training_report").read_text()
    assert page.count("<svg") == 2, "losses and accuracy"
    assert str(log_of(passed_run).best_step) in page
    assert passed_run.summary.training_report == str(passed_run.output("tune_prompt", "training_report"))
