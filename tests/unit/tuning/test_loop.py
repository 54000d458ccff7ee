"""The loop learns, touches nothing but the prompt, and goes on from any checkpoint to the same bits."""

import math

import pytest
import torch

from softprompt.base_model import parameter_digest
from softprompt.errors import InvalidRequest
from softprompt.recipe.prompt import FrequentTokensInit, TextInit
from softprompt.recipe.training import Candidate
from softprompt.tuning.checkpoint import load_checkpoint, save_checkpoint
from softprompt.tuning.initialisers import trained_numbers
from softprompt.tuning.job import Job
from softprompt.tuning.loop import LoopState, Trained, learning_rate, run_loop
from softprompt.tuning.optimisers import set_learning_rate
from softprompt.tuning.outcome import warnings_of
from softprompt.tuning.parameterisation import num_movable
from softprompt.tuning.population import PopulationState, Run
from softprompt.tuning.step import take_step
from softprompt.tuning.workers import Workers
from tests.variations import job_with


def with_prompt(job: Job, **changes: object) -> Job:
    recipe = job.recipe.model_copy(update={"prompt": job.recipe.prompt.model_copy(update=changes)})
    return Job(recipe, job.base, job.task, job.train, job.validation)


def train(job: Job, state: LoopState | None = None, report=lambda state: None, number: int = 0) -> LoopState:
    state = state or LoopState.begin(job, job.candidates[number])
    return run_loop(job, number, job.candidates[number], state, Workers(), report)


def values_of(job: Job, state: LoopState) -> torch.Tensor:
    """The prompt as it is now, not as it was best."""
    return Trained.at(job, 0, job.candidates[0], state).module.prompt().values.detach()


def as_population(state: LoopState) -> PopulationState:
    return PopulationState([Run(0, Candidate(), state)])


def test_training_lowers_the_loss_and_leaves_the_base_alone(job):
    before = parameter_digest(job.base.model)
    looks = train(job_with(job, steps=150, validate_every_steps=10, batch_size=32)).measurements
    assert looks[-1].training_loss < 0.8 * looks[0].training_loss
    assert max(look.validation_accuracy for look in looks) > looks[0].validation_accuracy
    assert parameter_digest(job.base.model) == before


def test_the_best_look_is_kept_not_the_last(job):
    state = train(job_with(job, steps=30, validate_every_steps=3, learning_rate=30.0, schedule="constant"))
    scores = [(look.validation_accuracy, -look.validation_loss) for look in state.measurements]
    assert state.best_score == max(scores)
    assert state.best_step == state.measurements[scores.index(max(scores))].step
    if state.best_step != 30:
        assert not torch.equal(state.best_values, values_of(job, state))


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor", "soap", "soap_whitened"])
@pytest.mark.parametrize(
    ("kind", "reparameterisation"),
    [("shallow", "none"), ("shallow", "residual"), ("deep", "none"), ("deep", "residual"), ("deep", "mlp")],
)
def test_a_loop_goes_on_from_a_checkpoint_to_the_same_bits(job, tmp_path, kind, reparameterisation, optimiser):
    job = with_prompt(
        job_with(job, steps=12, validate_every_steps=4, optimiser=optimiser),
        kind=kind,
        reparameterisation=reparameterisation,
    )
    whole = train(job)
    kept: list[PopulationState] = []

    def keep(state):
        folder = tmp_path / str(state.step)
        folder.mkdir()
        save_checkpoint(folder, as_population(state), {"fact": 1})
        loaded = load_checkpoint(folder)
        assert loaded is not None
        assert loaded[1] == {"fact": 1}
        kept.append(loaded[0])

    train(job, report=keep)
    for state in kept[:2]:
        resumed = train(job, state=state.runs[0].loop)
        assert torch.equal(values_of(job, resumed), values_of(job, whole))
        assert torch.equal(resumed.best_values, whole.best_values)
        assert [look.validation_loss for look in resumed.measurements] == [look.validation_loss for look in whole.measurements]


@pytest.mark.parametrize("damage", ["no manifest", "cut tensors", "rubbish manifest", "nothing"])
def test_half_a_checkpoint_is_none(job, tmp_path, damage):
    save_checkpoint(tmp_path, as_population(train(job)), {})
    manifest, tensors = tmp_path / "state.json", tmp_path / "state.safetensors"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "cut tensors":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif damage == "rubbish manifest":
        manifest.write_text("{")
    else:
        manifest.unlink()
        tensors.unlink()
    assert load_checkpoint(tmp_path) is None


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(job):
    training = job.recipe.training.model_copy(update={"steps": 110, "warmup_steps": 10, "learning_rate": 2.0})
    assert [round(learning_rate(training, step), 6) for step in (0, 4, 9, 10)] == [0.2, 1.0, 2.0, 2.0]
    assert learning_rate(training, 60) == pytest.approx(1.0)
    assert learning_rate(training, 109) == pytest.approx(1 + math.cos(math.pi * 0.99), abs=1e-9)
    constant = training.model_copy(update={"schedule": "constant"})
    assert learning_rate(constant, 100) == 2.0


def test_the_first_step_is_adams(job):
    """After one step every number has moved by the learning rate (or stands still where its gradient is zero)."""
    job = job_with(job, steps=1, warmup_steps=0, validate_every_steps=1, learning_rate=0.5)
    start = job.initial_prompt(job.candidates[0]).values.detach()
    moved = (values_of(job, train(job)) - start).abs()
    rate = 0.5 * job.base.embedding_rms
    assert ((moved - rate).abs() < 0.01 * rate).float().mean() > 0.9


def test_a_training_that_diverges_is_said_to(job):
    state = LoopState.begin(job, job.candidates[0])
    state.parameters["offset"][0, 0] = float("nan")
    with pytest.raises(InvalidRequest, match="no longer a number") as caught:
        train(job, state)
    assert "Lower training.learning_rate" in str(caught.value)


def test_likelihood_loss_trains_too(job):
    job = job_with(job, loss="likelihood", steps=10, validate_every_steps=5)
    looks = train(job).measurements
    assert looks[0].validation_accuracy is None
    assert looks[-1].validation_loss < looks[0].validation_loss


def test_micro_batches_give_the_gradient_of_the_whole_batch(job):
    """One worker, micro-batches of 3 and of 1, both kinds; the last step's prompt says whether all gradients were the same."""
    for kind in ("shallow", "deep"):
        whole = values_of(job, train(with_prompt(job_with(job, steps=3, batch_size=10), kind=kind)))
        for size in (3, 1):
            cut = with_prompt(job_with(job, steps=3, batch_size=10, micro_batch_size=size), kind=kind)
            assert (values_of(job, train(cut)) - whole).norm() / whole.norm() < 1e-5


def test_a_gradient_is_cut_to_its_longest(job):
    """Under Adafactor, whose first step would otherwise not see a gradient's length, a tiny limit leaves the direction alone."""
    free = job_with(job, steps=1, warmup_steps=0)
    module = {}
    for limit in (None, 1e-3):
        trained = Trained.at(job, 0, job.candidates[0], LoopState.begin(job, job.candidates[0]))
        training = free.recipe.training.model_copy(update={"max_gradient_norm": limit})
        take_step(job, training, trained.module, trained.optimiser, job.train[:8], Workers())
        module[limit] = trained.module.offset.grad
    assert module[1e-3].norm() == pytest.approx(1e-3, rel=1e-3)
    assert torch.nn.functional.cosine_similarity(module[None].flatten(), module[1e-3].flatten(), dim=0) > 0.9999


def test_patience_ends_a_candidate_that_gets_no_better(job):
    state = train(job_with(job, steps=40, validate_every_steps=2, learning_rate=1e-7, validation_metric="loss", patience=3))
    assert state.stopped
    assert state.step == state.best_step + 6 < 40


def test_the_metric_that_the_recipe_names_picks_the_best(job):
    by = {}
    for metric in ("accuracy", "loss"):
        state = train(
            job_with(job, steps=30, validate_every_steps=3, learning_rate=10.0, schedule="constant", validation_metric=metric)
        )
        looks = state.measurements
        best = (
            min(looks, key=lambda look: look.validation_loss)
            if metric == "loss"
            else max(looks, key=lambda look: (look.validation_accuracy, -look.validation_loss))
        )
        assert state.best_step == best.step
        by[metric] = state.best_score
    assert by["loss"][0] == 0.0


def test_a_residual_network_starts_at_the_initial_prompt_and_is_folded(job):
    job = with_prompt(job_with(job, steps=20, validate_every_steps=10), reparameterisation="residual", bottleneck=8)
    state = LoopState.begin(job, job.candidates[0])
    start = job.initial_prompt(job.candidates[0]).values.detach()
    assert torch.equal(values_of(job, state), start)
    train(job, state)
    assert state.best_values.shape == start.shape
    network = state.parameters["up"]
    assert network.norm() > 0
    tokens = start / state.parameters["scale"] + state.parameters["offset"]
    by_hand = start + state.parameters["scale"] * (
        state.parameters["offset"] + torch.relu(tokens @ state.parameters["down"]) @ network
    )
    assert torch.allclose(values_of(job, state), by_hand, atol=1e-6)


def test_a_network_of_embeddings_starts_at_the_initial_prompt_and_is_folded(job):
    wishes = {"reparameterisation": "mlp", "bottleneck": 8}
    job = with_prompt(job_with(job, steps=20, validate_every_steps=20), **wishes)
    state = LoopState.begin(job, job.candidates[0])
    start = job.initial_prompt(job.candidates[0]).values.detach()
    assert torch.equal(values_of(job, state), start)
    train(job, state)
    found = state.parameters
    moved = torch.tanh(found["embedding"] @ found["hidden"]) @ found["up"]
    assert moved.norm() > 0.1, "the network has learned something"
    by_hand = start + found["scale"] * (found["offset"] + moved)
    assert torch.allclose(values_of(job, state), by_hand, atol=1e-6)


@pytest.mark.parametrize("optimiser", ["soap", "soap_whitened", "adamw"])
@pytest.mark.parametrize("init", [FrequentTokensInit(), TextInit(method="text", text="Which")])
@pytest.mark.parametrize("reparameterisation", ["none", "residual", "mlp"])
def test_numbers_of_keys_that_turn_with_their_place_stay_as_they_are(job, reparameterisation, init, optimiser):
    job = job_with(job, steps=15, validate_every_steps=15, optimiser=optimiser)
    job = with_prompt(job, kind="deep", num_tokens=40, init=init, reparameterisation=reparameterisation)
    state = train(job)
    moved = values_of(job, state) != state.parameters["start"]
    trained = trained_numbers(job.base, job.train).expand_as(moved)
    assert 0 < trained[:, 0].float().mean() < 1
    assert trained[:, 1].all()
    assert not moved[~trained].any()
    assert moved[trained].float().mean() > 0.99
    assert num_movable(state.parameters) == trained.sum()
    assert not any("hardly moved" in said for said in warnings_of(Run(0, Candidate(), state)))


def test_adafactor_is_transformers_own(job):
    """Two steps by hand with the stock optimiser over the very gradients."""
    from transformers.optimization import Adafactor

    job = job_with(job, steps=2, optimiser="adafactor", warmup_steps=0, schedule="constant", learning_rate=0.3)
    trained = Trained.at(job, 0, job.candidates[0], LoopState.begin(job, job.candidates[0]))
    stock = torch.zeros_like(trained.module.offset).requires_grad_()
    optimiser = Adafactor([stock], lr=0.3, scale_parameter=False, relative_step=False, warmup_init=False)
    for step in range(2):
        set_learning_rate(trained.optimiser, 0.3)
        take_step(job, job.recipe.training, trained.module, trained.optimiser, job.train[step * 8 : step * 8 + 8], Workers())
        stock.grad = trained.module.offset.grad.clone()
        optimiser.step()
        assert torch.equal(stock, trained.module.offset)
