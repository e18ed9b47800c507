"""What is wrong with a checkpoint is said at once, with its path."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import torch

from harness.engines import EngineConfig, EngineError, open_engine
from harness.engines.weights import WeightLayout, checkpoint_version
from harness.errors import InputError
from harness.models.checkpoints import resolve_checkpoint, stored_dtype
from harness.models.weights import fingerprint, named_weights
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
    assert checkpoint_version(tmp_path) == fingerprint(named_weights(model))


def test_a_sync_gets_every_weight_tied_ones_written_out():
    model = build_model(tied=True)
    layout = WeightLayout.of(model)
    complete = dict(layout.complete(model.named_parameters()))
    assert complete.keys() == model.state_dict().keys()
    assert complete["lm_head.weight"] is complete["model.embed_tokens.weight"]


def test_a_sync_with_wrong_names_or_shapes_is_refused():
    model = build_model(tied=False)
    layout, good = WeightLayout.of(model), list(model.state_dict().items())
    assert layout.complete(good) == good
    name, tensor = good[3]
    for weights, words in (
        ([*good, (name, tensor)], f"'{name}' was given twice"),
        ([*good, ("model.extra", tensor)], "the model has no parameter 'model.extra'"),
        ([*good[:3], *good[4:]], f"1 parameters are missing, such as '{name}'"),
        ([*good[:3], (name, tensor[1:]), *good[4:]], f"'{name}' has shape"),
        ([pair for pair in good if pair[0] != "lm_head.weight"], "missing, such as 'lm_head.weight'"),
    ):
        with pytest.raises(EngineError, match=words):
            layout.complete(weights)
