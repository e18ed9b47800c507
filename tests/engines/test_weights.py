"""What is wrong with a checkpoint is said at once, with its path."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from harness.engines import EngineConfig, EngineError, open_engine
from harness.engines.weights import WeightLayout, checkpoint_version
from harness.errors import InputError
from harness.models.checkpoints import resolve_checkpoint, stored_dtype
from harness.models.weights import fingerprint, model_version, named_weights
from tests.engines.conftest import build_model, build_tokenizer, save


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


@pytest.mark.parametrize("kind", ["transformers", "vllm", "auto"])
def test_a_missing_checkpoint_is_refused_at_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    start = time.monotonic()
    for name in (str(tmp_path / "none"), "runs/sft", "./none", "none"):
        with pytest.raises(InputError, match=f"{name}: no such directory"):
            open_engine(name, EngineConfig(kind=kind))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("removed", "words"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights"), ("tokenizer.json", "no tokenizer")],
)
def test_an_incomplete_checkpoint_is_refused_with_its_path(copy: Path, removed: str, words: str):
    (copy / removed).unlink()
    with pytest.raises(InputError, match=f"{copy}: {words}"):
        resolve_checkpoint(copy)


def test_a_tokenizer_without_eos_is_refused(copy: Path):
    tokenizer = build_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(copy)
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config["eos_token"] = None
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"{copy}: the tokenizer has no EOS token"):
        open_engine(copy, EngineConfig(kind="transformers"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_version_of_a_checkpoint_is_that_of_the_model_saved_to_it(tied: bool, dtype: torch.dtype, tmp_path: Path):
    model = build_model(tied, seed=3).to(dtype)
    save(model, tmp_path)
    assert stored_dtype(tmp_path) == str(dtype).removeprefix("torch.")
    assert checkpoint_version(tmp_path) == model_version(model) == fingerprint(named_weights(model))


def test_a_sync_gets_the_weights_as_they_are_stored_tied_ones_left_out():
    model = build_model(tied=True)
    layout = WeightLayout.of(model)
    stored = dict(layout.stored(named_weights(model)))
    assert stored.keys() == model.state_dict().keys() - {"lm_head.weight"}
    assert dict(layout.stored(model.named_parameters())).keys() == stored.keys()


def test_a_sync_with_wrong_names_or_shapes_is_refused():
    model = build_model(tied=False)
    layout, good = WeightLayout.of(model), list(model.state_dict().items())
    assert list(layout.checked(good)) == good
    name, tensor = good[3]
    for weights, words in (
        ([*good, (name, tensor)], f"'{name}' was given twice"),
        ([*good, ("model.extra", tensor)], "the model has no parameter 'model.extra'"),
        ([*good[:3], *good[4:]], f"1 parameters are missing, such as '{name}'"),
        ([*good[:3], (name, tensor[1:]), *good[4:]], f"'{name}' has shape"),
        ([pair for pair in good if pair[0] != "lm_head.weight"], "missing, such as 'lm_head.weight'"),
    ):
        with pytest.raises(EngineError, match=words):
            list(layout.checked(weights))


def test_weights_are_read_one_block_at_a_time():
    """A sharded model's weights are gathered one by one, and never all in memory."""
    model = build_model(tied=False)
    read: list[str] = []

    def weights():
        for name, tensor in model.state_dict().items():
            read.append(name)
            yield name, tensor

    for name, _ in WeightLayout.of(model).stored(weights()):
        ahead = [other for other in read[read.index(name) + 1 :] if ".layers.0." not in other or ".layers.0." in name]
        assert len(ahead) <= 12  # the rest of its block, and the first of the next


def test_experts_are_stored_one_by_one_and_the_version_is_that_of_the_stored_form(tmp_path: Path):
    from transformers import MixtralConfig, MixtralForCausalLM

    tokenizer = build_tokenizer()
    config = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=2, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = save_and_return(MixtralForCausalLM(config), tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        on_disk = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored = dict(WeightLayout.of_checkpoint(tmp_path).stored(named_weights(model)))
    assert "model.layers.1.block_sparse_moe.experts.2.w3.weight" in stored
    assert stored.keys() == on_disk.keys()
    assert all(torch.equal(tensor, on_disk[name]) for name, tensor in stored.items())
    assert checkpoint_version(tmp_path) == model_version(model)


def save_and_return(model: Any, path: Path) -> Any:
    save(model, path)
    return model
