"""The whole way in 8 bits: recipe, training, evaluation, evidence, the channel's policy, a node, `ask`; and where it ends."""

import json
from pathlib import Path

import httpx
import pytest

from softprompt.artifact import PromptFile
from softprompt.ask import ask_prompt
from softprompt.base_model import load_base_model
from softprompt.data.validate import validate_dataset
from softprompt.deployment import laptop
from softprompt.errors import SoftpromptError
from softprompt.evaluation.evaluate import evaluate_prompt
from softprompt.evaluation.gate_report import GateReport
from softprompt.quantised import FrozenLinear
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.resolve import resolve_recipe
from softprompt.run_channel import publish_run
from softprompt.serve import ServeOptions, running_node
from softprompt.settings import Settings
from softprompt.tuning.job import Job
from softprompt.tuning.outcome import judge
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.ray_worker import facts_of
from softprompt.tuning.training_log import TrainingLog
from softprompt.tuning.tune import write_results
from softprompt.tuning.workers import Workers
from tests.builders import colour_rows, write_jsonl, write_recipe
from tests.serving_node import server_of


class Tuned:
    """What a run leaves before it is published; without Ray, which is not what is tested here."""

    def __init__(self, folder: Path, base: Path, kind: str) -> None:
        self.folder, self.base = folder, base
        text = write_recipe(
            folder / "recipe.yaml", base, write_jsonl(folder / "rows.jsonl", colour_rows()), kind=kind
        ).read_text()
        asked = text.replace(f'{{uri: "{base}"}}', f'{{uri: "{base}", dtype: int8}}')
        assert asked != text
        self.resolved = resolve_recipe(asked)
        validate_dataset(self.resolved, folder / "dataset", folder / "dataset.html")
        job = Job.load(self.resolved, folder / "dataset")
        assert any(isinstance(layer, FrozenLinear) for layer in job.base.model.modules())
        state = run_population(job, PopulationState(), Workers(), lambda state, run: None)
        state.outcome = judge(job, state)
        facts = {"base_digest_before": "0" * 64, "base_digest_after": "0" * 64} | facts_of(job, Workers())
        write_results(self.resolved, state, facts, folder / "prompt", folder / "log.json")
        evaluate_prompt(
            self.resolved, *(folder / name for name in ("dataset", "prompt", "log.json", "gates.json", "report.html"))
        )
        self.report = GateReport.from_bytes((folder / "gates.json").read_bytes(), source="gates")
        self.log = TrainingLog.from_bytes((folder / "log.json").read_bytes(), source="log")

    @property
    def prompt(self) -> PromptFile:
        return PromptFile.read(self.folder / "prompt")

    def publish(self, settings: Settings):
        evidence = {"gate_report.json": (self.folder / "gates.json").read_bytes()}
        return publish_run(
            self.resolved, self.folder / "prompt", evidence, settings, verdict="passed", evaluated="", model_version="1"
        )

    def options(self, dtype: str) -> ServeOptions:
        return ServeOptions(channel="laptop", base_uri=self.base.as_uri(), dtype=dtype)


@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_from_recipe_to_answer(kind, tmp_path, llama_directory, monkeypatch):
    loaded = []
    monkeypatch.setattr("softprompt.ask.load_base_model", lambda *a, **k: loaded.append(k["dtype"]) or load_base_model(*a, **k))
    tuned = Tuned(tmp_path, llama_directory, kind)
    assert tuned.report.numerics == tuned.log.numerics == "int8"
    settings = Settings.from_environment()
    policy = settings.policies / "laptop" / "_policy.yaml"
    with laptop(settings):
        assert policy.read_text() == LAPTOP_POLICY
        refused = tuned.publish(settings)
        assert refused.outcome == "refused"
        assert "measured in int8; the channel's fleet uses float32 and bfloat16" in refused.reasons[0]
        policy.write_text(f"{LAPTOP_POLICY}numerics: [int8]\n")
        assert tuned.publish(settings).outcome == "published"
        with pytest.raises(SoftpromptError, match="number format"), running_node(settings, tuned.options("bfloat16")):
            pytest.fail("it serves")
        rows = tuned.report.rows[:5]
        lines = (tmp_path / "rows.jsonl").read_text().splitlines()
        texts = [json.loads(lines[int(row.id.split(":")[1]) - 1])["text"] for row in rows]
        with running_node(settings, tuned.options("int8")) as node, server_of(node) as url:
            for row, text in zip(rows, texts, strict=True):
                reply = httpx.post(f"{url}/v1/classify", json={"model": "colours", "input": text})
                assert reply.headers["x-softprompt-digest"] == f"sha256:{tuned.prompt.digest}"
                assert reply.json()["label"] == row.outputs["soft_prompt"]
                assert max(reply.json()["probabilities"].values()) == pytest.approx(row.confidence, abs=5e-3)
        answer = ask_prompt(settings, "laptop", "colours", texts[0])
        assert answer.soft_prompt == rows[0].outputs["soft_prompt"]
        assert answer.confidence == pytest.approx(rows[0].confidence, abs=5e-3)
        assert loaded == ["int8"], "in the number format of the evidence"
