"""Ranks as threads of one process over a store: what they tell one another, and how they end."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from harness import ranks as home
from harness.errors import InputError, RankError
from harness.ranks import Ranks


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setattr(home, "BEAT_SECONDS", 0.02)
    store = torch.distributed.HashStore()
    both = [Ranks(rank, 2, store) for rank in range(2)]
    yield both
    for one in both:
        one._closed.set()


def together(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(call) for call in calls]]


def test_a_rank_alone_meets_and_waits_for_nobody():
    alone = Ranks()
    alone.meet("somewhere")
    alone.set("key", "value")
    assert (alone.get("key"), alone.get("other"), alone.add("n", 2), alone.add("n", 0)) == ("value", None, 2, 2)
    alone.close()


def test_all_come_to_a_place_before_one_goes_on(pair):
    order = []

    def late():
        time.sleep(0.1)
        order.append("late")
        pair[1].meet("here")

    def early():
        pair[0].meet("here")
        order.append("early")

    together(early, late)
    assert order == ["late", "early"]


def test_an_error_of_one_rank_ends_the_wait_of_the_other_with_a_sentence(pair):
    pair[1].fail(InputError("data.jsonl:3: no answer; give one."))
    sentence = r"rank 1 has failed \(data.jsonl:3: no answer; give one.\); its own error says more."
    with pytest.raises(RankError, match=sentence):
        pair[0].wait(lambda: None)


def test_an_error_that_another_ranks_end_has_caused_becomes_its_sentence(pair):
    pair[0].fail(InputError("first"))
    with pytest.raises(RankError, match=r"rank 0 has failed \(first\)"):
        pair[1].fail(RuntimeError("Connection closed by peer"))


def test_ranks_that_are_told_to_end_end_as_told(pair):
    pair[0].fail(SystemExit(143))
    pair[1].fail(SystemExit(143))
    assert pair[0].get("failed") in ("rank 0 was told to end.", "rank 1 was told to end.")


def test_a_neighbour_whose_process_is_gone_is_noticed_and_one_that_has_left_is_not(pair):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place = home._process().rpartition(" ")[0]
    pair[0].set("process/1", f"{place} {gone.pid}")
    with pytest.raises(RankError, match=r"rank 1 has ended without a word \(killed, or out of memory\?\)"):
        pair[0].wait(lambda: None)
    with pytest.raises(RankError, match="rank 1 has ended without a word"):
        pair[0].fail(SystemExit(143))
    assert home._runs(os.getpid())


def test_a_neighbour_on_another_host_is_lost_when_its_heart_stops(pair, monkeypatch):
    pair[0].set("process/1", "elsewhere pid:[1]/boot 77")
    pair[1]._closed.set()
    monkeypatch.setattr(home, "SILENT_SECONDS", 0.3)
    with pytest.raises(RankError, match="rank 1 on elsewhere has given no sign of life for"):
        pair[0].wait(lambda: None)


def test_ranks_that_close_in_turn_raise_no_alarm(pair):
    together(*(one.close for one in pair))
    assert [one.failure for one in pair] == ["", ""]


def test_a_folder_that_another_rank_does_not_see_is_refused_on_both(pair, tmp_path):
    together(*(lambda one=one: one.check_shared(tmp_path) for one in pair))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_its_own_on_each_node_is_refused_on_both(pair, tmp_path):
    outcomes = []

    def check(one, folder):
        with pytest.raises(InputError, match=r"rank 1 on .* does not see what the first rank writes there"):
            one.check_shared(folder)
        outcomes.append(one.rank)

    together(*(lambda one=one: check(one, tmp_path / str(one.rank)) for one in pair))
    assert sorted(outcomes) == [0, 1]


def test_no_thread_is_started_for_a_rank_alone():
    before = threading.active_count()
    Ranks()
    assert threading.active_count() == before
