import io
import sys

import pytest

from harness import progress
from harness.progress import track


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    for name in ("HARNESS_PROGRESS", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_off_a_terminal_a_phase_ends_in_one_line_with_count_and_fields(capsys):
    with track(3, "grading") as tracked:
        for accuracy in (0.0, 0.5, 2 / 3):
            tracked.advance(accuracy=accuracy)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("grading: 3/3, ")
    assert line.endswith(" s, accuracy=0.6667")


def test_a_long_phase_says_how_far_it_is_and_what_is_left(capsys, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with track(4, "rollouts") as tracked:
        tracked.advance()
        tracked.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("rollouts: 2/4, ")
    assert " s left" in lines[0]


def test_a_phase_that_fails_says_where_it_stopped(capsys):
    def fail() -> None:
        with track(5, "sampling") as tracked:
            tracked.advance(2)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capsys.readouterr().err.startswith("sampling: stopped at 2/5, ")


def test_an_unknown_total_is_counted_without_one(capsys):
    with track(None, "reading") as tracked:
        tracked.advance(7)
    assert capsys.readouterr().err.startswith("reading: 7, ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_a_bar(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with track(2, "grading") as tracked:
        tracked.advance(1, accuracy=1.0)
        tracked.advance(1, accuracy=0.5)
    assert "grading" in screen.getvalue()
    assert "2/2" in screen.getvalue()
    assert "accuracy=0.5" in screen.getvalue()
    assert "\r" in screen.getvalue()


@pytest.mark.parametrize(("variable", "value"), [("RANK", "1"), ("LOCAL_RANK", "1"), ("HARNESS_PROGRESS", "off")])
def test_other_ranks_and_off_say_nothing_but_count(variable, value, monkeypatch, capsys):
    monkeypatch.setenv(variable, value)
    with track(2, "grading") as tracked:
        tracked.advance(2)
        assert not tracked.due
    assert tracked.done == 2
    assert capsys.readouterr().err == ""
