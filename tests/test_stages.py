"""Recipes as stages: what runs, what is skipped, and what is left when something fails or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.stages import Stage, run
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def no_imports(monkeypatch):
    monkeypatch.setattr("harness.stages.IMPORTED", ())


def stage(folder: Path, name: str, code: str, *arguments: str) -> Stage:
    script = folder / f"{name}.py"
    script.write_text(code)
    return Stage(name, arguments, folder / "done" / name, (str(script),))


def test_lanes_run_in_turn_and_side_by_side_and_what_is_done_is_skipped(tmp_path, capsys):
    meet = "import pathlib, sys, time\nmine, other = map(pathlib.Path, sys.argv[1:])\nmine.touch()\n"
    meet += "while not other.exists(): time.sleep(0.01)\n"
    after = "import pathlib, sys\nassert pathlib.Path(sys.argv[1]).exists()\nprint('seen')\n"
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    lanes = [
        [stage(tmp_path, "one", meet, a, b), stage(tmp_path, "two", after, a)],
        [stage(tmp_path, "three", meet, b, a)],
    ]
    run(lanes, tmp_path)
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"one", "two", "three"}
    assert (tmp_path / "logs/two.log").read_text() == "seen\n"
    capsys.readouterr()
    run([[*lanes[0], stage(tmp_path, "four", "print('new')\n")]], tmp_path)
    said = capsys.readouterr().out
    assert "[four] python" in said
    assert "[one]" not in said


def test_a_failed_stage_ends_the_others_and_is_quoted(tmp_path):
    code = "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    slow = stage(tmp_path, "slow", code, str(tmp_path / "pid"))
    wait = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
    bad = stage(tmp_path, "bad", wait + "print('what went wrong')\nsys.exit(2)\n", str(tmp_path / "pid"))
    with pytest.raises(SystemExit) as stopped:
        run([[slow], [bad]], tmp_path)
    assert str(stopped.value) == "what went wrong\nerror: stage 'bad' ended with status 2."
    assert not running(int((tmp_path / "pid").read_text()))
    assert not (tmp_path / "done").exists()


def test_a_killed_recipe_leaves_nothing_running(tmp_path):
    inner = stage(tmp_path, "inner", "import os, pathlib, sys, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n")
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from pathlib import Path\nfrom harness import stages\nstages.IMPORTED = ()\nif __name__ == '__main__':\n"
        f"    stage = stages.Stage('inner', (), Path({str(inner.done)!r}), {inner.program!r})\n"
        f"    stages.run([[stage]], Path({str(tmp_path)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, str(recipe)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    log = tmp_path / "logs/inner.log"
    until(lambda: log.exists() and log.read_text().strip())
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not running(int(log.read_text())))


def running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def until(holds, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
