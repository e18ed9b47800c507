"""The trusted process between the harness and the programs.

It is started as a fresh interpreter, so nothing of the harness's memory or environment reaches a program. It runs one
program at a time and never touches generated code itself.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sys
from collections.abc import Callable

from harness.sandbox.interpreter import Interpreter
from harness.sandbox.limits import Limits
from harness.sandbox.snapshot import Kept
from harness.sandbox.steps import Steps
from harness.sandbox.wire import Closed, receive, send

COMMON = ("collections", "datetime", "fractions", "functools", "itertools", "math", "random", "re", "statistics")
"""Modules of the standard library that every interpreter has imported."""
IMPORTS = re.compile(r"\bfrom\s+([\w.]+)\s+import\b|\bimport\s([^\n;#]*)")
"""An import statement: the module, or several with commas between them. Read in linear time, whatever the source."""

Start = Callable[[list[str], bool], Interpreter]
"""Starts an interpreter that has modules imported, with installed packages in reach or without."""


class ForkServer:
    """Runs programs for one client, each in one of two interpreters: the plain one, or the full one with packages.

    A fork costs what its memory costs. So a program whose import statements name modules of the standard library only,
    as most do, runs where no other has been imported; there packages are out of reach, and what fails for that runs
    once more in full. The full interpreter starts when it is first needed.
    """

    def __init__(self, client: socket.socket, modules: list[str], start: Start) -> None:
        self._client, self._start = client, start
        self._modules = [*dict.fromkeys((*COMMON, *modules))]
        standard = list(filter(is_standard, self._modules))
        # Where no package is to be imported, one interpreter does for all programs.
        self._plain = start(standard, standard == self._modules)
        self._full: Interpreter | None = None

    def serve(self) -> None:
        """Say which layers of isolation hold, then answer the client until it is gone."""
        send(self._client, self._plain.layers)
        with contextlib.suppress(Closed):
            while True:
                steps, _ = receive(self._client)
                send(self._client, self._run(tuple(steps)))
        self._plain.stop()
        if self._full is not None:
            self._full.stop()

    def _run(self, steps: Steps) -> tuple[str, str, str]:
        if self._plain.packages:
            return self._plain.run(steps)
        if all(map(is_plain, steps)):
            outcome = self._plain.run(steps)
            if not outcome[2].startswith("ModuleNotFoundError"):
                return outcome
        if self._full is None:
            self._full = self._start(self._modules, True)
            if self._full.layers != self._plain.layers:
                raise RuntimeError(f"layers of isolation differ: {self._full.layers} and {self._plain.layers}")
        return self._full.run(steps)


def is_standard(module: str) -> bool:
    """Whether a module belongs to Python."""
    return module.partition(".")[0] in sys.stdlib_module_names


def is_plain(source: str) -> bool:
    """Whether the import statements of a source name modules of the standard library only, and nothing else imports."""
    if any(word in source for word in ("__import__", "importlib", "pkgutil")):
        return False
    for single, several in IMPORTS.findall(source):
        names = [single] if single else [name.strip().partition(" ")[0] for name in several.split(",")]
        if not all(map(is_standard, names)):
            return False
    return True


def main(descriptor: int, base: str) -> None:
    """Serve the client at the other end of a socket, which first sends the settings."""
    client = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the harness, which then closes the socket
    settings, _ = receive(client)
    limits, output = Limits(**settings["limits"]), settings["output_limit"]
    kept = Kept(settings["snapshots"], settings["snapshot_memory"])

    def start(modules: list[str], packages: bool) -> Interpreter:
        return Interpreter(client, limits, modules, packages, base, output, kept)

    ForkServer(client, settings["modules"], start).serve()
    sys.exit(0)
