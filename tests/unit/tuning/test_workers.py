"""Two workers that exchange sums over gloo go the way of one with all rows."""

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from softprompt.resolve import ResolvedRecipe
from softprompt.tuning.job import Job
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.workers import Workers


def losses_and_values(resolved: bytes, dataset) -> tuple[list[float], torch.Tensor]:
    job = Job.load(ResolvedRecipe.from_bytes(resolved, source="test"), dataset)
    state = run_population(job, PopulationState(), Workers.current(), lambda *_: None)
    return [look.training_loss for look in state.measurements], state.winner.loop.best_values


def one_of_many(rank: int, count: int, port: int, resolved: bytes, dataset, out) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    last = count - 1
    assert Workers.current().first(f"of {rank}" if rank == last else None) == f"of {last}"
    assert Workers.current().first(f"of {rank}") == "of 0"
    assert Workers.current().first(None) is None
    result = losses_and_values(resolved, dataset)
    if rank == 0:
        torch.save(result, out)
    dist.destroy_process_group()


def test_any_number_of_workers_gives_the_same_losses(resolved, dataset, tmp_path):
    expected_losses, expected = losses_and_values(resolved.to_bytes(), dataset)
    for count in (2, 3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(one_of_many, (count, port, resolved.to_bytes(), dataset, tmp_path / "out"), nprocs=count)
        losses, values = torch.load(tmp_path / "out")
        assert all(abs(a - b) / b < 1e-5 for a, b in zip(losses, expected_losses, strict=True))
        assert (values - expected).norm() / expected.norm() < 1e-4


def test_shares_of_a_batch_are_a_division():
    rows = list(range(10))
    shares = [Workers(rank, 3).share(rows) for rank in range(3)]
    assert sorted(row for share in shares for row in share) == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_worker_sums_to_itself():
    values = [torch.randn(2, 3), torch.zeros(())]
    assert Workers().sum(*values)[0] is values[0]
