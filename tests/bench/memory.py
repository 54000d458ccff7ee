"""Peak resident memory of this process, from Linux's own counters."""

from pathlib import Path


def begin_peak() -> float:
    """Forget the peak so far; returns what is resident now, MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mib("VmRSS")


def peak_growth_mib(before: float) -> float:
    """How far the peak since `begin_peak` lies above what was resident then, MiB."""
    return _status_mib("VmHWM") - before


def _status_mib(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
