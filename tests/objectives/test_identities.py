"""Identities between objectives that hold whatever the numbers are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from harness.errors import InputError
from harness.objectives import (
    CISPO,
    DAPO,
    DPPO,
    GMPO,
    GRPO,
    GSPO,
    PRESETS,
    SAPO,
    DrGRPO,
    Objective,
)
from harness.objectives.aggregation import aggregation_weights
from harness.objectives.credit import BY_GROUP, CREDITS, CreditConfig, Samples, advantages, overlong_penalty
from harness.objectives.penalties import adapted, kl_loss, kl_to_go
from harness.objectives.surrogate import PolicyTokens, engine_weights, kept_gradient, surrogate_loss
from tests.objectives.batch import (
    ENGINE,
    LENGTHS,
    MASK,
    NEW,
    NORMED,
    OLD,
    REFERENCE,
    REWARDS,
    loss_of,
    weights_of,
)

PURE = Objective()


def samples(*groups, lengths=None, logps=None):
    rewards = np.array([reward for group in groups for reward in group], dtype=float)
    ids = np.array([number for number, group in enumerate(groups) for _ in group])
    zeros = np.zeros(len(rewards))
    return Samples(rewards, ids, zeros + 1 if lengths is None else np.array(lengths), zeros if logps is None else logps)


RANDOM = samples(*np.random.default_rng(0).integers(0, 2, (20, 8)).tolist())


@pytest.mark.parametrize(
    "objective",
    [
        *(GRPO(aggregation="token"), DAPO(), GRPO(aggregation="token", trust_region="dual_clip")),
        *(GRPO(aggregation="token", trust_region="two_sided"), CISPO(aggregation="token"), SAPO(aggregation="token")),
        SAPO(aggregation="token", sapo_positive=7.0, sapo_negative=0.3),
        Objective(ratio="token"),
    ],
)
def test_at_ratio_1_every_trust_region_has_the_gradient_of_reinforce(objective):
    found, gradient = loss_of(objective, old=NEW)
    plain, expected = loss_of(PURE)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)
    if objective.trust_region != "cispo":
        assert abs(found - plain) > 1e-3  # the values differ: -A against -A log pi


@pytest.mark.parametrize("objective", [GSPO(), GSPO(ratio="sequence_token"), GMPO()])
def test_at_ratio_1_ratios_of_sequences_have_it_under_their_own_mean(objective):
    _, gradient = loss_of(objective, old=NEW)
    _, expected = loss_of(Objective(aggregation="sequence"))
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def test_the_raft_credit_over_trained_rows_is_the_mean_of_the_kept_tokens():
    right = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    kept = right.bool()
    rows = {"policy": NEW[kept], "old": OLD[kept], "engine": ENGINE[kept], "mask": MASK[kept]}
    loss, gradient = loss_of(PURE, advantages=right[kept], **rows)
    assert loss == -NEW[kept][MASK[kept]].sum() / MASK[kept].sum()
    _, over_all = loss_of(PURE, advantages=right)
    torch.testing.assert_close(over_all[kept], gradient * 9 / 17, atol=1e-15, rtol=0)


@pytest.mark.parametrize("name", sorted(BY_GROUP - {"gpg", "batch_norm", "opo", "partition", "passk_top1", "whiten"}))
def test_a_group_credit_sums_to_0_in_every_group(name):
    spread = RANDOM if name != "rank" else samples(*RANDOM.rewards.reshape(-1, 8), logps=-np.arange(160.0))
    np.testing.assert_allclose(spread.total(advantages(name, spread, CreditConfig())), 0, atol=1e-12)


def test_credits_are_multiples_and_invariant_as_their_formulas_say():
    mean, rloo = advantages("mean", RANDOM), advantages("rloo", RANDOM)
    np.testing.assert_allclose(rloo, mean * 8 / 7, atol=1e-14)
    moved = samples(*(3 * RANDOM.rewards + 5).reshape(-1, 8))
    tiny = CreditConfig(credit_eps=1e-12)
    np.testing.assert_allclose(advantages("group_norm", moved, tiny), advantages("group_norm", RANDOM, tiny), atol=1e-9)
    scaled = samples(*(3 * RANDOM.rewards).reshape(-1, 8))
    np.testing.assert_allclose(advantages("maxrl", scaled), advantages("maxrl", RANDOM), atol=1e-12)


def test_pass_at_1_is_grpo_with_the_populations_deviation():
    deviations = np.sqrt(RANDOM.means * (1 - RANDOM.means))
    expected = np.where(RANDOM.spread, RANDOM.centred / np.where(RANDOM.spread, deviations, 1), 0)
    np.testing.assert_allclose(advantages("passk", RANDOM, CreditConfig(pass_k=1)), expected, atol=1e-5)


def test_positive_and_negative_reinforcement_add_up():
    psr, nsr = advantages("psr", RANDOM), advantages("nsr", RANDOM)
    np.testing.assert_array_equal(psr + nsr, 2 * RANDOM.rewards - 1)
    np.testing.assert_array_equal(advantages("weighted", RANDOM, CreditConfig(positive_weight=1.0)), psr + nsr)


def test_grpo_balances_right_and_wrong_responses():
    found = advantages("group_norm", RANDOM, CreditConfig(credit_eps=0.0)) if RANDOM.spread.all() else None
    for group in range(20):
        members = RANDOM.groups == group
        right = members & (RANDOM.rewards == 1)
        credit = found if found is not None else advantages("group_norm", RANDOM)
        assert credit[right].sum() + credit[members & ~right].sum() == pytest.approx(0, abs=1e-12)


def test_the_likeliest_right_response_earns_least_under_rank():
    found = advantages("rank", samples([1, 1, 0, 0], logps=np.array([-1.0, -9.0, -2.0, -3.0])))
    assert found[1] > found[0] > found[2] == found[3]


def test_partition_tends_to_the_best_of_the_others():
    found = advantages("partition", samples([1.0, 0.2, 0.6]), CreditConfig(partition_temperature=1e-4))
    np.testing.assert_allclose(found, [0.4, -0.8, -0.4], atol=1e-3)


def test_maxrl_is_the_mean_of_the_right_responses_less_the_mean_score():
    """(1/n) sum_i A_i grad log p_i = (1/c) sum over right - (1/n) sum over all, on a categorical policy."""
    logits = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=torch.float64, requires_grad=True)
    drawn, right = torch.tensor([0, 2, 2, 1, 3]), np.array([1.0, 0, 1, 0, 0])
    logps = logits.log_softmax(0)[drawn]
    credit = torch.from_numpy(advantages("maxrl", samples(right.tolist())))
    (found,) = torch.autograd.grad((credit * logps).mean(), logits, retain_graph=True)
    (expected,) = torch.autograd.grad(logps[torch.from_numpy(right) == 1].mean() - logps.mean(), logits)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_n_samples_of_maxrl_estimate_the_first_n_terms_of_the_log_likelihood(n):
    """Exact expectation over all outcomes of n draws from a policy with p = sigmoid(x)."""
    x = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    p = torch.sigmoid(x)
    gradient = torch.zeros((), dtype=torch.float64)
    for outcome in itertools.product([0.0, 1.0], repeat=n):
        logps = torch.stack([p.log() if right else (1 - p).log() for right in outcome])
        credit = torch.from_numpy(advantages("maxrl", samples(list(outcome))))
        (score,) = torch.autograd.grad((credit * logps).mean(), x, retain_graph=True)
        gradient = gradient + logps.sum().exp().detach() * score
    series = -sum((1 - p) ** k / k for k in range(1, n))
    (expected,) = torch.autograd.grad(series, x)
    torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def test_unclipped_gmpo_is_gspo():
    wide = {"clip_low": 50.0, "clip_high": 50.0}
    for one, other in zip(loss_of(GMPO(**wide)), loss_of(GSPO(**wide)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=0)


def test_the_token_form_of_a_sequence_ratio_is_the_sequence_form():
    for one, other in zip(loss_of(GSPO()), loss_of(GSPO(ratio="sequence_token")), strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=0)


def test_cispo_without_a_clamp_has_the_gradient_of_the_ratio():
    _, found = loss_of(CISPO(aggregation="token", ratio_max=math.inf))
    _, expected = loss_of(Objective(ratio="token"))
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


def test_the_dual_clip_acts_on_large_ratios_of_wrong_responses_only():
    def of(objective):
        rows = MASK.nonzero()[:, 0]
        return surrogate_loss(PolicyTokens(NEW[MASK], NORMED, rows, OLD[MASK]), objective)

    plain, dual = of(GRPO()), of(GRPO(trust_region="dual_clip", dual_clip=1.1))
    ratio = (NEW - OLD)[MASK].exp()
    acts = (NORMED[MASK.nonzero()[:, 0]] < 0) & (ratio > 1.1)
    assert acts.any()
    assert torch.equal(plain != dual, acts)


def test_two_sided_without_its_bound_is_the_clip():
    for one, other in zip(loss_of(GRPO(trust_region="two_sided", ratio_max=math.inf)), loss_of(GRPO()), strict=True):
        assert torch.equal(one, other)


def test_dppo_without_its_bounds_is_the_ratio_to_the_engine():
    for one, other in zip(
        loss_of(DPPO(dppo_threshold=1.0, dppo_pull=0.0)), loss_of(Objective(ratio="token"), old=ENGINE), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=0)


def test_policy_mirror_descent_has_its_published_gradient():
    tau = 0.05
    _, found = loss_of(Objective(trust_region="pmd", pmd_temperature=tau, aggregation="sequence"))
    distance = ((NEW - OLD) * MASK).sum(1)
    expected = -(NORMED - tau * distance) / LENGTHS / 4
    torch.testing.assert_close(found, expected[:, None] * MASK, atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    "name", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_mask"]
)
def test_a_correction_does_nothing_where_engine_and_trainer_agree(name):
    corrected = DAPO(correction=name, correction_low=0.5, correction_high=2.0)
    for one, other in zip(loss_of(corrected, engine=OLD), loss_of(DAPO()), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(
        loss_of(DAPO(correction="k3_mask", correction_high=0.0), engine=OLD), loss_of(DAPO()), strict=True
    ):
        assert torch.equal(one, other)


def test_the_masks_by_geometric_mean_and_by_k3_keep_the_rows_that_their_formulas_keep():
    rows = MASK.nonzero()[:, 0]
    tokens = PolicyTokens(NEW[MASK], NORMED, rows, OLD[MASK], ENGINE[MASK])
    log_v = OLD - ENGINE
    means = (log_v * MASK).sum(1) / LENGTHS
    low, high = means.exp().sort().values[[0, 2]].tolist()
    kept = engine_weights(tokens, Objective(correction="geometric_mask", correction_low=low, correction_high=high))
    assert torch.equal(kept.bool(), ((means.exp() >= low) & (means.exp() <= high))[rows])
    distances = ((log_v.exp() - log_v - 1) * MASK).sum(1) / LENGTHS
    limit = distances.median().item()
    kept = engine_weights(tokens, Objective(correction="k3_mask", correction_high=limit))
    assert torch.equal(kept.bool(), (distances <= limit)[rows])


@pytest.mark.parametrize("name", ["token", "sequence", "sequence_sum", "constant", "problem"])
def test_any_split_into_batches_adds_up_to_the_whole(name):
    problems = np.array([0, 0, 1, 1])
    objective = GRPO(aggregation=name, constant_length=8)
    whole, gradient = loss_of(objective, problems=problems)
    weights, denominators = weights_of(name, MASK, 8, problems)
    rows = MASK.nonzero()[:, 0]
    values = surrogate_loss(PolicyTokens(NEW[MASK], NORMED, rows, OLD[MASK]), objective) * weights[rows]
    parts = sum(values[rows == row].sum() / denominators.sum() for row in (2, 0, 3, 1))
    assert parts.item() == pytest.approx(whole.item(), abs=1e-15)
    assert gradient.abs().sum() > 0


def test_problems_are_averaged_by_their_token_means():
    lengths, problems = np.array([1, 3, 6]), np.array([0, 0, 1])
    weights, denominators = aggregation_weights("problem", lengths, problems)
    np.testing.assert_allclose(weights, [1 / 4, 1 / 4, 1 / 6])
    assert denominators.sum() == pytest.approx(2)


def test_divergences_are_0_at_the_reference_and_k2_has_the_gradient_of_the_kl():
    for name in ("k2", "k3", "k3_k2"):
        assert (kl_loss(NEW, REFERENCE, name) >= 0).all()
        assert kl_loss(NEW, NEW, name).abs().max() == 0
    torch.testing.assert_close(
        kl_loss(NEW, REFERENCE, "k3") - kl_loss(NEW, REFERENCE, "k1"), (REFERENCE - NEW).exp() - 1, atol=1e-14, rtol=0
    )
    logits = torch.tensor([0.4, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.1, 0.2, -0.5], dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    (expected,) = torch.autograd.grad((policy.exp() * (policy - reference)).sum(), logits, retain_graph=True)
    weights = policy.exp().detach()  # the expectation over the policy's own samples
    for name, true in (("k2", True), ("k3_k2", True), ("k1", False), ("k3", False)):
        (found,) = torch.autograd.grad((weights * kl_loss(policy, reference, name)).sum(), logits, retain_graph=True)
        assert torch.allclose(found, expected, atol=1e-14) == true, name
        if name == "k1":
            assert found.abs().max() < 1e-15
    ratio = (policy - policy.detach()).exp()
    (found,) = torch.autograd.grad((weights * kl_loss(policy, reference, "k3_ratio", ratio)).sum(), logits)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)


def test_the_monitored_divergence_is_that_of_the_policy_that_drew_the_tokens():
    """Four tokens drawn as often as their probabilities say, (1/2, 1/4, 1/4) then and (1/4, 1/4, 1/2) now."""
    old = torch.tensor([0.5, 0.5, 0.25, 0.25], dtype=torch.float64).log()
    new = torch.tensor([0.25, 0.25, 0.25, 0.5], dtype=torch.float64).log()
    tokens = PolicyTokens(new, torch.ones(4, dtype=torch.float64), torch.arange(4), old)
    found = kept_gradient(tokens, GRPO())
    assert found["kl_old"] == pytest.approx(math.log(2) / 4, abs=1e-15)
    assert found["ratio_max"] == pytest.approx(2)


def test_a_divergence_in_the_reward_has_the_gradient_of_the_kl():
    """Exact expectation over two rows of a policy whose first token may end the row."""
    first = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([-0.2, 0.5], dtype=torch.float64, requires_grad=True)
    weights = (first, second)

    def sequences(one, two):
        one, two = one.log_softmax(0), two.log_softmax(0)
        return [one[:1], torch.stack([one[1], two[0]]), torch.stack([one[1], two[1]])]

    policy = sequences(*weights)
    reference = sequences(torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64))
    old, fixed = ([row.detach().numpy() for row in rows] for rows in (policy, reference))
    found = [torch.zeros(2, dtype=torch.float64) for _ in weights]
    for drawn in itertools.product(range(3), repeat=2):
        added = kl_to_go([old[i] for i in drawn], [fixed[i] for i in drawn], np.zeros(2, dtype=int), 0.7)
        surrogate = sum((torch.from_numpy(a) * policy[i]).sum() / 2 for a, i in zip(added, drawn, strict=True))
        chance = sum(policy[i].sum() for i in drawn).exp().detach()
        slopes = torch.autograd.grad(surrogate, weights, retain_graph=True, allow_unused=True)
        for total, slope in zip(found, slopes, strict=True):
            total += 0 if slope is None else chance * slope
    divergence = sum(p.sum().exp() * (p - r).sum() for p, r in zip(policy, reference, strict=True))
    for slope, expected in zip(found, torch.autograd.grad(-0.7 * divergence, weights), strict=True):
        torch.testing.assert_close(slope, expected, atol=1e-14, rtol=0)


def test_the_first_token_of_a_row_has_the_leave_one_out_of_penalised_rewards():
    rows = [slice(0, int(length)) for length in LENGTHS]
    old, reference = ([values[i, cut].numpy() for i, cut in enumerate(rows)] for values in (OLD, REFERENCE))
    added = kl_to_go(old, reference, np.zeros(4, dtype=int), 0.1)
    costs = np.array([0.1 * (lo - lr).sum() for lo, lr in zip(old, reference, strict=True)])
    rewards = REWARDS.numpy()
    penalised = advantages("rloo", samples(list(rewards - costs)))
    plain = advantages("rloo", samples(list(rewards)))
    np.testing.assert_allclose(plain + [row[0] for row in added], penalised, atol=1e-14)
    alone = kl_to_go(old, reference, np.arange(4), 0.1)
    np.testing.assert_allclose([row[0] for row in alone], -costs, atol=1e-14)


def test_an_adaptive_bonus_follows_the_entropy():
    assert adapted(0.0, 0.1, 0.2, 0.005) == 0.005
    assert adapted(0.01, 0.3, 0.2, 0.005) == pytest.approx(0.005)
    assert adapted(0.002, 0.3, 0.2, 0.005) == 0.0
    assert adapted(1.0, 0.1, 0.2, 0.005) == 1.0


def test_the_overlong_penalty_is_dapos():
    lengths = np.array([10, 16, 18, 20, 30])
    np.testing.assert_allclose(overlong_penalty(lengths, limit=20, buffer=4), [0, 0, -0.5, -1, -1])


def test_groups_of_equal_rewards_teach_nothing_but_under_whitening():
    same = samples([0.3] * 3, [1, 0, 1])
    for name in sorted(BY_GROUP - {"whiten", "passk", "partition", "rank"}):
        assert (advantages(name, same)[:3] == 0).all(), name
    assert (advantages("whiten", same)[:3] != 0).all()


@pytest.mark.parametrize("name", sorted(CREDITS))
def test_a_credit_does_not_depend_on_the_order_of_the_responses(name):
    rewards = RANDOM.rewards
    lengths, logps = np.arange(160) % 7 + 1, -np.arange(160.0)
    order = np.random.default_rng(1).permutation(160)
    config = CreditConfig()
    straight = advantages(name, Samples(rewards, RANDOM.groups, lengths, logps), config)
    mixed = Samples(rewards[order], RANDOM.groups[order], lengths[order], logps[order])
    found = advantages(name, mixed, config)
    if name == "passk_top1":  # which of equal rewards is the best is a matter of order
        found, straight = np.sort(found), np.sort(straight[order])
        np.testing.assert_allclose(found, straight, atol=1e-12)
    else:
        np.testing.assert_allclose(found, straight[order], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("group_norm", samples([1, 0], [1]), "a problem has 1; sample at least 2"),
        ("passk", samples([1, 0]), "pass_k 4 needs as many responses to each problem, found 2"),
        ("weighted", samples([1, 0.5]), "rewards 0 and 1, found 0.5"),
        ("maxrl", samples([1, -1]), "not negative, found -1"),
        ("mean", samples([1, math.nan]), "finite rewards, found nan"),
    ],
)
def test_a_credit_refuses_rewards_that_it_is_not_defined_for(name, given, words):
    with pytest.raises(InputError, match=words):
        advantages(name, given)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"trust_region": "clip"}, "bounds a ratio, but ratio is 'none'"),
        ({"credit": "mean", "drop_copies": True}, "goes with credit raft only"),
        ({"aggregation": "constant"}, "needs constant_length"),
        ({"kl": "k2"}, "go together"),
        ({"kl": "k1", "kl_coefficient": 0.1}, "no expected gradient"),
        ({"kl": "k3_ratio", "kl_coefficient": 0.1}, "needs a ratio"),
        ({"kl": "k1_reward", "kl_coefficient": 0.1, "trust_region": "pmd"}, "known before the first step"),
        ({"entropy": "bonus"}, "needs an entropy_coefficient"),
        ({"replay_iterations": 1}, "needs the ratio to the policy that drew the rows"),
        ({"correction": "token_mask", "old_logps": "engine"}, "needs old_logps: recomputed"),
        ({"overlong_buffer": 4}, "larger than overlong_limit"),
        ({"refill": 2}, "set both"),
    ],
)
def test_choices_that_contradict_one_another_are_refused(choices, words):
    with pytest.raises(InputError, match=words):
        Objective(**choices)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_finite_loss_and_a_gradient(preset):
    objective = DrGRPO(constant_length=8) if preset is DrGRPO else preset()
    loss, gradient = loss_of(objective)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0
