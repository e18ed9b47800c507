"""Problems dealt out among ranks, which here are threads of one process over a store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from harness import ranks as ranks_home
from harness.provenance import Provenance
from harness.ranks import Ranks
from harness.rollouts import team as home
from harness.rollouts.log import RolloutLog
from harness.rollouts.team import Effort, Team, part_file
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

PROBLEMS = [Problem(f"p{i:02d}", f"q{i}", "1") for i in range(20)]
SAMPLING = SamplingConfig(n=2, seed=7)
MADE_BY = Provenance({"weights": "w"}, {"grader": "strict-1"}, ("question",))


def rollout(problem):
    return Rollout(
        problem, (ScoredResponse(Response((f"r{problem.id}",), token_ids=(1,) * len(problem.id))),), SAMPLING
    )


@pytest.fixture
def teams(monkeypatch):
    monkeypatch.setattr(ranks_home, "BEAT_SECONDS", 0.02)
    store = torch.distributed.HashStore()
    both = [Team(Ranks(rank, 2, store), slots=4) for rank in range(2)]
    yield both
    for each in both:
        each.ranks._closed.set()


def lead(team, path, draw, blocks=(PROBLEMS,)):
    with RolloutLog(path, MADE_BY, lambda rows: rows, team, lambda: 10 * len(draw.drawn)) as log:
        rows = [list(log.block(block, SAMPLING, draw, width=SAMPLING.n)) for block in blocks]
    team.dismiss()
    return rows


def follow(team, path, draw):
    by_id = {problem.id: problem for problem in PROBLEMS}
    for block in team.blocks():
        for _ in team.take_part(block, by_id, path, MADE_BY.key, draw, lambda: 10 * len(draw.drawn)):
            pass


class Draw:
    """Answers in the order of the deal, `window` problems at a time, as an engine does."""

    def __init__(self, wait=lambda problem: None):
        self.drawn, self.windows, self.wait = [], [], wait

    def __call__(self, problems, window):
        self.windows.append(window)
        for problem in problems:
            self.wait(problem)
            self.drawn.append(problem.id)
            yield rollout(problem)


def run(teams, path, draws, **options):
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(lead, teams[0], path, draws[0], **options), pool.submit(follow, teams[1], path, draws[1])]
        led, followed = (future.result(timeout=60) for future in work)
        assert followed is None
        return led


def test_of_ranks_that_hold_one_engine_the_first_takes_part(tmp_path, teams):
    together = Team(teams[0].ranks, slots=4, width=2)
    alone, draw = Draw(), Draw()
    lead(Team(), tmp_path / "alone.jsonl", alone)
    lead(together, tmp_path / "together.jsonl", draw)  # nobody follows
    assert (draw.drawn, draw.windows) == (alone.drawn, alone.windows)
    assert (tmp_path / "together.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert [effort.problems for effort in together.efforts] == [len(PROBLEMS)]


def test_every_problem_is_drawn_once_and_the_file_is_that_of_one_process(tmp_path, teams):
    lead(Team(), tmp_path / "alone.jsonl", Draw())
    both = threading.Barrier(2)
    first = []

    def meet(problem):  # neither can take all
        if threading.get_ident() not in first:
            first.append(threading.get_ident())
            both.wait(30)

    draws = [Draw(meet), Draw(meet)]
    [rows] = run(teams, tmp_path / "both.jsonl", draws)
    assert sorted(draws[0].drawn + draws[1].drawn) == [problem.id for problem in PROBLEMS]
    assert all(draw.drawn for draw in draws)
    assert [row.problem.id for row in rows] == [problem.id for problem in PROBLEMS]
    assert (tmp_path / "both.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.part*"))
    assert [effort.problems for effort in teams[0].efforts] == [len(draw.drawn) for draw in draws]
    assert teams[0].num_tokens == 10 * len(PROBLEMS)


def test_a_rank_has_no_more_in_flight_than_keeps_its_engine_busy_nor_than_an_even_share(tmp_path, teams):
    draws = [Draw(), Draw()]
    run(teams, tmp_path / "log.jsonl", draws, blocks=(PROBLEMS[:17], PROBLEMS[17:]))
    assert [draw.windows for draw in draws] == [[4, 2], [4, 2]]


def test_the_longest_of_the_block_before_are_dealt_first(teams):
    teams[0].learn(
        replace(rollout(p), responses=(ScoredResponse(Response(token_ids=(1,) * i)),))
        for i, p in enumerate(PROBLEMS[:3])
    )
    block = home.Block("f", "sample", 1, SAMPLING, ("new", "p00", "p01", "p02"))
    assert teams[0].announce(block).problems == ("p02", "p01", "new", "p00")


def test_a_rank_that_begins_first_does_not_take_the_longest_of_the_others(teams):
    by_id = {problem.id: problem for problem in PROBLEMS}
    block = teams[0].announce(home.Block("f", "sample", 1, SAMPLING, tuple(by_id), width=SAMPLING.n))
    teams[1]._number = teams[0]._number
    first, second = (team._dealt(block, by_id) for team in teams)
    hurried = [next(first).id for _ in range(4)]  # all that it may have in flight
    assert hurried == ["p00", "p02", "p04", "p06"]
    assert [next(second).id for _ in range(4)] == ["p01", "p03", "p05", "p07"]
    assert [next(taker).id for taker in (second, first, second)] == ["p08", "p09", "p10"]


def test_what_a_silent_rank_has_taken_is_dealt_again(tmp_path, teams, monkeypatch):
    monkeypatch.setattr(home, "SILENT_SECONDS", 0.3)
    taken, over = threading.Event(), threading.Event()

    def hang(problem):
        if not taken.is_set():
            taken.set()
            over.wait(30)

    stuck, announced = Draw(hang), []
    monkeypatch.setattr(
        Team, "announce", lambda *args, real=Team.announce: announced.append(real(*args)) or announced[-1]
    )
    draws = [Draw(lambda problem: taken.wait(30)), stuck]
    with ThreadPoolExecutor(2) as pool:
        silent = pool.submit(follow, teams[1], tmp_path / "log.jsonl", stuck)
        [rows] = pool.submit(lead, teams[0], tmp_path / "log.jsonl", draws[0]).result(timeout=60)
        over.set()
        silent.result(timeout=60)
    assert sorted(draws[0].drawn) == [problem.id for problem in PROBLEMS]
    assert [row.problem.id for row in rows] == [problem.id for problem in PROBLEMS]
    assert teams[0].efforts[1] == Effort()
    assert [block.again for block in announced] == [False, True]
    # What the silent one found late, in a file that is gone from the folder or comes too late, changes nothing.
    part_file(tmp_path / "log.jsonl", 1).unlink(missing_ok=True)
    again = Draw()
    assert lead(Team(), tmp_path / "log.jsonl", again) == [rows]
    assert again.drawn == []
