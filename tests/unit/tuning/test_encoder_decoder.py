"""Deep prompts of encoder-decoder models go through everything that a causal model's do: training, ranking, generation, files."""

import math

import pytest
import torch

from softprompt.artifact import PromptFile
from softprompt.base_model import parameter_digest
from softprompt.data.validate import validate_dataset
from softprompt.engine.predictor import Predictor
from softprompt.engine.prompts import SoftPrompt
from softprompt.engine.task import EncodedTask
from softprompt.resolve import resolve_recipe
from softprompt.tuning.initialisers import from_prompt
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, run_loop, validate
from softprompt.tuning.workers import Workers
from tests.builders import write_recipe


@pytest.fixture
def job(tmp_path, t5_directory, colours) -> Job:
    """The colours recipe with a deep prompt of a T5."""
    path = write_recipe(tmp_path / "recipe.yaml", t5_directory, colours, kind="deep")
    path.write_text(path.read_text().replace("steps: 6, batch_size: 8", "steps: 40, batch_size: 16"))
    resolved = resolve_recipe(str(path))
    validate_dataset(resolved, tmp_path / "dataset", tmp_path / "dataset.html")
    return Job.load(resolved, tmp_path / "dataset")


def test_a_deep_prompt_of_a_t5_is_trained_ranked_and_written(job, tmp_path):
    before = parameter_digest(job.base.model)
    candidate = job.candidates[0]
    state = run_loop(job, 0, candidate, LoopState.begin(job, candidate), Workers(), lambda state: None)
    assert job.strategy.name == "decoder_prefix"
    assert parameter_digest(job.base.model) == before
    losses = [look.validation_loss for look in state.measurements]
    assert min(losses) < 0.97 * losses[0]

    prompt = SoftPrompt(state.best_values)
    loss, accuracy = validate(job, prompt, Workers())
    texts = [{"text": "x"}]
    predictions = Predictor(job.base, job.task, prompt).predict(texts)
    assert sum(predictions[0].probabilities) == pytest.approx(1)
    scored = -sum(math.log(p) for p in probabilities_of_right(job, prompt)) / len(job.validation)
    assert scored == pytest.approx(loss, rel=1e-4)
    assert accuracy is not None

    open_task = EncodedTask.create(job.base.text, job.recipe.task.template, ())
    said = [Predictor(job.base, open_task, it, max_new_tokens=4).predict(texts) for it in (prompt, None)]
    assert all(len(answers) == 1 for answers in said)

    written = PromptFile.build(
        state.best_values.numpy(),
        task="classification",
        template=job.recipe.task.template,
        template_examples=job.task.encoder.examples(),
        answers=job.task.answers,
        max_new_tokens=8,
        base_fingerprint=job.base.fingerprint,
    )
    written.write(tmp_path / "prompt", encoder_decoder=True)
    again = from_prompt(job.base, tmp_path / "prompt", "deep", 4)
    assert torch.equal(again.values.detach(), state.best_values)


def probabilities_of_right(job: Job, prompt: SoftPrompt) -> list[float]:
    """As evaluation and serving score them, row by row."""
    from softprompt.engine.scoring import answer_log_probabilities

    assert job.task.trie is not None
    with torch.no_grad():
        prefix = job.strategy.prefix(prompt)
        return [
            answer_log_probabilities(job.strategy, job.head, job.task.trie, prefix, torch.tensor([row.input_ids]))
            .exp()[0, row.answer]
            .item()
            for row in job.validation
        ]
