"""Weights that come in and go out one by one: files as transformers writes them, models as it opens them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from harness.errors import InputError
from harness.models import safetensors_file
from harness.models.safetensors_file import SafetensorsWriter
from harness.models.shards import fill, fill_shards
from harness.models.weights import load_causal_lm, load_reward_model, model_version, reward_head, save_checkpoint
from tests.conftest import build_tiny_model, build_tiny_tokenizer
from tests.paths import ROOT

SCRIPT = ROOT / "tests/modules/shard_memory.py"


@pytest.mark.parametrize(("tied", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
@pytest.mark.parametrize("largest", ["50GB", "20KB"])
def test_files_are_those_that_transformers_writes(tmp_path, monkeypatch, tiny_tokenizer, tied, dtype, largest):
    model = build_tiny_model(tied=tied).to(dtype)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=largest)
    monkeypatch.setattr(safetensors_file, "LARGEST_FILE", largest)
    save_checkpoint(model, tiny_tokenizer, tmp_path / "ours")
    files = [path.name for path in (tmp_path / "theirs").iterdir()]
    assert ("model.safetensors.index.json" in files) == (largest == "20KB")
    for name in files:
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes(), name


def test_what_is_not_written_or_is_of_another_shape_is_not_passed_over(tmp_path):
    shapes = {"a": torch.empty(2, device="meta"), "b": torch.empty(3, device="meta")}
    for tensor, message in ((torch.ones(2), "1 tensors were not written, such as b"), (torch.ones(3), "a is .*shape")):
        with pytest.raises(ValueError, match=message), SafetensorsWriter(tmp_path, shapes) as file:
            file.write("a", tensor)


@pytest.mark.parametrize("load", [load_causal_lm, load_reward_model])
def test_a_model_built_empty_and_then_filled_is_the_one_that_is_loaded(tiny_model_dir, load):
    expected, random = load(tiny_model_dir), torch.get_rng_state()
    model = load(tiny_model_dir, unfilled=True)
    assert any(parameter.is_meta for parameter in model.parameters())
    fill_shards(model, model.name_or_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert model_version(model) == model_version(expected)
    assert all(map(torch.equal, model.buffers(), expected.buffers()))
    assert model.training == expected.training
    assert str(model.config) == str(expected.config)
    if load is load_causal_lm:
        assert str(model.generation_config) == str(expected.generation_config)
        assert model.lm_head.weight is model.model.embed_tokens.weight
    else:
        assert not reward_head(model).weight.is_meta


def test_parameters_that_are_there_are_overwritten_in_place(tiny_model_dir):
    model = load_causal_lm(tiny_model_dir)
    version, known = model_version(model), list(model.parameters())
    with torch.no_grad():
        for parameter in known:
            parameter.add_(1)
    assert fill(model, str(tiny_model_dir)) == []
    assert model_version(model) == version
    assert all(new is old for new, old in zip(model.parameters(), known, strict=True))


def test_weights_that_are_lacking_or_do_not_fit_are_named(tmp_path, tiny_tokenizer):
    from safetensors.torch import load_file, save_file

    build_tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lacking = {name: tensor for name, tensor in weights.items() if "1.mlp.up_proj" not in name}
    save_file(lacking, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks weights of LlamaForCausalLM \(model.layers.1.mlp.up_proj"):
        fill_shards(load_causal_lm(tmp_path, unfilled=True), str(tmp_path))
    weights["model.norm.weight"] = torch.ones(3)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"'model\.norm\.weight' does not fit LlamaForCausalLM"):
        fill_shards(load_causal_lm(tmp_path, unfilled=True), str(tmp_path))


@pytest.mark.slow
def test_no_rank_holds_more_than_half_as_much_again_as_its_share_and_a_tensor(tmp_path):
    """109 M parameters on two ranks: 210 MiB each, the largest tensor 48 MiB."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = {"vocab_size": 16384, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 2048}
    config = LlamaConfig(**sizes, num_attention_heads=12, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    for name, model in (("model", AutoModelForCausalLM.from_config(config)), ("tiny", build_tiny_model())):
        model.save_pretrained(tmp_path / name)
        build_tiny_tokenizer().save_pretrained(tmp_path / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    common |= {"MALLOC_MMAP_THRESHOLD_": "65536"}  # memory that is given back leaves the process
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    ranks = [
        subprocess.Popen(command, env=os.environ | common | {"RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for rank in ranks:
        output = rank.communicate(timeout=280)[0]
        assert rank.returncode == 0, output
        found = json.loads(output.splitlines()[-1])
        for phase in ("load", "restart", "sync", "export"):
            held = found[phase] - found["before"]
            assert 0.9 * found["share"] < held < 1.5 * found["share"] + found["tensor"], (phase, found)
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "model_out" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
