"""Losses against transformers, and values and gradients against numbers derived by hand and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from harness.models.losses import (
    PREFERENCE_LOSSES,
    PairLogps,
    PreferenceLossConfig,
    bradley_terry_loss,
    preference_loss,
    sequence_logps,
    sft_loss,
    step_loss,
    supervised_positions,
    token_logps,
)
from tests.conftest import build_tiny_model


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# One pair: policy -10 and -14, reference -11 and -12, 5 and 4 tokens.
# Log-ratios 1 and -2, delta 3; per token 1/5 and -1/2, normalised delta 0.7.
PAIR = PairLogps(*(torch.tensor([x], dtype=torch.float64) for x in (-10.0, -14.0, -11.0, -12.0, 5.0, 4.0)))
CONFIG = PreferenceLossConfig(beta=0.2, label_smoothing=0.1, simpo_gamma=0.3, dpop_lambda=2.0)
BY_HAND = {
    # beta * delta = 0.6
    "sigmoid": -0.9 * math.log(sigmoid(0.6)) - 0.1 * math.log(sigmoid(-0.6)),
    "robust": (-0.9 * math.log(sigmoid(0.6)) + 0.1 * math.log(sigmoid(-0.6))) / 0.8,
    # 1 / (2 beta) = 2.5
    "ipo_sum": (3 - 2.5) ** 2,
    "ipo_mean": (0.7 - 2.5) ** 2,
    "hinge": 1 - 0.6,
    "sigmoid_norm": -math.log(sigmoid(0.2 * 0.7)),
    # -10 / 5 + 14 / 4 = 1.5
    "simpo": -math.log(sigmoid(0.2 * 1.5 - 0.3)),
    # mean log-ratios of the batch of one: 1 for the chosen, max(0, -2) = 0 for the rejected
    "kto_pair": ((1 - sigmoid(0.2 * (1 - 0))) + (1 - sigmoid(0.2 * (1 + 2)))) / 2,
    # the chosen response is likelier than under the reference, so there is no penalty
    "dpop": -math.log(sigmoid(0.6)),
    "nll": 10 / 5,
}


@pytest.mark.parametrize("name", sorted(PREFERENCE_LOSSES))
def test_a_preference_loss_equals_the_value_derived_by_hand(name):
    assert PREFERENCE_LOSSES[name](PAIR, CONFIG).item() == pytest.approx(BY_HAND[name], abs=1e-12)


def test_dpop_penalises_a_chosen_response_less_likely_than_under_the_reference():
    pair = PairLogps(*(torch.tensor([x]) for x in (-12.0, -14.0, -11.0, -12.0, 5.0, 4.0)))
    # log-ratios -1 and -2: delta 1, penalty 2 * 1
    assert PREFERENCE_LOSSES["dpop"](pair, CONFIG).item() == pytest.approx(-math.log(sigmoid(0.2 * (1 - 2))), rel=1e-6)


def test_robust_loss_is_unbiased_under_swapped_labels():
    """Eq. 9 of arXiv:2403.00409: averaged over the noise, it is the loss of the clean label."""
    swapped = PairLogps(
        PAIR.rejected, PAIR.chosen, PAIR.reference_rejected, PAIR.reference_chosen, PAIR.num_rejected, PAIR.num_chosen
    )
    robust = PREFERENCE_LOSSES["robust"]
    clean = PREFERENCE_LOSSES["sigmoid"](PAIR, PreferenceLossConfig(beta=0.2))
    torch.testing.assert_close(0.9 * robust(PAIR, CONFIG) + 0.1 * robust(swapped, CONFIG), clean)


def test_several_losses_are_summed_with_their_weights():
    total = preference_loss(PAIR, {"sigmoid": 1.0, "nll": 0.5}, CONFIG)
    assert total.item() == pytest.approx(BY_HAND["sigmoid"] + 0.5 * BY_HAND["nll"])


def test_dpo_starts_at_ln_2_with_gradient_beta_over_2():
    """At delta 0 the loss is -log 1/2 and its derivative -beta/2 for the chosen, +beta/2 for the rejected side."""
    chosen, rejected = (torch.full((3,), -7.0, requires_grad=True) for _ in range(2))
    reference = torch.full((3,), -7.0)
    ones = torch.ones(3)
    pairs = PairLogps(chosen, rejected, reference, reference, ones, ones)
    loss = preference_loss(pairs, {"sigmoid": 1.0}, PreferenceLossConfig(beta=0.1))
    torch.testing.assert_close(loss, torch.full((3,), math.log(2)))
    loss.sum().backward()
    torch.testing.assert_close(chosen.grad, torch.full((3,), -0.05))
    torch.testing.assert_close(rejected.grad, torch.full((3,), 0.05))


@pytest.mark.parametrize("name", sorted(PREFERENCE_LOSSES.keys() - {"kto_pair"}))
def test_gradients_of_preference_losses_equal_finite_differences(name):
    generator = torch.Generator().manual_seed(0)
    logps = [-5 - 5 * torch.rand(1, generator=generator, dtype=torch.float64) for _ in range(4)]
    counts = [torch.tensor([6.0], dtype=torch.float64), torch.tensor([9.0], dtype=torch.float64)]
    chosen, rejected = (x.clone().requires_grad_() for x in logps[:2])
    loss = PREFERENCE_LOSSES[name](PairLogps(chosen, rejected, *logps[2:], *counts), CONFIG)
    grads = torch.autograd.grad(loss, [chosen, rejected], allow_unused=True)
    for side, grad in enumerate(grads):
        ends = []
        for step in (1e-6, -1e-6):
            moved = [x.clone() for x in logps[:2]]
            moved[side] += step
            ends.append(PREFERENCE_LOSSES[name](PairLogps(*moved, *logps[2:], *counts), CONFIG))
        numeric = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(
            grad if grad is not None else torch.zeros_like(numeric), numeric, atol=1e-6, rtol=1e-5
        )


def test_kto_pair_sends_no_gradient_through_the_batch_means():
    """With z held fixed, d/dx of 1 - sigmoid(beta (x - z)) is -beta s (1 - s); halved, since two sides share a pair."""
    chosen = torch.tensor([-10.0], dtype=torch.float64, requires_grad=True)
    pair = PairLogps(chosen, PAIR.rejected, PAIR.reference_chosen, PAIR.reference_rejected, *[torch.ones(1)] * 2)
    PREFERENCE_LOSSES["kto_pair"](pair, CONFIG).backward()
    s = sigmoid(0.2 * (1 - 0))
    assert chosen.grad.item() == pytest.approx(-0.2 * s * (1 - s) / 2)


def test_token_normalised_loss_equals_the_loss_of_transformers():
    model = build_tiny_model().eval()
    ids = torch.randint(0, 88, (3, 11), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :4] = labels[1, :7] = labels[2, 8:] = -100
    expected = model(input_ids=ids, labels=labels)
    positions, targets, rows = supervised_positions(labels)
    logps = token_logps(expected.logits.flatten(0, 1)[positions], targets)
    total, count = sft_loss(logps, torch.ones_like(logps))
    torch.testing.assert_close(total / count, expected.loss)
    assert rows.tolist() == [0] * 7 + [1] * 4 + [2] * 7


def test_sequence_logps_are_sums_of_log_softmax_over_the_supervised_tokens():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, generator=generator)
    labels = torch.tensor([[-100, 2, 3, 1], [-100, -100, 4, -100]])
    logps, counts = sequence_logps(logits, labels)
    table = logits.log_softmax(-1)
    expected = torch.stack([table[0, 0, 2] + table[0, 1, 3] + table[0, 2, 1], table[1, 1, 4]])
    torch.testing.assert_close(logps, expected)
    assert counts.tolist() == [3, 1]


def test_bradley_terry_loss_with_margin_and_centring_by_hand():
    loss = bradley_terry_loss(torch.tensor([2.0]), torch.tensor([0.5]), margin=1.0, centring=0.1)
    assert loss.item() == pytest.approx(-math.log(sigmoid(2 - 0.5 - 1)) + 0.1 * 2.5**2, rel=1e-6)


def test_step_loss_is_binary_cross_entropy_of_the_logits():
    loss = step_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.25]))
    expected = [math.log(2), -0.25 * math.log(sigmoid(2)) - 0.75 * math.log(sigmoid(-2))]
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_step_loss_can_be_the_squared_error_of_the_probability():
    loss = step_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.25]), squared=True)
    torch.testing.assert_close(loss, torch.tensor([0.25, (sigmoid(2) - 0.25) ** 2]))


def test_no_supervised_token_gives_zero_with_a_gradient():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    logps, counts = sequence_logps(logits, torch.full((1, 3), -100))
    logps.sum().backward()
    assert counts.item() == 0
    assert logits.grad.abs().sum() == 0
