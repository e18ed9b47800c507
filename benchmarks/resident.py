"""Resident memory of the process that measures itself, from Linux's /proc."""

from __future__ import annotations

from pathlib import Path


def memory(name: str) -> float:
    """A number of /proc/self/status in MiB: VmRSS is held now, VmHWM the most since `begin_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def begin_peak() -> None:
    """Let VmHWM begin anew at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")
