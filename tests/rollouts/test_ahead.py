import threading

import pytest

from harness.errors import InputError
from harness.rollouts.ahead import Ahead, Stopped


def test_work_is_done_beside_the_caller_and_handed_over_once():
    ahead, seen = Ahead(), threading.Event()
    ahead.start(lambda: seen.wait(60))
    assert ahead.under_way
    ahead.check()  # it has not failed
    seen.set()  # it waits for this thread, so it is another
    assert ahead.wait() is True
    assert ahead.hidden > 0
    assert not ahead.under_way
    assert ahead.wait() is None


@pytest.mark.parametrize("how", ["check", "wait"])
def test_what_the_work_raises_is_raised_in_the_callers_thread(how):
    def fail():
        raise InputError("nothing was kept.")

    ahead = Ahead()
    ahead.start(fail)
    ahead._thread.join()
    with pytest.raises(InputError, match="nothing was kept"):
        getattr(ahead, how)()
    assert ahead.under_way, "who comes later is told too"
    ahead.stop()
    ahead.check()


def test_work_that_is_told_to_stop_ends_between_two_steps():
    ahead, ended = Ahead(), []

    def steps():
        try:
            while True:
                ahead.go_on()
        except Stopped:
            ended.append(True)
            raise

    ahead.start(steps)
    with pytest.raises(RuntimeError, match="not been waited for"):
        ahead.start(steps)
    ahead.stop()
    assert ended == [True]
    assert not ahead.under_way
    ahead.start(lambda: "again")
    assert ahead.wait() == "again"
