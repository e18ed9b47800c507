"""The real command in a process of its own, forked from one that has imported the heavy packages.

A start costs no imports. The process forked from has run nothing, so no thread of a numeric library is lost in the
fork, as it would be from pytest's own.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.paths import ROOT

IMPORTED = ["harness.cli", "harness.commands.training", "harness.engines.hf", "harness.evals.command", "transformers"]


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> BaseProcess:
    """Start `harness ARGUMENTS` in the repository's root; what it prints goes to the log."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_command, args=(list(arguments), str(log), dict(environment or {})))
    process.start()
    return process


def _command(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, sys.stdout.fileno())
    os.dup2(file, sys.stderr.fileno())
    os.environ.update(environment)
    os.chdir(ROOT)
    from harness.cli import main

    sys.exit(main(arguments))
