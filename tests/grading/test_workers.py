"""Workers with deadlines: killed cases, order, threads, forks, event loops."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from harness.grading import Verdict, equivalence, grade, grade_many, is_equivalent
from harness.grading import grader as grader_module
from harness.grading.equivalence import decide
from harness.grading.normalize import normalize
from harness.grading.parse import parse
from harness.grading.workers import JobTimeout, Pool
from tests.grading.hostile import BOMBS, INJECTIONS
from tests.grading.probes import PAIRS_SAME

SLOW = (parse(normalize(r"\int \frac{\sin(x^x)}{\ln(1+x^{17})} dx")), parse("x"))
ALGEBRA = [
    (r"\sum_{k=1}^n k^3", r"\frac{n^2(n+1)^2}{4}"),
    (r"\int x e^x dx", r"(x-1)e^x"),
    (r"\lim_{x\to 0}\frac{\sin ax}{x}", "a"),
]
EASY = (parse(normalize(r"\int_0^1 x^2 dx")), parse(normalize(r"\frac{1}{3}")))


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A loaded machine is no reason for a time-out here."""
    monkeypatch.setattr(equivalence, "ALGEBRA_SECONDS", 30.0)


@pytest.fixture
def pool():
    made = Pool()
    yield made
    made.close()


def test_a_job_past_its_deadline_is_killed_and_the_pool_goes_on(pool):
    with pytest.raises(JobTimeout):
        pool.run("algebra", (SLOW,), 0.3)
    assert pool.run("algebra", (EASY,), 20.0) is True


def test_workers_are_reused(pool):
    pool.run("algebra", (EASY,), 20.0)
    [worker] = pool.idle
    pool.run("algebra", (EASY,), 20.0)
    assert pool.idle == [worker]


def test_a_worker_that_dies_is_replaced(pool):
    pool.run("algebra", (EASY,), 20.0)
    pool.idle[0].process.kill()
    pool.idle[0].process.wait()
    assert pool.run("algebra", (EASY,), 20.0) is True


def test_a_killed_case_neither_shifts_nor_loses_the_others(pool):
    jobs = [[("1/2", "0.5")], [("x", "y")], [("(1,2)", "(1,2)")], [("3", "4")]] * 3
    results = pool.map("decide", jobs, 2, lambda: None)
    assert [r[0].same for r in results] == [True, False, True, False] * 3


def test_many_are_graded_in_order_by_workers_as_by_this_process(monkeypatch):
    texts = [rf"\boxed{{\sqrt{{{i}}}}}" for i in range(60)] + ["there is nothing to be found here", r"\boxed{5}"]
    golds = [f"{i}^{{1/2}}" if i % 3 else "x" for i in range(60)] + ["5", "5"]
    alone = [grade(text, gold) for text, gold in zip(texts, golds, strict=True)]
    monkeypatch.setattr(grader_module, "PARALLEL_PAIRS", 10)
    assert grade_many(texts, golds, num_workers=2) == alone
    assert alone[-2] == Verdict(False, None, "none", "no_answer")


def test_most_pairs_start_no_worker(monkeypatch):
    def refuse(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(Pool, "run", refuse)
    verdicts = grade_many([f"\\boxed{{{i}}}" for i in range(2000)], [f"{i}.0" for i in range(2000)])
    assert all(v.correct for v in verdicts)


def test_threads_grade_at_the_same_time():
    right = []
    threads = [
        threading.Thread(target=lambda k=k: right.append(is_equivalent(rf"\int_0^{k} x dx", rf"\frac{{{k * k}}}{{2}}")))
        for k in range(1, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_grading_works_inside_an_event_loop():
    async def run():
        return is_equivalent(r"\int_0^7 x dx", r"\frac{49}{2}"), await asyncio.to_thread(is_equivalent, "x+1", "1+x")

    assert asyncio.run(run()) == (True, True)


def test_a_forked_child_does_not_talk_to_its_parents_workers():
    assert is_equivalent(r"\int_0^3 x^2 dx", "9")
    child = os.fork()
    if child == 0:
        os._exit(0 if is_equivalent(r"\int_0^6 x^2 dx", "72") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_equivalent(r"\int_0^9 x^2 dx", "243")


def test_importing_the_grader_loads_neither_torch_nor_computer_algebra():
    heavy = "{'torch', 'lightning', 'sympy', 'mpmath', 'math_verify'}"
    code = f"import sys, harness.grading; print(sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


LOADED = [*((gold, answer) for kind in PAIRS_SAME for gold, answer in PAIRS_SAME[kind][:8]), *ALGEBRA]


def _verdicts() -> list[tuple[bool, str]]:
    """Verdicts on probes, on pairs that need algebra, and on hostile answers, with nothing remembered."""
    equivalence._decide.cache_clear()
    hostile = [("x+1", text) for text in (*BOMBS, *INJECTIONS)]
    decisions = [decide(*pair) for pair in (*LOADED, *hostile)]
    return [(decision.same, decision.rule) for decision in decisions]


def test_verdicts_do_not_depend_on_the_load_of_the_machine(monkeypatch):
    monkeypatch.setattr(equivalence, "ALGEBRA_SECONDS", 1.0)  # of processor time, which a load does not use up
    alone = _verdicts()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert _verdicts() == alone
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [pair for pair, (same, _) in zip(LOADED, alone, strict=False) if not same] == []
    assert not any(same for same, _ in alone[len(LOADED) :])


def test_the_first_algebra_finds_a_worker_that_has_loaded_sympy():
    pool = Pool()
    try:
        pool.start_ahead()
        pool.run("algebra", (EASY,), 20.0)
        assert len(pool.idle) == 1  # the one that was started ahead, and no second
    finally:
        pool.close()
