"""The most memory that work in this process held at once, over what it held before."""

from pathlib import Path

import torch


def begin_peak(device: str) -> float:
    """Begin the peak anew; returns what is held now, MiB. Use a fresh process: allocators keep what they once had."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def peak_mib(device: str) -> float:
    """The peak since then, MiB."""
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else _status_mib("VmHWM")


def _status_mib(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
