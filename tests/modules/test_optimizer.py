"""Learning rates by hand, and which weights are decayed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.modules import SFTModule
from harness.modules.optimizer import OptimizerConfig, build_optimizer, build_schedule, lr_factor, moment_bytes


def factors(config, steps, length):
    return [lr_factor(config, step, length) for step in range(steps)]


def test_linear_schedule_with_warm_up():
    config = OptimizerConfig(schedule="linear", warmup_steps=2)
    assert factors(config, 7, 6) == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])


def test_cosine_schedule_falls_to_its_floor():
    config = OptimizerConfig(schedule="cosine", min_lr_ratio=0.1)
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2
    assert factors(config, 6, 4) == pytest.approx(
        [1.0, middle, 0.55, 0.1 + 0.9 * (1 - math.cos(math.pi / 4)) / 2, 0.1, 0.1]
    )


def test_a_cycle_starts_the_schedule_anew_warm_up_included():
    config = OptimizerConfig(schedule="linear", warmup_ratio=0.25, cycle_steps=4)
    cycle = [1.0, 1.0, 2 / 3, 1 / 3]
    assert factors(config, 8, 4) == pytest.approx(cycle + cycle)


def test_a_constant_schedule_needs_no_length():
    assert factors(OptimizerConfig(warmup_steps=4), 6, None) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_schedule_takes_its_length_from_the_trainer_or_refuses():
    module = nn.Linear(2, 2)
    config = OptimizerConfig(lr=1.0, schedule="linear")
    optimizer = build_optimizer(config, module)
    schedule = build_schedule(config, optimizer, max_steps=4)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.75)
    for bad in (config, OptimizerConfig(warmup_ratio=0.1)):
        with pytest.raises(InputError, match="needs its length"):
            build_schedule(bad, build_optimizer(bad, module), max_steps=-1)


def test_only_matrices_are_decayed():
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    decayed, other = build_optimizer(OptimizerConfig(weight_decay=0.1), module).param_groups
    assert (decayed["weight_decay"], other["weight_decay"]) == (0.1, 0.0)
    assert [p.shape for p in decayed["params"]] == [torch.Size([2, 3])]
    assert len(other["params"]) == 3


def test_frozen_weights_are_left_out():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    (group,) = build_optimizer(OptimizerConfig(name="rmsprop"), module).param_groups
    assert len(group["params"]) == 1


def test_the_fused_step_equals_the_plain_one():
    found = []
    for fused in (True, False):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        optimizer = build_optimizer(OptimizerConfig(lr=1e-2, weight_decay=0.1), module, fused)
        assert optimizer.defaults["fused"] is fused
        for _ in range(5):
            module(torch.randn(3, 8)).square().sum().backward()
            optimizer.step()
        found.append([p.detach() for p in module.parameters()])
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-6)


def trained(optimizer_of, start=None, steps=range(60)):
    """Loss and optimizer of a small network after steps of regression, from a state of both if one is given."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64), nn.LayerNorm(64))
    optimizer = optimizer_of(module)
    if start is not None:
        module.load_state_dict(start[0])
        optimizer.load_state_dict(start[1])
    for step in steps:
        batch = torch.randn(16, 64, generator=torch.Generator().manual_seed(step))
        loss = (module(batch) - batch.flip(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), module, optimizer


def eight_bits(module):
    return build_optimizer(OptimizerConfig(name="adamw_8bit", lr=1e-2, weight_decay=0.1), module)


def test_moments_of_eight_bits_take_a_quarter_and_train_as_those_of_float32():
    pytest.importorskip("bitsandbytes")
    whole, _, _ = trained(lambda module: build_optimizer(OptimizerConfig(lr=1e-2, weight_decay=0.1), module))
    loss, module, optimizer = trained(eight_bits)
    untrained, _, _ = trained(eight_bits, steps=range(1))
    assert whole < 0.6 * untrained
    assert loss == pytest.approx(whole, rel=0.02)
    for weight in module.parameters():
        kept = {name: value for name, value in optimizer.state[weight].items() if name.startswith(("state", "absmax"))}
        found = sum(value.numel() * value.element_size() for value in kept.values())
        assert found == moment_bytes("adamw_8bit", weight), weight.shape
    matrix = module[0].weight
    assert moment_bytes("adamw_8bit", matrix) / moment_bytes("adamw", matrix) == pytest.approx(0.25, abs=0.005)


def test_training_with_eight_bits_goes_on_from_a_file_as_if_unbroken(tmp_path):
    pytest.importorskip("bitsandbytes")
    _, expected, _ = trained(eight_bits, steps=range(20))
    _, module, optimizer = trained(eight_bits, steps=range(10))
    torch.save((module.state_dict(), optimizer.state_dict()), tmp_path / "half.pt")
    _, resumed, _ = trained(eight_bits, torch.load(tmp_path / "half.pt"), range(10, 20))
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_sharded_weights_are_refused_moments_of_eight_bits(tiny_model_dir):
    module = SFTModule(str(tiny_model_dir), optimizer=OptimizerConfig(name="adamw_8bit"))
    module._device_mesh = object()
    with pytest.raises(InputError, match="cannot be sharded; take adamw, or train with one device or ddp"):
        module.configure_model()
    assert module.model is None
