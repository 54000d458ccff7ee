"""Workers that exchange sums over gloo go the way of one with all rows; to the bit where their number may change."""

import pytest
import torch
import torch.distributed as dist

from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import Job
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.workers import Workers
from tests.gloo import on_workers
from tests.variations import resolved_with


def losses_and_values(resolved: bytes, dataset) -> tuple[list[float], torch.Tensor]:
    job = Job.load(ResolvedRecipe.from_bytes(resolved, source="test"), dataset)
    state = run_population(job, PopulationState(), Workers.current(job.recipe.training.num_shards), lambda *_: None)
    looks = state.measurements
    return [loss for look in looks for loss in (look.training_loss, look.validation_loss)], state.winner.loop.best_values


def test_any_number_of_workers_gives_the_same_losses(resolved, dataset):
    expected_losses, expected = losses_and_values(resolved.to_bytes(), dataset)
    for count in (2, 3):
        losses, values = on_workers(count, losses_and_values, resolved.to_bytes(), dataset)
        assert all(abs(a - b) / b < 1e-5 for a, b in zip(losses, expected_losses, strict=True))
        assert (values - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize(("count", "micro_batch_size"), [(4, None), (3, 1)])
def test_where_their_number_may_change_it_changes_no_bit(resolved, dataset, count, micro_batch_size):
    """At the default rate, of which another order of the same sums would make another prompt; batches of eight rows and fewer."""
    changes = {"steps": 30, "validate_every_steps": 5, "micro_batch_size": micro_batch_size, "input_noise": 0.2}
    elastic = resolved_with(resolved, num_workers=(1, 4), **changes).to_bytes()
    expected_losses, expected = on_workers(1, losses_and_values, elastic, dataset)
    losses, values = on_workers(count, losses_and_values, elastic, dataset)
    assert losses == expected_losses
    assert torch.equal(values, expected)


def first_of_each() -> list[str | None]:
    """What the first worker that has something says: the last one, all, nobody."""
    workers, rank = Workers.current(), dist.get_rank()
    last = rank == workers.count - 1
    return [workers.first(f"of {rank}" if last else None), workers.first(f"of {rank}"), workers.first(None)]


def test_the_first_that_has_something_is_believed_by_all():
    assert on_workers(3, first_of_each) == ["of 2", "of 0", None]


@pytest.mark.parametrize("num_shards", [0, 5])
def test_shards_of_a_batch_are_a_division(num_shards):
    rows = list(range(10))
    shards = [shard for rank in range(3) for shard in Workers(rank, 3, num_shards).shards(rows)]
    assert len(shards) == (num_shards or 3)
    assert sorted(row for shard in shards for row in shard) == rows
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_one_worker_sums_to_itself():
    values = [torch.randn(2, 3), torch.zeros(())]
    assert Workers().sum([values])[0] is values[0]


def test_one_worker_adds_its_shards_up_in_their_order():
    shards = [[torch.randn(100), torch.randn(2, 3)] for _ in range(5)]
    first, second = Workers(num_shards=5).sum(shards)
    for found, values in ((first, [shard[0] for shard in shards]), (second, [shard[1] for shard in shards])):
        assert torch.equal(found, (((values[0] + values[1]) + values[2]) + values[3]) + values[4])
