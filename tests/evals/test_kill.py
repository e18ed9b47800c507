"""The real command, killed or interrupted at random moments: run again it ends where an unbroken run ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.evals.samples import LOG, SAMPLES
from harness.stages import start
from tests.paths import ROOT

KILLS = 10
HARNESS = ("-m", "harness")
QUIET = {"HARNESS_PROGRESS": "off"}
OPTIONS = "--n 3 --k 1,2,3 --max_tokens 24 --protocol gsm8k --engine.kind transformers --engine.dtype float32"


def command(model: Path, task: Path, output: Path) -> list[str]:
    more = ["--task", str(task), "--model", str(model), "--output", str(output), "--engine.max_num_seqs", "6"]
    return ["eval", *more, *OPTIONS.split()]


def lines(folder: Path) -> int:
    return (folder / LOG).read_bytes().count(b"\n") if (folder / LOG).exists() else 0


@pytest.mark.slow
def test_ten_kills_of_the_command_leave_the_results_of_an_unbroken_run(byte_model_dir, tmp_path):
    task = tmp_path / "sums.jsonl"
    task.write_text("".join(json.dumps({"question": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(90)))
    whole = start(HARNESS, command(byte_model_dir, task, tmp_path / "whole"), tmp_path / "log", QUIET)
    whole.join()
    assert whole.exitcode == 0

    killed, rng, counts = tmp_path / "killed", random.Random(0), [0]
    for number in [signal.SIGKILL, signal.SIGINT] * (KILLS // 2):
        process = start(HARNESS, command(byte_model_dir, task, killed), tmp_path / "log", QUIET)
        wanted, deadline = counts[-1] + rng.randint(number == signal.SIGINT, 12), time.monotonic() + 60
        while lines(killed) < wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert not (killed / "results.json").exists()
        counts.append(lines(killed))
    assert "Traceback" not in (tmp_path / "log").read_text()
    # No kill took back what was on disk, and some came while samples were being drawn.
    assert counts == sorted(counts)
    assert len(set(counts)) > 3

    last = [sys.executable, "-m", "harness", *command(byte_model_dir, task, killed)]
    done = subprocess.run(last, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    documents = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed")]
    for document in documents:
        document.pop("git_commit")
        document.pop("sha256")  # of all the rest, the output's name among it
        document["config"].pop("output")
    assert documents[0] == documents[1]
    assert (killed / SAMPLES).read_bytes() == (tmp_path / "whole" / SAMPLES).read_bytes()
    assert not (killed / LOG).exists()
