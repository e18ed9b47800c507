from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.provenance import Provenance
from harness.rollouts.log import RolloutLog, chunks
from harness.store import read_rows, write_rows
from harness.types import Problem, Response, Rollout, SamplingConfig, ScoredResponse

PROBLEMS = [Problem(str(i), f"q{i}", "1") for i in range(5)]
SAMPLING = SamplingConfig(n=2, seed=7)


MADE_BY = Provenance({"weights": "w", "template": {"user": "{question}"}}, {"grader": "strict-1"}, ("question",))


class Sampler:
    """Answers problems in reverse order and notes which it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, problems):
        for problem in reversed(problems):
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
    with RolloutLog(path, made_by, judge or Judge()) as log:
        return [row for chunk in chunks(problems, 2) for row in log.chunk(chunk, sampling, sampler)]


def test_rollouts_come_back_in_the_order_of_the_problems(tmp_path):
    assert [row.problem.id for row in walk(tmp_path / "log.jsonl", Sampler())] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("keep", range(6))
def test_complete_chunks_are_read_back_and_the_others_sampled_anew(tmp_path, keep):
    path = tmp_path / "log.jsonl"
    whole = walk(path, Sampler())
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:keep]) + b'{"torn')
    again, judge = Sampler(), Judge()
    assert walk(path, again, judge=judge) == whole
    assert path.read_bytes() == content
    assert judge.asked == []
    complete = {0: 0, 1: 0, 2: 2, 3: 2, 4: 4, 5: 5}[keep]
    assert sorted(again.asked) == [str(i) for i in range(complete, 5)]


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
        log.chunk(PROBLEMS[:2], SAMPLING, Sampler())
    judge = Judge()
    walk(path, Sampler(), made_by=other, judge=judge)
    assert judge.asked == ["2", "3", "4"]


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
