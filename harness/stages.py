"""Recipes as stages: commands that run side by side, each skipped once the file it leaves is there."""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing
import os
import runpy
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn, cast

from harness.environment import prepare_environment
from harness.interrupts import INTERRUPTED
from harness.store import write_bytes

IMPORTED = ("harness.cli.training", "harness.commands.evaluate", "harness.engines.hf", "vllm.v1.engine.llm_engine")
"""What every stage would import; what is not installed is left out."""
THREADS = {"OMP_NUM_THREADS": "1"}
"""Lanes share the machine; and with more, libraries start threads when they are imported, which a fork would lose."""


TERMINATION = 1.5
"""Seconds for stages to end when the recipe does; what they have finished is on disk whether they do or not."""


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

    def log(self, output: Path) -> Path:
        """Where its output goes."""
        return output / "logs" / f"{self.name.replace(' ', '_')}.log"


def own_configs(recipe: Path, default_output: str, output: Path) -> Path:
    """A recipe's configs, their paths pointed at `output` if that is not where they point anyway."""
    if output == Path(default_output):
        return recipe
    for config in recipe.glob("*.yaml"):
        write_bytes(output / "configs" / config.name, config.read_text().replace(default_output, str(output)).encode())
    return output / "configs"


def start(
    program: Sequence[str], arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Start `python PROGRAM ARGUMENTS`, forked from a process that has imported the heavy packages and run nothing.

    Imports are half of what a stage on a small model costs. The new process has one thread for its numeric libraries.

    Args:
        log: file to which its output is appended.
        environment: variables set in the new process, over those of this one at the first start.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    before = dict(os.environ)
    os.environ.update(THREADS)
    prepare_environment()
    # Ctrl-C reaches every process of a terminal, and this one has nothing to end.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
        os.environ.clear()
        os.environ.update(before)
    log.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_run, args=(tuple(program), tuple(arguments), str(log), dict(environment or {})))
    process.start()
    return process


def _run(program: tuple[str, ...], arguments: tuple[str, ...], log: str, environment: dict[str, str]) -> NoReturn:
    """In the new process: be the command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_recipe, daemon=True).start()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
        cast(TextIOWrapper, stream).reconfigure(line_buffering=True)
    os.environ.update(environment)
    name, *rest = program
    try:
        if name == "-m":
            sys.argv = ["", *rest[1:], *arguments]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [name, *rest, *arguments]
            runpy.run_path(name, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # processes of multiprocessing leave without
    sys.exit(0)


def _end_with_recipe() -> None:
    """Terminate this process when the recipe's ends, however it does, so that a second start finds nothing running."""
    recipe = multiprocessing.parent_process()
    assert recipe is not None
    recipe.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Around the stages of a recipe: Ctrl-C ends it with one sentence."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; run it again to continue.", file=sys.stderr, flush=True)
        raise SystemExit(INTERRUPTED) from None


def run(lanes: Sequence[Sequence[Stage]], output: Path) -> None:
    """Run lanes side by side, the stages of a lane in turn; stop everything if one fails."""
    waiting = [[stage for stage in lane if not stage.done.exists()] for lane in lanes]
    running: dict[int, tuple[Stage, BaseProcess, float]] = {}
    try:
        while any(waiting) or running:
            for lane, todo in enumerate(waiting):
                if lane not in running and todo:
                    stage = todo.pop(0)
                    print(f"[{stage.name}] {stage.command}  > {stage.log(output)}", flush=True)
                    process = start(stage.program, stage.arguments, stage.log(output))
                    running[lane] = stage, process, time.monotonic()
            for lane, (stage, process, started) in list(running.items()):
                if (status := process.exitcode) is None:
                    continue
                del running[lane]
                if status:
                    last = stage.log(output).read_text().splitlines()[-15:]
                    raise SystemExit("\n".join([*last, f"error: stage '{stage.name}' ended with status {status}."]))
                stage.done.parent.mkdir(parents=True, exist_ok=True)
                stage.done.touch()
                print(f"[{stage.name}] done in {time.monotonic() - started:.0f} s", flush=True)
            time.sleep(0.1)
    finally:
        for _, process, _ in running.values():
            process.terminate()
        end = time.monotonic() + TERMINATION
        for _, process, _ in running.values():
            process.join(max(end - time.monotonic(), 0))
            process.kill()
            process.join()


def final_accuracy(folder: Path) -> dict:
    """Greedy accuracy of a run's last checkpoint, from its evaluation."""
    value = json.loads((folder / "eval/results.json").read_text())["metrics"]["accuracy"]
    return {"accuracy": value["value"], "accuracy_low": value["low"], "accuracy_high": value["high"]}
