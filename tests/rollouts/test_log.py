import contextlib
from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.provenance import Provenance
from harness.rollouts.log import RolloutLog, stored_rollouts
from harness.rollouts.team import part_file
from harness.store import read_rows, write_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

PROBLEMS = [Problem(str(i), f"q{i}", "1") for i in range(5)]
SAMPLING = SamplingConfig(n=2, seed=7)


MADE_BY = Provenance({"weights": "w", "template": {"user": "{question}"}}, {"grader": "strict-1"}, ("question",))


class Killed(Exception):
    pass


class Sampler:
    """Answers problems in reverse order and notes which it was asked for; dies when it has answered `lives`."""

    def __init__(self, lives=100):
        self.asked, self.lives = [], lives

    def __call__(self, problems, window):
        for problem in reversed(list(problems)):
            if len(self.asked) == self.lives:
                raise Killed
            self.asked.append(problem.id)
            yield Rollout(problem, (ScoredResponse(Response((f"r{problem.id}",))),), SAMPLING, 1, "w")


class Judge:
    """Calls every response right whose problem's gold is "2" and notes which it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, rollouts):
        self.asked += [rollout.problem.id for rollout in rollouts]
        return [
            replace(
                rollout,
                responses=tuple(replace(row, correct=rollout.problem.answer == "2") for row in rollout.responses),
            )
            for rollout in rollouts
        ]


def walk(path, sampler, sampling=SAMPLING, made_by=MADE_BY, judge=None, problems=PROBLEMS):
    """Two blocks: three problems, and the others."""
    with RolloutLog(path, made_by, judge or Judge()) as log:
        return [row for part in (problems[:3], problems[3:]) for row in log.block(part, sampling, sampler)]


def test_rollouts_come_back_in_the_order_of_the_problems(tmp_path):
    assert [row.problem.id for row in walk(tmp_path / "log.jsonl", Sampler())] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("lives", range(6))
def test_what_was_finished_before_a_kill_is_read_back_and_only_the_rest_sampled(tmp_path, lives):
    path = tmp_path / "log.jsonl"
    whole = walk(tmp_path / "whole.jsonl", Sampler())
    first, again, judge = Sampler(lives), Sampler(), Judge()
    with contextlib.suppress(Killed):
        walk(path, first)
    with open(part_file(path, 0), "ab") as torn:
        torn.write(b'{"torn')
    assert walk(path, again, judge=judge) == whole
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(first.asked + again.asked) == ["0", "1", "2", "3", "4"]
    assert judge.asked == []
    assert not list(tmp_path.glob("*.part*"))


def test_rows_that_other_ranks_have_left_are_taken(tmp_path):
    path = tmp_path / "log.jsonl"
    with contextlib.suppress(Killed):
        walk(path, Sampler(1))
    part_file(path, 0).rename(part_file(path, 7))
    with contextlib.suppress(Killed):
        walk(path, Sampler(1))
    again = Sampler()
    rows = walk(path, again)
    assert [row.problem.id for row in rows] == ["0", "1", "2", "3", "4"]
    assert again.asked == ["0", "4", "3"]


@pytest.mark.parametrize("killed_after", ["some", "all"])
def test_a_kill_while_merging_loses_and_repeats_nothing(tmp_path, killed_after):
    path = tmp_path / "log.jsonl"
    walk(path, Sampler())
    lines = path.read_bytes().splitlines(keepends=True)
    # Three rows of the first block were on their way into the file, or there with the part not yet removed.
    path.write_bytes(b"".join(lines[:2]) if killed_after == "some" else b"".join(lines[:3]))
    part_file(path, 0).write_bytes(b"".join(reversed(lines[:3])))
    again = Sampler()
    walk(path, again)
    assert path.read_bytes() == b"".join(lines)
    assert again.asked == ["4", "3"]
    assert not list(tmp_path.glob("*.part*"))


def test_a_part_of_other_samples_is_refused_with_its_line(tmp_path):
    path = tmp_path / "log.jsonl"
    with contextlib.suppress(Killed):
        walk(path, Sampler(2))
    with pytest.raises(InputError, match=r"log.jsonl.part0:1: made with another sampling.top_p \(1.0, now 0.5\)"):
        walk(path, Sampler(), SamplingConfig(n=2, seed=7, top_p=0.5))
    with pytest.raises(InputError, match=r"log.jsonl.part0:1: made with another weights \('w', now 'v'\)"):
        walk(path, Sampler(), made_by=changed("drawn", weights="v"))


def test_a_part_that_would_be_judged_otherwise_is_judged_again(tmp_path):
    path = tmp_path / "log.jsonl"
    with contextlib.suppress(Killed):
        walk(path, Sampler(2))
    judge, golds = Judge(), [replace(problem, answer="2") for problem in PROBLEMS]
    rows = walk(path, Sampler(), made_by=changed("judged", grader="rstar-1"), judge=judge, problems=golds)
    assert sorted(judge.asked) == ["1", "2"]
    assert [row.responses[0].correct for row in rows] == [False, True, True, False, False]


def changed(part, **values):
    return replace(MADE_BY, **{part: {**getattr(MADE_BY, part), **values}})


@pytest.mark.parametrize(
    ("made_by", "sampling", "problems", "named"),
    [
        (MADE_BY, SamplingConfig(n=2, seed=7, top_p=0.5), PROBLEMS, r"sampling.top_p \(1.0, now 0.5\)"),
        (changed("drawn", weights="v"), SAMPLING, PROBLEMS, r"weights \('w', now 'v'\)"),
        (changed("drawn", template={"user": "Q: {question}"}), SAMPLING, PROBLEMS, r"template.user"),
        (
            MADE_BY,
            SAMPLING,
            [replace(PROBLEMS[0], question="other"), *PROBLEMS[1:]],
            r"problem.question \('q0', now 'ot",
        ),
        (MADE_BY, SAMPLING, PROBLEMS[1:], r"problem.id \('0', now '1'; problem.question differs too\)"),
    ],
)
def test_rows_that_were_drawn_otherwise_are_refused_with_line_and_field(tmp_path, made_by, sampling, problems, named):
    path = tmp_path / "log.jsonl"
    walk(path, Sampler())
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"log.jsonl:1: made with another {named}.*write to another file, or delete"):
        walk(path, Sampler(), sampling, made_by, problems=problems)
    assert path.read_bytes() == before


def test_what_only_judges_otherwise_judges_again_and_draws_nothing(tmp_path):
    path, other = tmp_path / "log.jsonl", changed("judged", grader="rstar-1")
    walk(path, Sampler())
    golds = [replace(problem, answer="2" if problem.id == "3" else "1") for problem in PROBLEMS]
    sampler, judge = Sampler(), Judge()
    again = walk(path, sampler, made_by=other, judge=judge, problems=golds)
    assert (sampler.asked, judge.asked) == ([], ["0", "1", "2", "3", "4"])
    assert [row.responses[0].correct for row in again] == [False, False, False, True, False]
    content = path.read_bytes()
    judge = Judge()
    assert walk(path, Sampler(), made_by=other, judge=judge, problems=golds) == again
    assert judge.asked == []
    assert path.read_bytes() == content


def test_a_changed_gold_alone_judges_its_problem_again(tmp_path):
    path, judge = tmp_path / "log.jsonl", Judge()
    walk(path, Sampler())
    walk(path, Sampler(), judge=judge, problems=[*PROBLEMS[:4], replace(PROBLEMS[4], answer="2")])
    assert judge.asked == ["4"]


def test_a_run_that_stopped_while_it_judged_again_judges_the_rest_when_it_goes_on(tmp_path):
    path, other = tmp_path / "log.jsonl", changed("judged", grader="rstar-1")
    walk(path, Sampler())
    with RolloutLog(path, other, Judge()) as log:
        log.block(PROBLEMS[:3], SAMPLING, Sampler())
    judge = Judge()
    walk(path, Sampler(), made_by=other, judge=judge)
    assert judge.asked == ["3", "4"]


def test_rows_without_provenance_are_refused_and_stay(tmp_path):
    path = tmp_path / "log.jsonl"
    walk(path, Sampler())
    rows = [replace(row, provenance="") for row in read_rows(path, Rollout)]
    write_rows(path, rows)
    with pytest.raises(InputError, match=r"log.jsonl:1: made by a version that did not write down what made its rows"):
        walk(path, Sampler())
    assert read_rows(path, Rollout) == rows


def test_without_the_accounts_rows_are_still_told_apart(tmp_path):
    path = tmp_path / "log.jsonl"
    whole = walk(path, Sampler())
    (tmp_path / "log.jsonl.provenance").unlink()
    assert walk(path, Sampler()) == whole
    with pytest.raises(InputError, match=r"log.jsonl:1: made with another provenance"):
        walk(path, Sampler(), made_by=changed("drawn", weights="v"))


def test_damaged_accounts_are_named(tmp_path):
    path, accounts = tmp_path / "log.jsonl", tmp_path / "log.jsonl.provenance"
    walk(path, Sampler())
    accounts.write_text(accounts.read_text().replace('"weights": "w"', '"weights": "x"'))
    with pytest.raises(
        InputError, match=r"made with another provenance .*log.jsonl.provenance, which says .* lacks it"
    ):
        walk(path, Sampler(), made_by=changed("drawn", weights="v"))
    accounts.write_text("[1]")
    with pytest.raises(InputError, match=r"log.jsonl.provenance: cannot be read"):
        walk(path, Sampler())


def test_what_cannot_be_told_is_said_and_judged_again(tmp_path, caplog):
    path = tmp_path / "log.jsonl"
    blind = changed("judged", reward={"class": "mylab.Reward", "model": {"unknown": "an object of torch.Module"}})
    walk(path, Sampler(), made_by=blind)
    judge = Judge()
    walk(path, Sampler(), made_by=blind, judge=judge)
    assert judge.asked == ["0", "1", "2", "3", "4"]
    assert "whether reward.model is the same as before cannot be told (an object of torch.Module)" in caplog.text


def test_rows_are_read_from_the_file_also_once_the_log_is_closed_and_has_replaced_some(tmp_path):
    path = tmp_path / "log.jsonl"
    walk(path, Sampler())
    golds = [replace(problem, answer="2") for problem in PROBLEMS[:3]] + PROBLEMS[3:]
    with RolloutLog(path, MADE_BY, Judge()) as log:
        first = log.block(golds[:2], SAMPLING, Sampler())
        more = [*golds[2:], Problem("9", "q9", "1")]
        second = log.block(more, SAMPLING, Sampler())
        assert [row.problem for row in log.rows] == [*golds, more[-1]]
    for rows in ([*first, *second], list(log.rows)):
        assert rows == read_rows(path, Rollout)
        assert [row.responses[0].correct for row in rows] == [True] * 3 + [False] * 3
    assert [row.problem.id for row in stored_rollouts(path)[2:4]] == ["2", "3"]
