"""The bytes of a training step, told from shapes alone, against those of a real step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from harness.callbacks.ledger import held_beside
from harness.engines import EngineConfig
from harness.engines.memory import CONTEXT, USABLE, share_beside
from harness.errors import InputError
from harness.modules import DPOModule, RewardModule, SFTModule
from harness.modules.base import LoRAConfig
from harness.modules.footprint import _Live, _loss, footprint
from harness.modules.optimizer import build_optimizer
from harness.rewards import ArithmeticSteps, RewardModel, WeightedSum

ROWS, LENGTH = 3, 24


@pytest.fixture(scope="module")
def gpt2_dir(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_embd=32, n_layer=3, n_head=4, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SFTModule, {}),
        (SFTModule, {"gradient_checkpointing": True}),
        (SFTModule, {"gradient_checkpointing": 2}),
        (SFTModule, {"lora": LoRAConfig(rank=4)}),
        (DPOModule, {"reference": "frozen"}),
        (RewardModule, {}),
        (RewardModule, {"likelihood": "mean"}),
    ],
)
@pytest.mark.parametrize("model", ["tiny_model_dir", "gpt2_dir"])
def test_a_step_without_weights_takes_what_a_real_one_takes(request, model, kind, options):
    checkpoint = str(request.getfixturevalue(model))
    found = footprint(kind(checkpoint, **options), ROWS, LENGTH)

    real = kind(checkpoint, **options)
    real.configure_model()
    weights = list(real.model.parameters())
    trained = [weight for weight in weights if weight.requires_grad]
    optimizer = build_optimizer(real.optimizer_config, real.model)
    with _Live() as live:
        for tensor in real.model.state_dict(keep_vars=True).values():
            live.add(tensor)
        live.start(trained)
        _loss(real, ROWS * (1 if kind is SFTModule else 2), LENGTH).backward()
    optimizer.step()
    assert found.num_parameters == sum(weight.numel() for weight in weights)
    assert found.weights == sum(weight.numel() * 4 for weight in weights)
    assert found.gradients == sum(weight.grad.numel() * 4 for weight in trained)
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert found.moments == sum(moment.numel() * 4 for moment in moments)
    assert found.frozen == (found.weights if "reference" in options else 0)
    assert found.step == pytest.approx(live.most, rel=0.02)
    assert found.activations == pytest.approx(live.most_beside, rel=0.02)
    # What a rank reads off the model that it trains.
    module = SimpleNamespace(
        model=real.model, optimizer_config=real.optimizer_config, checkpoint=checkpoint,
        _reference_model=getattr(real, "_reference_model", []),
    )  # fmt: skip
    assert held_beside(module, EngineConfig(dtype="bfloat16"), None) == (found.resting, 2 * found.num_parameters)


def test_a_reward_model_counts_wherever_it_is_and_the_rest_is_the_engines(tiny_model_dir):
    module = SFTModule(str(tiny_model_dir))
    module.configure_model()
    alone, _ = held_beside(module, EngineConfig(), ArithmeticSteps())
    reward = WeightedSum(RewardModel(str(tiny_model_dir), template="plain", dtype="bfloat16"))
    both, engine = held_beside(module, EngineConfig(dtype="float32"), reward)
    scorer = RewardModule(str(tiny_model_dir)).build_model()
    assert both - alone == sum(2 * weight.numel() for weight in scorer.parameters())
    assert engine == sum(4 * weight.numel() for weight in module.model.parameters())
    total = 80 * 10**9
    assert share_beside(total, 20 * 10**9, 15 * 10**9) == pytest.approx(USABLE - (20e9 + CONTEXT) / total)
    with pytest.raises(
        InputError, match=r"of 80\.0 GB the trainer and the reward model take 60\.0 GB.*weights 15\.0 GB"
    ):
        share_beside(total, 60 * 10**9, 15 * 10**9)


def test_bfloat16_halves_weights_and_keeps_the_module_as_it_was(tiny_model_dir):
    module = SFTModule(str(tiny_model_dir))
    whole, half, mixed = (footprint(module, ROWS, LENGTH, p) for p in ("32-true", "bf16-true", "bf16-mixed"))
    assert (half.weights, half.moments) == (whole.weights // 2, whole.moments // 2)
    assert (mixed.weights, mixed.moments) == (whole.weights, whole.moments)
    assert half.activations < mixed.activations
    assert module.model is None
    module.configure_model()
    assert all(
        type(weight) is torch.nn.Parameter and weight.device.type == "cpu" for weight in module.model.parameters()
    )
