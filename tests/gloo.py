"""Processes of this machine that exchange tensors over gloo, as the workers of a training do; one thread each."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.ports import free_port

multiprocessing.set_forkserver_preload(["softprompt.tuning.population", "transformers.models.llama.modeling_llama"])
"""Imported once for all processes: that is most of what a small training takes."""


def on_workers(count: int, function: Callable[..., Any], *arguments: object) -> Any:
    """What a function of a module gives in the first of `count` processes: tensors, numbers, lists and dicts of them.

    One is this process itself. All have one thread, so that bits compare.
    """
    if count == 1:
        return _with_one_thread(function, *arguments)
    with tempfile.TemporaryDirectory() as folder:
        given = (count, free_port(), Path(folder) / "out", function, arguments)
        mp.start_processes(_one_of_many, given, nprocs=count, start_method="forkserver")
        return torch.load(Path(folder) / "out")


def _one_of_many(
    rank: int, count: int, port: int, out: Path, function: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    result = _with_one_thread(function, *arguments)
    if rank == 0:
        torch.save(result, out)
    dist.destroy_process_group()


def _with_one_thread(function: Callable[..., Any], *arguments: object) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(before)
