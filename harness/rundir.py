"""The directory of a run: config.yaml, environment.json, metrics.csv, checkpoints/ and what the modules add."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import InputError
from harness.store import numbered

METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
WANDB_ID = "wandb_id.txt"


def prepare_run_dir(run_dir: Path, verb: str, resume: bool) -> None:
    """Make sure the run can be written, before anything is loaded, and that no earlier run is mixed with it.

    Raises:
        InputError: the directory cannot be written, or a new `fit` would go into a run that has checkpoints.
    """
    check_writable(run_dir)
    if verb != "fit" or resume:
        return
    if any((run_dir / CHECKPOINTS).glob("*")):
        raise InputError(
            f"{run_dir} already holds a run with checkpoints; continue it with --ckpt_path last, "
            "give another --run_dir, or remove the directory."
        )
    # What never reached a checkpoint is started over, and its metrics are put aside.
    if (run_dir / METRICS).exists():
        os.replace(run_dir / METRICS, numbered(run_dir / METRICS))
    (run_dir / WANDB_ID).unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Make the folder and write to it once; raises `InputError` if that fails."""
    probe = folder / f".writable-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another directory."
        ) from None
