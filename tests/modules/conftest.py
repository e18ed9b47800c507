"""A small fit, run the way the command line runs it."""

from __future__ import annotations

import json
import random

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger


@pytest.fixture
def sum_files(tmp_path):
    """Sums with answers padded to mixed lengths, of which some rows weigh less: (train, val)."""
    rng = random.Random(0)

    def write(name, num_rows):
        with open(tmp_path / name, "w") as file:
            for _ in range(num_rows):
                a, b = rng.randint(0, 9), rng.randint(0, 9)
                row = {
                    "prompt": f"{a}+{b}=",
                    "response": str(a + b) + "." * rng.randint(0, 20),
                    "weight": rng.choice([1.0, 0.5]),
                }
                file.write(json.dumps(row) + "\n")
        return str(tmp_path / name)

    return write("train.jsonl", 22), write("val.jsonl", 9)


@pytest.fixture
def pair_files(tmp_path):
    """Pairs in which the chosen side is the right sum: (train, val)."""
    rng = random.Random(0)

    def write(name, num_rows):
        with open(tmp_path / name, "w") as file:
            for _ in range(num_rows):
                a, b, c = rng.randint(0, 4), rng.randint(0, 4), rng.randint(1, 3)
                row = {"prompt": f"{a}+{b}=", "chosen": f"{a + b}!", "rejected": f"{a + b + c}" + "?" * c}
                file.write(json.dumps(row) + "\n")
        return str(tmp_path / name)

    return write("pairs.jsonl", 24), write("val_pairs.jsonl", 8)


@pytest.fixture
def trainer(tmp_path):
    """A Trainer on the CPU that logs every step to CSV and shows nothing."""

    def build(**options):
        torch.manual_seed(0)
        defaults = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": CSVLogger(tmp_path / "logs"),
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**(defaults | options))

    return build
