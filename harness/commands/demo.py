"""`harness demo`: the whole loop on this machine, from a clone or an installed wheel."""

from __future__ import annotations

import runpy
from pathlib import Path

from harness.recipes import configs_folder


def demo(output: Path | None = None, seed: int = 0, online_rft: bool = False, quick: bool = False) -> int:
    """Train a small model by SFT and B-STaR with controls, evaluate it, write a table and a plot; 4 to 7 minutes.

    Run it again after an interruption: finished stages are skipped, the others continue where they stopped.

    Args:
        output: folder for all that it leaves; default is `runs/arithmetic`, or `runs/arithmetic_quick`.
        seed: of the base model, the problems and the training.
        online_rft: also train the control with a fixed sampling setting.
        quick: expressions of two operators, one iteration, no reward model, the transformers engine: shows in about a
            minute that everything runs, and nothing about methods.
    """
    script = configs_folder() / "recipes/bstar/arithmetic/demo.py"
    runpy.run_path(str(script))["demo"](output, seed, online_rft, quick)
    return 0
