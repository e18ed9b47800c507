"""Losses, credits and divergences against numbers that TRL 1.16.0 and verl b178a3c gave for the same batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.objectives import CISPO, DAPO, GMPO, GRPO, GSPO, SAPO, VESPO, DrGRPO, Objective
from harness.objectives.credit import CreditConfig, Samples, advantages
from harness.objectives.penalties import kl_loss
from tests.objectives.batch import CENTRED, NEW, REFERENCE, REWARDS, loss_of

PPO = {"credit": "group_norm", "ratio": "token", "trust_region": "clip"}
# Row -> (objective, other inputs, loss, norm of the gradient, its entry at [0, 1]).
TRL = {
    "grpo, eps .2": (GRPO(), {}, 0.0373882986, 0.2009312173, -0.0401913938),
    "bnpo (token mean), eps .2": (Objective(**PPO), {}, -0.0057527761, 0.1899686304, -0.0378271941),
    "dapo, .2/.28": (DAPO(), {}, -0.0139021919, 0.1899686304, -0.0378271941),
    "dr_grpo, L_max 8": (
        *(DrGRPO(constant_length=8), {"advantages": CENTRED}),
        *(-0.0017647817, 0.0582767633, -0.0116042656),
    ),
    "gspo, 3e-4/4e-4": (GSPO(), {}, 0.0274442802, 0.1301442836, 0),
    "gspo, .2/.2": (GSPO(clip_low=0.2, clip_high=0.2), {}, 0.0230389490, 0.2282669033, -0.0548926332),
    "cispo, max 5": (CISPO(aggregation="token"), {}, -0.0000150117, 0.2200853087, -0.0378271941),
    "cispo, max 1.1": (CISPO(aggregation="token", ratio_max=1.1), {}, 0.0137439669, 0.2043544805, -0.0378271941),
    "sapo, tau 1 / 1.05": (SAPO(), {}, -0.0181919635, 0.2353232149, -0.0395333280),
    "luspo (sequence)": (
        *(Objective(ratio="sequence", trust_region="clip", aggregation="sequence_sum"), {}),
        *(-0.0807369630, 0.8974072428, -0.2195705327),
    ),
    "vespo": (VESPO(), {}, 0.0207504127, 0.2383532972, -0.0478786309),
    "grpo, delta 1.1": (
        *(GRPO(trust_region="two_sided", ratio_max=1.1), {}),
        *(0.0361488201, 0.1267030454, -0.0401913938),
    ),
    "grpo + .04 k3, plain": (
        *(GRPO(kl="k3", kl_coefficient=0.04), {}),
        *(0.0377739998, 0.2017411264, -0.0405223448),
    ),
    "grpo + .04 k3 x rho": (
        *(GRPO(kl="k3_ratio", kl_coefficient=0.04), {}),
        *(0.0378284029, 0.2019167396, -0.0404222202),
    ),
    "dapo + token truncate 1.02": (
        *(DAPO(correction="token_truncate", correction_high=1.02), {}),
        *(-0.0107537058, 0.1900808705, -0.0385837380),
    ),
    "dapo + token mask [.97, 1.03]": (
        *(DAPO(correction="token_mask", correction_low=0.97, correction_high=1.03), {}),
        *(0.0696680667, 0.1288611967, 0),
    ),
    "dapo + sequence truncate .98": (
        *(DAPO(correction="sequence_truncate", correction_high=0.98), {}),
        *(-0.0085459979, 0.1846919876, -0.0359153018),
    ),
    "dapo + sequence mask .98": (
        *(DAPO(correction="sequence_mask", correction_high=0.98), {}),
        *(0.1250167753, 0.1508257900, -0.0359153018),
    ),
    "dapo + off-policy mask, delta -.02": (
        *(DAPO(off_policy_limit=-0.02), {}),
        *(-0.1180221465, 0.1790864572, -0.0378271941),
    ),
    "dapo + off-policy mask, delta .03": (
        *(DAPO(off_policy_limit=0.03), {}),
        *(-0.0139021919, 0.1899686304, -0.0378271941),
    ),
    "on-policy, grpo": (GRPO(), {"old": NEW}, 0, 0.2287479449, -0.0541172144),
    "on-policy, dapo": (DAPO(), {"old": NEW}, -0.0509338488, 0.2100056386, -0.0509338488),
    "on-policy, dapo, A = 1, 0, 1, 0": (
        *(DAPO(), {"old": NEW, "advantages": REWARDS}),
        *(-0.5294117647, 0.1764705882, -0.0588235294),
    ),
}
VERL = {
    "vanilla token-mean, .2, dual clip 3": (
        *(Objective(ratio="token", trust_region="dual_clip"), {}),
        *(-0.0057527761, 0.1899686304, -0.0378271941),
    ),
    "vanilla token-mean, .2/.28, dual clip 1.1": (
        *(Objective(ratio="token", trust_region="dual_clip", clip_high=0.28, dual_clip=1.1), {}),
        *(-0.0452732088, 0.1405203505, -0.0378271941),
    ),
    "vanilla seq-mean-token-mean, .2": (
        *(GRPO(trust_region="dual_clip"), {}),
        *(0.0373882981, 0.2009312167, -0.0401913937),
    ),
    "vanilla seq-mean-token-sum, .2": (
        *(GRPO(trust_region="dual_clip", aggregation="sequence_sum"), {}),
        *(-0.0244492984, 0.8073666790, -0.1607655751),
    ),
    "gspo (token form), 3e-4/4e-4": (GSPO(ratio="sequence_token"), {}, 0.0274442797, 0.1301442834, 0),
    "gspo (token form), .2/.2": (
        *(GSPO(ratio="sequence_token", clip_low=0.2, clip_high=0.2), {}),
        *(0.0230389485, 0.2282669025, -0.0548926330),
    ),
    "cispo, [.8, 1.28], token-mean": (
        *(CISPO(aggregation="token", ratio_min=0.8, ratio_max=1.28), {}),
        *(0.0036996200, 0.2194006118, -0.0407470790),
    ),
    "geo_mean (GMPO), .4/.4": (GMPO(), {}, 0.0230389485, 0.2282669018, -0.0548926329),
    "geo_mean (GMPO), .1/.1": (
        *(GMPO(clip_low=0.1, clip_high=0.1), {}),
        *(0.0617046322, 0.1836103002, -0.0525068190),
    ),
}


@pytest.mark.parametrize(("library", "name"), [(lib, row) for lib in ("TRL", "VERL") for row in globals()[lib]])
def test_a_loss_and_its_gradient_are_the_librarys(library, name):
    objective, inputs, loss, norm, entry = globals()[library][name]
    found, gradient = loss_of(objective, **inputs)
    # verl adds 1e-8 to the length of a row, which moves the sequence rows by up to 1.6e-9.
    tolerance = 2e-9 if library == "VERL" else 1e-10
    assert found.item() == pytest.approx(loss, abs=tolerance)
    assert gradient.norm().item() == pytest.approx(norm, abs=tolerance)
    assert gradient[0, 1].item() == pytest.approx(entry, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [
        ("k1", -0.1243219937, 1),
        ("k2", 0.0077279791, -0.1243219937),
        ("k3", 0.0080584380, -0.1323804316),
        ("k3_k2", 0.0080584380, -0.1243219937),
    ],
)
def test_a_divergence_and_its_slope_are_verls(name, value, slope):
    policy = NEW.clone().requires_grad_(True)
    found = kl_loss(policy, REFERENCE, name)
    (gradient,) = torch.autograd.grad(found.sum(), policy)
    assert found[0, 1].item() == pytest.approx(value, abs=1e-10)
    assert gradient[0, 1].item() == pytest.approx(slope, abs=1e-10)


GROUPS = {"a": [1.0, 0.0, 0.0, 1.0], "b": [1.0, 1.0, 1.0], "c": [0.0, 0.0], "d": [0.9, 0.5, 0.2, 0.1]}
SAMPLES = Samples(
    rewards=np.array([reward for group in GROUPS.values() for reward in group]),
    groups=np.array([number for number, group in enumerate(GROUPS.values()) for _ in group]),
    lengths=np.array([4, 6, 5, 2, 3, 3, 3, 2, 2, 1, 2, 3, 4]),
    logps=np.zeros(13),
)


def spread(right, wrong, same, rest):
    """Credits of all 13 responses, of which those in groups of equal rewards are alike."""
    return [right, wrong, wrong, right, *[same] * 5, *rest]


VERL_CREDITS = {
    "group_norm": spread(0.866024, -0.866024, 0, [1.321652, 0.208682, -0.626046, -0.904288]),
    "mean": spread(0.5, -0.5, 0, [0.475, 0.075, -0.225, -0.325]),
    "passk_top1": spread(0, 0, 0, [1.112970, 0, 0, 0]),
    "rloo": spread(0.666667, -0.666667, 0, [0.633333, 0.1, -0.3, -0.433333]),
    "opo": spread(0.647059, -0.352941, 0, [0.61, 0.21, -0.09, -0.19]),
    "whiten": spread(1.719263, -1.164197, 0.277533, [1.647177, 0.493793, -0.371246, -0.659592]),
    "gpg": spread(0.722222, -0.722222, 0, [0.686111, 0.108333, -0.325, -0.469444]),
    "maxrl": spread(1, -1, 0, [1.117647, 0.176471, -0.529412, -0.764706]),
}


@pytest.mark.parametrize("name", VERL_CREDITS)
def test_a_credit_is_verls(name):
    found = advantages(name, SAMPLES, CreditConfig(credit_eps=1e-6))
    np.testing.assert_allclose(found, VERL_CREDITS[name], atol=6e-7)


@pytest.mark.parametrize(
    ("right", "for_right", "for_wrong"),
    [(3, 0.2773490212, -0.1664094127), (1, 0.9999980000, -0.1428568571), (6, 0, 0)],
)
def test_the_credit_of_pass_at_4_is_the_released_codes(right, for_right, for_wrong):
    rewards = np.array([1.0] * right + [0.0] * (8 - right))
    samples = Samples(rewards, np.zeros(8, dtype=int), np.ones(8, dtype=int), np.zeros(8))
    found = advantages("passk", samples, CreditConfig(pass_k=4))
    np.testing.assert_allclose(found[:right], for_right, atol=1e-10)
    np.testing.assert_allclose(found[right:], for_wrong, atol=1e-10)
