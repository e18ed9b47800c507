"""Recipes as stages: commands that run side by side, each skipped once the file it leaves is there."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.store import write_bytes


@dataclass(frozen=True)
class Stage:
    """A command, and the file that is there once it has succeeded."""

    name: str
    arguments: tuple[str, ...]
    done: Path
    program: tuple[str, ...] = ("-m", "harness")
    """What Python runs; a recipe may bring a script of its own."""

    @property
    def command(self) -> str:
        """The command as one would type it."""
        own = self.program == ("-m", "harness")
        return shlex.join(["harness" if own else "python", *(() if own else self.program), *self.arguments])


def own_configs(recipe: Path, default_output: str, output: Path) -> Path:
    """A recipe's configs, their paths pointed at `output` if that is not where they point anyway."""
    if output == Path(default_output):
        return recipe
    for config in recipe.glob("*.yaml"):
        write_bytes(output / "configs" / config.name, config.read_text().replace(default_output, str(output)).encode())
    return output / "configs"


def die_with_parent() -> None:
    """In a child: be ended by the kernel when the recipe is killed, so that a second start finds nothing running."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def start(stage: Stage, output: Path) -> subprocess.Popen:
    """Start a stage; what it prints goes to its log."""
    log = output / "logs" / f"{stage.name.replace(' ', '_')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"[{stage.name}] {stage.command}  > {log}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with open(log, "a") as file:
        return subprocess.Popen(
            [sys.executable, *stage.program, *stage.arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )


def run(lanes: Sequence[Sequence[Stage]], output: Path) -> None:
    """Run lanes side by side, the stages of a lane in turn; stop everything if one fails."""
    waiting = [[stage for stage in lane if not stage.done.exists()] for lane in lanes]
    running: dict[int, tuple[Stage, subprocess.Popen, float]] = {}
    try:
        while any(waiting) or running:
            for lane, todo in enumerate(waiting):
                if lane not in running and todo:
                    stage = todo.pop(0)
                    running[lane] = stage, start(stage, output), time.monotonic()
            for lane, (stage, process, started) in list(running.items()):
                if (status := process.poll()) is None:
                    continue
                del running[lane]
                if status:
                    log = (output / "logs" / f"{stage.name.replace(' ', '_')}.log").read_text().splitlines()
                    raise SystemExit(
                        "\n".join([*log[-15:], f"error: stage '{stage.name}' ended with status {status}."])
                    )
                stage.done.parent.mkdir(parents=True, exist_ok=True)
                stage.done.touch()
                print(f"[{stage.name}] done in {time.monotonic() - started:.0f} s", flush=True)
            time.sleep(0.1)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.wait()


def final_accuracy(folder: Path) -> dict:
    """Greedy accuracy of a run's last checkpoint, from its evaluation."""
    value = json.loads((folder / "eval/results.json").read_text())["metrics"]["accuracy"]
    return {"accuracy": value["value"], "accuracy_low": value["low"], "accuracy_high": value["high"]}
