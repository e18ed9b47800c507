"""Low-rank updates beside a base in four bits."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.datamodules import SFTDataModule
from harness.engines import EngineConfig, open_engine, verify_sync
from harness.engines.weights import checkpoint_version
from harness.models.four_bits import in_four_bits, packed_layers, whole_weight
from harness.models.weights import load_causal_lm, model_version, named_weights
from harness.modules import SFTModule
from harness.modules.base import LoRAConfig
from harness.modules.optimizer import OptimizerConfig
from tests.engines.conftest import build_model, save

pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return save(build_model(tied=True), tmp_path_factory.mktemp("four_bits"))


def module(model_dir):
    return SFTModule(str(model_dir), lora=LoRAConfig(rank=4, four_bits=True), optimizer=OptimizerConfig(lr=1e-2))


def test_weights_are_packed_to_the_values_of_nf4(model_dir):
    from bitsandbytes.functional import get_4bit_type

    model = load_causal_lm(model_dir)
    before = {name: weight.clone() for name, weight in named_weights(model)}
    packed = packed_layers(in_four_bits(model).to("cpu"))
    assert {name.rpartition(".")[2] for name in packed} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"
    }, "down_proj has 96 inputs"  # fmt: skip
    assert all(layer.weight.dtype == torch.uint8 for layer in packed.values())
    levels = get_4bit_type("nf4", device="cpu")
    for name, layer in packed.items():
        original, found = before[f"{name}.weight"].flatten(), whole_weight(layer).flatten()
        for start in range(0, len(original), 64):  # blocks of 64 share a scale, their largest value
            block, values = original[start : start + 64], found[start : start + 64]
            nearest = levels[(block[:, None] / block.abs().max() - levels).abs().argmin(1)]
            torch.testing.assert_close(values / values.abs().max(), nearest)
            torch.testing.assert_close(values.abs().max(), block.abs().max(), rtol=0.2, atol=0)  # itself of eight bits


def test_what_was_trained_is_exported_whole_sampled_from_and_gone_on_with(tmp_path, trainer, model_dir, sum_files):
    data = SFTDataModule([sum_files[0]], batch_size=8, max_length=64)
    trained, whole = module(model_dir), trainer(max_epochs=2)
    whole.fit(trained, data)
    assert all("lora_" in name for name, p in trained.named_parameters() if p.requires_grad)
    trained.export(tmp_path / "hf")
    assert not (tmp_path / "hf/adapter").exists()
    assert "quantization_config" not in (tmp_path / "hf/config.json").read_text()
    plain = load_causal_lm(tmp_path / "hf").eval()
    assert model_version(plain) == model_version(trained.model) == checkpoint_version(tmp_path / "hf")
    ids = torch.randint(2, 80, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = plain(input_ids=ids).logits
        torch.testing.assert_close(trained.model.eval()(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)

    engine = open_engine(model_dir, EngineConfig(kind="transformers"))
    engine.sync(named_weights(trained.model), model_version(trained.model))
    verify_sync(engine, trained.model, [[5, 6, 7]], model_version(trained.model))
    engine.close()

    half = trainer(max_epochs=1)
    half.fit(module(model_dir), data)
    half.save_checkpoint(tmp_path / "half.ckpt")
    stored = torch.load(tmp_path / "half.ckpt", weights_only=False)["state_dict"]
    assert not any("q_proj.base_layer.weight" in name for name in stored)
    resumed = module(model_dir)
    trainer(max_epochs=2).fit(resumed, data, ckpt_path=tmp_path / "half.ckpt")
    assert model_version(resumed.model) == model_version(trained.model)


def test_a_checkpoint_of_another_model_is_refused(tmp_path, trainer, model_dir, sum_files):
    data = SFTDataModule([sum_files[0]], batch_size=8, max_length=64)
    fit = trainer()
    fit.fit(module(model_dir), data)
    own = module(model_dir)
    own.trainer = fit
    own.configure_model()
    state = copy.copy(own.state_dict())
    state.popitem()
    with pytest.raises(Exception, match="lacks weights or has too many"):
        own.load_state_dict(state)
