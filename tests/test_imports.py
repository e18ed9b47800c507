"""Starting a training imports neither plots nor sound nor transformers' models."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import harness.cli.training
heavy = {"matplotlib", "scipy", "transformers"} & sys.modules.keys()
assert not heavy, heavy
import torch
from torchmetrics import MeanMetric
mean = MeanMetric()
mean.update(torch.tensor([1.0, 3.0]))
assert mean.compute() == 2
import scipy.signal, transformers
assert transformers.AutoModelForCausalLM and scipy.signal.hilbert
"""


def test_the_command_of_training_imports_no_package_that_only_metrics_of_text_and_sound_need():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
