"""Rows of policy gradients from scored rollouts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import InputError
from harness.objectives import DAPO, DPPO, GRPO, NSR, RFT, Objective, RAFTPlusPlus, ReinforcePlusPlus
from harness.selection import PolicyRows
from harness.types import Problem, Response, Rollout, RolloutConfig, SamplingConfig, ScoredResponse

CONFIG = RolloutConfig(reward_threshold=0.5)


def scored(text, reward, finish="stop", **fields):
    ids = tuple(range(2, 2 + len(text)))
    given = {"token_ids": ids, "token_logps": (-0.5,) * len(ids), "logp": -0.5 * len(ids)} | fields
    return ScoredResponse(Response((text,), finish, **given), text, reward > 0, float(reward))


def rollout(name, *responses, **sampling):
    return Rollout(Problem(name, name), tuple(responses), SamplingConfig(**sampling), weights="w")


MIXED = rollout("a", scored("1", 1), scored("22", 0), scored("333", 0), scored("1", 1))
SOLVED = rollout("b", scored("1", 1), scored("2", 1))
FAILED = rollout("c", scored("1", 0), scored("2", 0, "length"))
ALL = (MIXED, SOLVED, FAILED)


def select(objective, *rollouts):
    rows, counts = PolicyRows(objective)(rollouts or ALL, CONFIG, lambda problem: f"Q {problem.question}")
    return rows, counts


def test_a_row_holds_the_response_as_it_was_sampled():
    rows, _ = select(GRPO())
    assert len(rows) == 8
    row = rows[1]
    assert (row.prompt, row.response, row.token_ids, row.token_logps) == ("Q a", "22", (2, 3), (-0.5, -0.5))
    assert (row.reward, row.correct, row.temperature, row.problem_id, row.weights) == (0.0, False, 1.0, "a", "w")
    assert row.advantage == pytest.approx(-0.5 / (3**-0.5 + 1e-4))


def test_equal_responses_are_dropped_by_rejection_sampling_alone():
    assert [(row.problem_id, row.response) for row in select(RFT())[0]] == [("a", "1"), ("b", "1"), ("b", "2")]
    assert all(row.advantage == 1 for row in select(RFT())[0])
    for objective in (RAFTPlusPlus(), GRPO(), Objective()):
        assert [row.response for row in select(objective, MIXED)[0]].count("1") == 2
    assert select(GRPO())[1]["num_copies"] == 1


@pytest.mark.parametrize(
    ("keep", "problems"), [("all", "aaaabbcc"), ("mixed", "aaaa"), ("solved", "aaaabb"), ("positive", "aabb")]
)
def test_a_filter_keeps_its_problems(keep, problems):
    rows, _ = select(Objective(credit="raft", keep=keep))
    assert "".join(row.problem_id for row in rows) == problems


def test_rows_without_advantage_are_left_out_of_the_trained_denominator():
    assert len(select(GRPO(denominator="trained"))[0]) == 4


def test_the_counts_describe_the_credit():
    _, counts = select(NSR())
    assert counts["zero_spread_share"] == pytest.approx(2 / 3)
    assert (counts["advantage_right"], counts["advantage_wrong"]) == (0.0, -1.0)
    assert (counts["mean_tokens_right"], counts["mean_tokens_wrong"]) == (1.0, 7 / 4)
    assert counts["num_truncated"] == 1


def test_a_response_cut_at_the_limit_counts_in_the_credit_but_not_in_the_loss():
    cut = rollout("d", scored("1", 1), scored("2", 0, "length"))
    rows, _ = select(GRPO(mask_truncated=True), cut)
    assert [row.response for row in rows] == ["1"]
    assert rows[0].advantage > 0


def test_a_long_response_loses_reward():
    long = rollout("d", scored("1" * 10, 1), scored("1" * 8, 1), scored("1", 0))
    rows, _ = select(DAPO(overlong_limit=10, overlong_buffer=4), long)
    assert [row.reward for row in rows] == [0.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("objective", "given", "words"),
    [
        (GRPO(), [replace(MIXED, sampling=SamplingConfig(top_p=0.9))], "is sampled with top_p 0.9"),
        (Objective(), [replace(MIXED, sampling=SamplingConfig(top_k=20))], "is sampled with top_k 20"),
        (GRPO(), [replace(MIXED, sampling=SamplingConfig(temperature=0))], "is sampled with temperature 0"),
        (DPPO(), [replace(MIXED, sampling=SamplingConfig(temperature=0.7))], "at temperature 0.7, but engines report"),
        (GRPO(), [rollout("d", scored("1", 1))], "a problem has 1; sample at least 2"),
        (GRPO(), [SOLVED], "is 0 for every row that is kept of 2 responses with rewards from 1 to 1"),
        (DPPO(), [rollout("d", scored("1", 1), scored("2", 0, token_logps=()))], "no log-probability for each token"),
        (GRPO(), [rollout("d", scored("1", 1), scored("2", 0, token_ids=()))], "has no token ids"),
        (GRPO(), [rollout("d", scored("1", 1), scored("2", 0, inserted=((1, "x"),)))], "did not sample"),
    ],
)
def test_samples_that_an_objective_cannot_learn_from_are_refused(objective, given, words):
    with pytest.raises(InputError, match=words):
        select(objective, *given)


def test_rejection_sampling_may_shape_its_distribution_and_greedy_groups_may_be_equal_under_whitening():
    assert select(RFT(), replace(MIXED, sampling=SamplingConfig(top_p=0.9, temperature=0.7)))[0]
    assert all(row.advantage != 0 for row in select(ReinforcePlusPlus())[0])
