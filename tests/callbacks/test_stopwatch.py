import pytest

from harness.callbacks import stopwatch
from harness.callbacks.stopwatch import Stopwatch, describe


def test_no_second_is_counted_twice(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    with watch.running("sample"), watch.running("prove"):
        watch.add("score", 0.5)
    assert watch.take() == pytest.approx({"score": 0.5, "prove": 1.5, "sample": 8.0})
    assert watch.take() == {}


def test_the_longest_part_comes_first():
    assert describe({"save": 1.0, "train": 3.0}) == "4.0 s: train 3.0 (75 %), save 1.0 (25 %)"
    assert describe({"save": 0.0}) == "0.0 s: save 0.0 (0 %)"
