"""Losses on random batches against the loss of an installed TRL, run on a stand-in for its trainer."""

from __future__ import annotations

import collections
import types

import pytest
import torch

from harness.objectives import CISPO, DAPO, GRPO, GSPO, SAPO, VESPO, DrGRPO, Objective
from tests.objectives.batch import loss_of

grpo_trainer = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")

ROWS = {
    "grpo": ({"loss_type": "grpo"}, GRPO()),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, DAPO()),
    "dr_grpo": ({"loss_type": "dr_grpo"}, DrGRPO(constant_length=16)),
    "gspo": ({"loss_type": "grpo", "importance_sampling_level": "sequence"}, GSPO(clip_low=0.2, clip_high=0.2)),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.3}, CISPO(ratio_max=1.3, aggregation="token")),
    "sapo": ({"loss_type": "sapo"}, SAPO()),
    "vespo": ({"loss_type": "vespo"}, VESPO()),
    "luspo": (
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
        Objective(ratio="sequence", trust_region="clip", aggregation="sequence_sum"),
    ),
    "two-sided": ({"loss_type": "grpo", "delta": 1.4}, GRPO(trust_region="two_sided", ratio_max=1.4)),
    "kl": ({"loss_type": "grpo", "beta": 0.04}, GRPO(kl="k3_ratio", kl_coefficient=0.04)),
    "off-policy mask": (
        {"loss_type": "dapo", "epsilon_high": 0.28, "off_policy_mask_threshold": 0.1},
        DAPO(off_policy_limit=0.1),
    ),
}
DEFAULTS = {
    "importance_sampling_level": "token", "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2, "delta": None,
    "off_policy_mask_threshold": None,
}  # fmt: skip


class OneProcess:
    num_processes = 1
    sync_gradients = True

    def gather(self, values, **_):
        return values

    gather_for_metrics = reduce = gather


def trl_loss(given, policy, old, engine, reference, mask, advantages):
    options = DEFAULTS | given
    policy = policy.clone().requires_grad_(True)
    trainer = grpo_trainer.GRPOTrainer
    stand_in = types.SimpleNamespace(
        args=types.SimpleNamespace(
            delta=options.pop("delta"), use_bias_correction_kl=True, steps_per_generation=1,
            sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, vespo_k_pos=2.0, vespo_lambda_pos=3.0,
            vespo_k_neg=3.0, vespo_lambda_neg=2.0,
        ),
        **options, get_off_policy_mask=trainer.get_off_policy_mask, get_gamma_weights=trainer.get_gamma_weights,
        top_entropy_quantile=1.0, aux_loss_enabled=False, _entropy_bonus_enabled=False, use_vllm=False,
        vllm_importance_sampling_correction=False, model=types.SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1, accelerator=OneProcess(), max_completion_length=16,
        _metrics={"train": collections.defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (policy, torch.zeros_like(policy), None),
    )  # fmt: skip
    size = len(policy)
    inputs = {
        "prompt_ids": torch.zeros(size, 1, dtype=torch.long), "prompt_mask": torch.ones(size, 1),
        "completion_ids": torch.zeros_like(policy, dtype=torch.long), "completion_mask": mask.double(),
        "advantages": advantages, "old_per_token_logps": old, "sampling_per_token_logps": engine,
        "ref_per_token_logps": reference, "num_items_in_batch": mask.double().sum(),
    }  # fmt: skip
    loss = trainer._compute_loss(stand_in, None, inputs)
    loss.backward()
    return loss.detach(), policy.grad


@pytest.fixture
def double_by_default():
    """TRL makes the temperatures of SAPO and VESPO in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("double_by_default")
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("seed", range(5))
def test_a_loss_on_random_tensors_is_trls(name, seed):
    given, objective = ROWS[name]
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows, width = 6, 9
    policy = -random(rows, width).abs()
    batch = {
        "policy": policy, "old": policy + 0.3 * random(rows, width), "engine": policy + 0.3 * random(rows, width),
        "reference": policy + 0.3 * random(rows, width), "advantages": random(rows),
        "mask": torch.arange(width) < torch.randint(1, width + 1, (rows, 1), generator=generator),
    }  # fmt: skip
    found, gradient = loss_of(objective, **batch)
    expected, slopes = trl_loss(given, **batch)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, slopes * batch["mask"], atol=1e-12, rtol=0)
