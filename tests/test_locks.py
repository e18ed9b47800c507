"""Two commands never write to one place at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from harness.cli.main import main
from harness.errors import InputError
from harness.locks import only_writer
from tests.cli.test_cli import RECIPE

HOLD = "import sys, time; from harness.locks import only_writer\nwith only_writer('out'): print('held', flush=True); "


def test_the_second_is_refused_and_the_file_of_the_lock_stays(tmp_path):
    with only_writer(tmp_path / "out"):
        first = (tmp_path / ".out.lock").stat().st_ino
        with pytest.raises(InputError, match=rf"out: another process \({os.getpid()}\) is writing here"):
            only_writer(tmp_path / "out").__enter__()
        with only_writer(tmp_path / "other"), only_writer(tmp_path / "out", folder=True):
            pass
    assert (tmp_path / ".out.lock").stat().st_ino == first
    with only_writer(tmp_path / "out"):
        pass


def test_a_killed_holder_lets_go_although_a_process_forked_from_it_lives_on(tmp_path):
    code = HOLD + "import os; os.write(1, b'%d\\n' % os.fork()); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    child = max(int(process.stdout.readline()), int(process.stdout.readline()))  # the child says 0
    try:
        with pytest.raises(InputError, match=rf"another process \({process.pid}\) is writing here"):
            only_writer(tmp_path / "out").__enter__()
        process.kill()
        process.wait()
        with only_writer(tmp_path / "out"):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


COMMANDS = {
    "fit": (("--config", str(RECIPE), "--run_dir", "out"), True),
    "validate": (("--config", str(RECIPE), "--run_dir", "out"), True),
    "rollout": (("--model", "no/model", "--output", "out", "--problems", "[]"), False),
    "trees": (("--model", "no/model", "--output", "out", "--problems", "[]"), False),
    "explore": (("--model", "no/model", "--output", "out", "--rollouts", "[]", "--rows", "rows.jsonl"), False),
    "prepare": (("--output", "out"), True),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_is_refused_before_it_loads_or_writes_anything(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    arguments, folder = COMMANDS[command]
    with only_writer(tmp_path / "out", folder=folder):
        assert main([command, *arguments]) == 2
    assert "out: another process" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock" if folder else ".out.lock"]
