"""The script for machines with GPUs runs whatever needs none."""

import json
import subprocess
import sys

import pytest
import torch

from tests.paths import ROOT
from tools import gpu_check


@pytest.mark.slow
@pytest.mark.vllm
def test_every_check_runs_on_a_cpu_but_for_what_needs_a_card(tmp_path):
    pytest.importorskip("vllm")
    command = [sys.executable, str(ROOT / "tools/gpu_check.py"), "--scale", "tiny", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    rows = {(row["check"], row["part"]): row for row in found["rows"]}
    ran = {key for key, row in rows.items() if row["result"] == "passed"}
    assert ran >= {("engine", f"sleep, wake, sync {cycle}") for cycle in range(1, 6)}
    assert ran >= {("engine", "a sync left out is noticed"), ("loop", "iteration 2")}
    assert ran >= {("training", f"{kind}, sdpa") for kind in ("sft", "dpo", "reward")} | {
        ("training", "sft, sdpa, compiled")
    }
    assert rows["ranks", "rows of two ranks and of one"]["numbers"]["same_share"] == 1.0
    assert all("CUDA" in rows[key]["said"] or "flash-attn" in rows[key]["said"] for key in rows.keys() - ran)
    assert rows["training", "sft, sdpa"]["numbers"]["tokens_per_second"] > 0
    assert set(tmp_path.iterdir()) == {tmp_path / name for name in ("gpu_check.md", "gpu_check.json", "logs")}
    assert "| engine | sleep, wake, sync 5 | passed |" in (tmp_path / "gpu_check.md").read_text()
    assert found["start"]["packages"]["torch"]


def test_what_breaks_is_named_the_rest_runs_and_the_status_is_1(tmp_path, monkeypatch, capsys):
    def breaks(bench):
        yield gpu_check.Row("breaks", "first", said="3 | 4")
        bench.run("words", "-c", "print('error: no words'); print('late'); raise SystemExit(3)")

    def elsewhere(bench):
        raise gpu_check.NotHere("needs two CUDA devices")
        yield

    def unforeseen(bench):
        yield from [][1]

    checks = {"breaks": breaks, "elsewhere": elsewhere, "unforeseen": unforeseen}
    monkeypatch.setattr(gpu_check, "CHECKS", checks)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--scale", "tiny", "--output", str(tmp_path)])
    assert gpu_check.main() == 1
    lines = [line for line in (tmp_path / "gpu_check.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert lines == [
        "| breaks | first | passed | 3 / 4 |",
        f"| breaks | ended | failed | exit status 3: error: no words; see {tmp_path}/logs/words.log |",
        "| elsewhere | all | not run | needs two CUDA devices |",
        "| unforeseen | ended | failed | IndexError: list index out of range |",
    ]
    assert "2 of these have failed" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--output", str(tmp_path)])
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="2"):
            gpu_check.main()
        assert "this machine has no CUDA device; --scale tiny runs on a CPU what can" in capsys.readouterr().err
