"""Shared prefixes, of pairs and of groups, together with the settings that change how a model computes."""

from __future__ import annotations

import json

import pytest
import torch

from harness.datamodules import PreferenceDataModule
from harness.errors import InputError
from harness.modules import DPOModule, RewardModule
from harness.modules.optimizer import OptimizerConfig
from tests.modules.test_sft import Gradients


@pytest.fixture
def fit(monkeypatch, tmp_path, trainer, tiny_model_dir):
    """Trains on 2 x 3 pairs of each of two prompts, validates, and gives the last gradients and the metrics."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = [
        {"prompt": f"what is the value of 1+{p}?", "chosen": "4" + "." * r, "rejected": f"5{w}", "weight": 1 / 6}
        for p in range(2)
        for r in range(2)
        for w in range(3)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(build, group="none", share_prefix=True, precision="32-true", train=True, **options):
        found = Gradients()
        module = build(str(tiny_model_dir), share_prefix=share_prefix, optimizer=OptimizerConfig(lr=0.0), **options)
        size = 2 if group == "prompt" else 12
        data = PreferenceDataModule([str(file)], [str(file)], batch_size=size, max_length=64, group=group)
        loop = trainer(precision=precision, callbacks=[found])
        if not train:
            loop.validate(module, data, verbose=False)
            return None, loop.callback_metrics["val/loss"].item(), module
        loop.fit(module, data)
        gradient = torch.cat([grad.flatten() for grad in found.steps[-1].values()])
        return gradient, loop.callback_metrics["val/loss"].item(), module

    return run


def hybrid(checkpoint, **options):
    return RewardModule(checkpoint, likelihood="mean", **options)


BUILDS = pytest.mark.parametrize("build", [RewardModule, hybrid, DPOModule])
GROUPS = pytest.mark.parametrize("group", ["none", "prompt"])


@BUILDS
@GROUPS
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bf16_mixed(fit, build, group, attention):
    """No further from float32 than plain sequences are, up to a factor; every weight has its gradient in float32."""
    exact, loss, _ = fit(build, share_prefix=False)
    plain, _, _ = fit(build, share_prefix=False, precision="bf16-mixed", attn_implementation=attention)
    shared, value, _ = fit(build, group, precision="bf16-mixed", attn_implementation=attention)
    assert shared.dtype == torch.float32
    assert value == pytest.approx(loss, abs=5e-3)
    error, plain_error = ((gradient - exact).norm() / exact.norm() for gradient in (shared, plain))
    assert 0 < error < max(2 * plain_error, 0.01)


@BUILDS
@GROUPS
def test_gradient_checkpointing(fit, build, group):
    stored, recomputed = (fit(build, group, gradient_checkpointing=on) for on in (False, True))
    assert recomputed[2].model.is_gradient_checkpointing
    torch.testing.assert_close(recomputed[0], stored[0], atol=1e-7, rtol=1e-5)
    assert recomputed[1] == pytest.approx(stored[1], abs=1e-7)


@pytest.mark.slow
@GROUPS
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_compiled_layers(fit, group, attention):
    options = {"attn_implementation": attention}
    (expected, loss, _), (found, value, module) = (fit(hybrid, group, compile=on, **options) for on in (False, True))
    assert all(block._compiled_call_impl is not None for block in module.model.model.layers)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    assert value == pytest.approx(loss, abs=1e-5)


@pytest.mark.slow
@GROUPS
def test_flex_attention_gives_the_values_of_others(fit, group):
    """Compiled on the CPU; values alone, as torch has no backward pass of it there."""
    (_, expected, _), (_, value, module) = (
        fit(hybrid, group, attn_implementation=name, train=False) for name in ("sdpa", "flex_attention")
    )
    assert module.model.config._attn_implementation == "flex_attention"
    assert value == pytest.approx(expected, abs=1e-6)


def test_training_with_flex_attention_on_a_cpu_is_refused(fit):
    with pytest.raises(InputError, match="flex_attention has no backward pass on CPUs"):
        fit(hybrid, attn_implementation="flex_attention")
